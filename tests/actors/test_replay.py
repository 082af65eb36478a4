"""Recorded trades through a whole pair: equal to their files, their faults named."""

from __future__ import annotations

import csv
import gzip
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.spec import PairSpec, ReplaySource
from analytics import market_state
from analytics.params import AnalyticsParams
from market.ticks import TICK
from market.times import NS_PER_S
from tests.actors.pair_support import PAIR, QUICK, Tables, candles, tables, working
from tests.analytics import anomaly_reference
from tests.analytics.worlds import reference_candles, same_candles
from tests.recordings import HERE, trades
from tests.support import eventually

BTC = PAIR.symbol
PAST = 20
RECORDED = HERE / "binance_spot_btcusdt_20260216.csv.gz"


def replaying(folder: Path, *files: Path, speed: float = 0.0) -> PairSpec:
    engine = replace(QUICK, timeframes_s=(60, 300))
    params = AnalyticsParams(state=market_state.Params(step_ns=60 * NS_PER_S))
    return PairSpec(PAIR, PAIR.key, folder, ReplaySource(files, speed), engine, params=params)


async def replay(folder: Path, *files: Path) -> Tables:
    async with working(replaying(folder, *files)) as service:
        await eventually(lambda: service.status().get("finished"), timeout_s=30)
    return tables(folder)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    with gzip.open(RECORDED, "rt") as lines:
        return list(csv.DictReader(lines))


async def test_a_replay_equals_its_file(tmp_path: Path) -> None:
    read, seen = await replay(tmp_path, RECORDED), trades(RECORDED)
    assert [(row[1], row[2], row[3], row[5], row[6]) for row in read["ticks"]] == [
        (ts, price, size, str(i), ts) for i, ts, price, size, _, _ in seen.tolist()
    ]
    until_ns = int(seen["ts_ns"].max())
    assert same_candles(candles(read, 60), reference_candles(seen, 60 * NS_PER_S, until_ns))
    assert not read["data_gaps"]
    assert not read["rejected"]


async def test_the_candle_that_is_shown_is_of_a_minute_whatever_else_is_kept(tmp_path: Path) -> None:
    quick = replace(replaying(tmp_path, RECORDED), engine=replace(QUICK, timeframes_s=(5, 60, 300)))
    async with working(quick) as service:
        await eventually(lambda: service.status().get("finished"), timeout_s=30)
        shown = service.status()["last_candle"]
    assert shown == candles(tables(tmp_path), 60)[-1]._asdict()


async def test_outliers_are_counted_as_plain_windows_find_them(
    tmp_path: Path, recorded: list[dict[str, Any]]
) -> None:
    rows = [dict(row) for row in recorded[:700]]
    rows[300]["price"] = str(1.01 * float(rows[300]["price"]))
    rows[500]["size"] = str(1e3 * max(float(row["size"]) for row in rows))
    file = write(tmp_path / "trades.csv", rows)
    async with working(replace(replaying(tmp_path / "pair", file), tick_size=0.01)) as service:
        await eventually(lambda: service.status().get("finished"), timeout_s=30)
        counted = [service.status()[name] for name in ("price_outliers", "size_outliers")]
    ticks = np.zeros(len(rows), TICK)
    for name in ("price", "size"):
        ticks[name] = [float(row[name]) for row in rows]
    assert counted == [sum(flags) for flags in anomaly_reference.flags(ticks, 0.01)]
    assert min(counted) > 0


async def test_a_replay_in_parts_in_any_order_and_twice(
    tmp_path: Path, recorded: list[dict[str, Any]]
) -> None:
    parts = [
        write(tmp_path / "part1.csv", recorded[:3_000]),
        write(tmp_path / "part10.csv", recorded[6_000:9_000]),
        write(tmp_path / "part2.csv", recorded[2_900:6_000]),
    ]
    first = await replay(tmp_path / "pair", *parts)
    assert [row[5] for row in first["ticks"]] == [row["trade_id"] for row in recorded[:9_000]]
    assert not first["data_gaps"]
    again = await replay(tmp_path / "pair", *parts)
    assert again["ticks"] == first["ticks"]
    assert again["candles_1m"] == first["candles_1m"]


async def test_a_hole_and_bad_rows_of_a_file_are_named(
    tmp_path: Path, recorded: list[dict[str, Any]]
) -> None:
    rows = [dict(row) for row in recorded[:2_000] if not 500 <= recorded.index(row) < 510]
    rows[700]["price"] = "-1"
    rows[800]["price"] = "dear"
    rows[900]["ts_event_ns"] = "12"
    rows[1_000]["trade_id"] = "none"
    rows[1_100]["size"] = "inf"
    bad = [700, 800, 900, 1_000, 1_100]
    read = await replay(tmp_path / "pair", write(tmp_path / "trades.csv", rows))
    good = [row for k, row in enumerate(rows) if k not in bad]
    assert [row[5] for row in read["ticks"]] == [row["trade_id"] for row in good]
    first = int(recorded[0]["trade_id"])
    missing = [(500, 509), *((k + 10, k + 10) for k in bad)]
    assert [(row[1] - first, row[2] - first, row[6], row[8]) for row in read["data_gaps"]] == [
        (a, b, "UNFILLABLE", 0) for a, b in missing
    ]
    assert len(read["rejected"]) == len(bad)
    assert any(b"dear" in row[2] for row in read["rejected"])


async def test_a_replay_at_a_pace_takes_its_time(tmp_path: Path, recorded: list[dict[str, Any]]) -> None:
    file = write(tmp_path / "trades.csv", recorded[:500])
    span_s = (int(recorded[499]["ts_event_ns"]) - int(recorded[0]["ts_event_ns"])) / NS_PER_S
    async with working(replaying(tmp_path / "pair", file, speed=span_s / 1.0)) as service:
        await eventually(lambda: service.engine)
        began = time.monotonic()
        await eventually(lambda: service.status().get("finished"), timeout_s=30)
        assert 0.8 < time.monotonic() - began < 10
    assert len(tables(tmp_path / "pair")["ticks"]) == 500


async def test_a_long_silence_in_a_replay_is_crossed_in_bounded_steps(
    tmp_path: Path, recorded: list[dict[str, Any]]
) -> None:
    rows = [dict(row) for row in recorded[:20]]
    for row in rows[10:]:
        row["ts_event_ns"] = str(int(row["ts_event_ns"]) + 5 * 86_400 * NS_PER_S)
    read = await replay(tmp_path / "pair", write(tmp_path / "trades.csv", rows))
    assert len(read["candles_1m"]) == 5 * 1_440
    assert np.all([row[9] == 0 for row in read["candles_1m"][1:]])


async def test_a_file_that_is_no_trade_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "trades.csv").write_text("a,b\n1,2\n")
    async with working(replaying(tmp_path / "pair", tmp_path / "trades.csv")) as service:
        await eventually(lambda: service.failure, timeout_s=20)
        assert "trades.csv" in service.failure
        assert "trade_id" in service.failure
        assert "\n" not in service.failure
