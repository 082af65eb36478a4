"""A pair's record survives kills, lost and foreign files, and is the same whoever folds it."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import aiohttp
import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import recovery
from actors.recovery import open_pair
from actors.spec import EngineSpec
from feeds.sim.exchange import SimExchange
from feeds.sim.faults import Drop, Duplicate, Fault, RestLag, RestStatus, Skip, Swap
from feeds.sim.history import GeneratedHistory
from market.errors import Fatal, UsageError
from market.inputs import Clock, TickBatch
from market.pairs import Pair
from market.ticks import TICK, Ticks
from market.times import NS_PER_S
from storage.journal import read, segments
from storage.schema import SCHEMA_VERSION
from tests.actors.pair_support import PAIR, QUICK, ByHand, Nursery, Tables, candles, events, flow, tables
from tests.analytics.worlds import reference_candles, reference_flow, same_candles, same_flow, splits, ticks
from tests.support import eventually

KILLS = 22
SYMBOL = PAIR.symbol


def trouble(sim: SimExchange, rng: random.Random) -> None:
    """Let something of what venues do go wrong within the next trades."""
    at = sim.listings[SYMBOL].last_id + rng.randint(5, 60)
    faults: list[Fault] = [
        Skip(SYMBOL, at, at + rng.randint(0, 20)),
        Swap(SYMBOL, at),
        Duplicate(SYMBOL, at),
        Drop(SYMBOL, at_id=at),
        RestStatus(502, count=2),
        RestLag(seconds=0.3),
        RestLag(seconds=0.0),
    ]
    sim.inject(rng.choice(faults))


async def live_through_kills(folder: Path) -> Ticks:
    """Kill a pair again and again, then let it end well; return the venue's trades up to its last."""
    rng, sim = random.Random(5), SimExchange({SYMBOL: GeneratedHistory(SYMBOL, 7, 150.0, time.time_ns())})
    await sim.start()
    with Nursery() as nursery:
        for number in range(KILLS + 1):
            last = number == KILLS
            pid = await asyncio.to_thread(nursery.start, folder, sim.ws_url, sim.rest_url)
            trouble(sim, rng)
            if last:
                sim.inject(RestLag(seconds=0.0))
                sim.inject(RestStatus(502, count=2))  # live goes on, and what was missed comes late
            if last or number % 3:  # else it is killed as it recovers
                await eventually(lambda: sim.hub.connections)
            if last:
                beyond_trouble = partial(is_filled_late, folder, sim.listings[SYMBOL].last_id + 400)
                await eventually(beyond_trouble, 30.0)
            else:
                await asyncio.sleep(rng.uniform(0.02, 0.5))
            await asyncio.to_thread(nursery.end, pid, signal.SIGTERM if last else signal.SIGKILL)
    venue = await true_trades(sim)
    await sim.stop()
    return venue


def is_filled_late(folder: Path, beyond: int) -> bool:
    """Tell whether a journal that goes so far lacks no trade, and has one that came behind a later one."""
    inputs = [item for record in read(segments(folder / "journal")) for item in record.inputs]
    ids = np.concatenate([x.ticks["trade_id"] for x in inputs if isinstance(x, TickBatch)])
    return ids.max() > beyond and len(ids) == np.ptp(ids) + 1 and bool((np.diff(ids) < 0).any())


async def true_trades(sim: SimExchange) -> Ticks:
    async with aiohttp.ClientSession() as http:
        url, query = f"{sim.rest_url}/sim/trades", {"symbol": SYMBOL, "limit": "100000"}
        async with http.get(url, params=query) as reply:
            rows = await reply.json()
    made = [
        (
            r["id"],
            r["time"] * 1_000_000,
            float(r["price"]),
            float(r["qty"]),
            0,
            -1 if r["isBuyerMaker"] else 1,
        )
        for r in rows
    ]
    return np.array(made, TICK)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ticks]]:
    folder = tmp_path_factory.mktemp("killed") / "pair"
    venue = asyncio.run(live_through_kills(folder))
    yield folder, venue
    shutil.rmtree(folder)


@pytest.fixture
def folder(killed: tuple[Path, Ticks], tmp_path: Path) -> Path:
    """Copy the record that lived through kills."""
    return shutil.copytree(killed[0], tmp_path / "pair")


def stored_ticks(read: Tables) -> Ticks:
    sides = {"BUY": 1, "SELL": -1}
    return np.array([(int(r[5]), r[1], r[2], r[3], 0, sides[r[4]]) for r in read["ticks"]], TICK)


def assert_sound(read: Tables, seen: Ticks, until_ns: int, timeframes_s: tuple[int, ...]) -> None:
    """Compare a file with folds by other means over the same ticks."""
    for timeframe_s in timeframes_s:
        expected = reference_candles(seen, timeframe_s * NS_PER_S, until_ns)
        assert same_candles([row._replace(revision=0) for row in candles(read, timeframe_s)], expected)
    assert same_flow(flow(read), reference_flow(seen, until_ns), float(seen["size"].sum()))
    assert [row[0] for row in read["ticks"]] == list(range(1, len(seen) + 1))
    assert [row[0] for row in read["events"]] == list(range(1, len(read["events"]) + 1))


def watermark_ns(folder: Path, engine: EngineSpec = QUICK) -> int:
    files = open_pair(folder, PAIR, engine)
    files.close()
    return files.core.state.ledger.watermark_ns


def test_kills_cost_nothing(folder: Path, killed: tuple[Path, Ticks]) -> None:
    until_ns = watermark_ns(folder)
    read = tables(folder)
    stored = np.sort(stored_ticks(read), order="trade_id")
    first, last = int(stored["trade_id"][0]), int(stored["trade_id"][-1])
    venue = killed[1][(killed[1]["trade_id"] >= first) & (killed[1]["trade_id"] <= last)]
    assert stored.tolist() == venue.tolist()
    assert len(stored) > 500
    assert stored.tolist() != stored_ticks(read).tolist(), "none was filled late"
    assert len(segments(folder / "journal")) >= 3
    assert {row[6] for row in read["data_gaps"]} == {"FILLED"}
    assert len(read["data_gaps"]) >= 3  # what the venue traded while the pair was dead
    assert_sound(read, stored, until_ns, QUICK.timeframes_s)


def test_every_bar_is_announced_once_and_then_as_often_as_it_was_restated(folder: Path) -> None:
    read = tables(folder)
    told: dict[tuple[str, int], list[int]] = {}
    for _, ts_ns, name, data in events(read):
        if "CANDLE" in name:
            told.setdefault((data["timeframe"], ts_ns), []).append(data["revision"])
    for timeframe_s, text in ((1, "1s"), (5, "5s"), (60, "1m")):
        for row in candles(read, timeframe_s):
            assert told.pop((text, row.ts_ns + timeframe_s * NS_PER_S)) == list(range(row.revision + 1))
    assert not told


def lose(path: Path) -> None:
    path.unlink()
    path.with_name("trading.duckdb.wal").unlink(missing_ok=True)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def corrupt(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for at in range(0, len(raw), 4_096):
        raw[at + 40] ^= 0xFF
    path.write_bytes(raw)


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database")


def of_another_pair(path: Path) -> None:
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE meta SET value = 'binance:spot:ETHUSDT' WHERE key = 'pair'")


def ahead(path: Path) -> None:
    """Let the journal lose its newest records, as a disk that was not synced would."""
    last = segments(path.parent / "journal")[-1].path
    last.write_bytes(last.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [lose, truncate, corrupt, overwrite, of_another_pair])
def test_a_lost_hot_file_is_rebuilt_row_by_row(folder: Path, harm: object) -> None:
    before = tables(folder)
    assert callable(harm)
    harm(folder / "trading.duckdb")
    open_pair(folder, PAIR, QUICK).close()
    after = tables(folder)
    assert after.keys() == before.keys()
    for name, rows in before.items():
        assert after[name] == rows, name


@pytest.mark.parametrize("sync", [True, False])
def test_a_journal_that_lost_its_end_goes_on_from_the_hot_file(folder: Path, sync: bool) -> None:  # noqa: FBT001 - a parameter
    before = tables(folder)
    ahead(folder / "trading.duckdb")
    files = open_pair(folder, PAIR, replace(QUICK, journal_sync=sync))
    assert files.hot.position == files.journal.number
    files.close()
    assert tables(folder) == before
    assert (folder / "journal.damaged").exists()


def test_a_hot_file_without_its_journal_is_the_record(folder: Path) -> None:
    before = tables(folder)
    shutil.rmtree(folder / "journal")
    open_pair(folder, PAIR, QUICK).close()
    assert tables(folder) == before


def test_a_newer_schema_is_refused(folder: Path) -> None:
    with duckdb.connect(str(folder / "trading.duckdb")) as con:
        con.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(SCHEMA_VERSION + 1)])
    with pytest.raises(UsageError, match=f"schema version {SCHEMA_VERSION + 1}"):
        open_pair(folder, PAIR, QUICK)


def test_a_journal_of_another_pair_is_refused(folder: Path) -> None:
    (folder / "trading.duckdb").unlink()
    with pytest.raises(UsageError, match=r"is of binance:spot:BTCUSDT, not of binance:spot:ETHUSDT"):
        open_pair(folder, Pair("binance", "spot", "ETHUSDT"), QUICK)


def test_a_second_process_waits_then_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pair(tmp_path, PAIR, QUICK)
    monkeypatch.setattr(recovery, "LOCK_WAIT_S", 0.3)
    began = time.monotonic()
    with pytest.raises(Fatal, match="another process writes there"):
        open_pair(tmp_path, PAIR, QUICK)
    assert 0.3 <= time.monotonic() - began < 5
    monkeypatch.setattr(recovery, "LOCK_WAIT_S", 20.0)
    threading.Timer(0.2, first.close).start()
    open_pair(tmp_path, PAIR, QUICK).close()


def test_a_failed_recovery_lets_go_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "LOCK_WAIT_S", 0.1)
    open_pair(tmp_path, PAIR, QUICK).close()
    for _ in range(2):
        with pytest.raises(UsageError, match="is of"):
            open_pair(tmp_path, Pair("binance", "spot", "ETHUSDT"), QUICK)
    open_pair(tmp_path, PAIR, QUICK).close()


# By hand: every way of flushing, rotating, stopping and changing the configuration


CHANGES = ((60, 300), (60, 180, 300), (300,), (60,))


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_whatever_was_flushed_rotated_and_configured(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("hand") / "pair"
    seen = draw.draw(ticks(max_size=40))
    late = draw.draw(st.dictionaries(st.integers(0, len(seen) - 1), st.integers(1, 40), max_size=4))
    arriving = seen[
        np.argsort(np.arange(len(seen)) + [late.get(i, 0) for i in range(len(seen))], kind="stable")
    ]
    engine, until_ns = replace(QUICK, timeframes_s=CHANGES[0]), 0
    pair = ByHand(folder, engine)
    for part in draw.draw(splits(len(seen))):
        batch = np.sort(arriving[part], order="trade_id")
        pair.take(TickBatch(batch))
        until_ns = max(until_ns, int(batch["ts_ns"].max()))
        for step in draw.draw(
            st.lists(st.sampled_from(["flush", "rotate", "clock", "kill", "change"]), max_size=2)
        ):
            if step == "clock":
                until_ns += 70 * NS_PER_S
                pair.take(Clock(until_ns))
            elif step in {"kill", "change"}:
                pair.close()
                if step == "change":
                    engine = replace(engine, timeframes_s=draw.draw(st.sampled_from(CHANGES)))
                pair = ByHand(folder, engine)
            else:
                getattr(pair, step)()
    pair.close()
    assert watermark_ns(folder, engine) == until_ns
    read = tables(folder)
    assert_sound(read, seen, until_ns, engine.timeframes_s)
    lose(folder / "trading.duckdb")
    watermark_ns(folder, engine)
    again = tables(folder)
    for name in again.keys() - dropped(engine):
        assert len(again[name]) == len(read[name])
        assert all(map(near, again[name], read[name])), name
    shutil.rmtree(folder)


def near(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    """Compare rows, sums to 1e-9: a timeframe left and taken up again is folded in other portions."""
    return all(
        math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9)
        if isinstance(x, float) and isinstance(y, float)
        else x == y
        for x, y in zip(a, b, strict=True)
    )


def dropped(engine: EngineSpec) -> set[str]:
    """Name tables of timeframes that are not kept any more: what they hold is history of no consequence."""
    names = {60: "candles_1m", 180: "candles_3m", 300: "candles_5m"}
    return {name for timeframe_s, name in names.items() if timeframe_s not in engine.timeframes_s}
