"""The bars that the proof recomputes are those that others publish for the same trades."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from market.rows import Candle, Rows, TickRows
from market.ticks import TICK, Ticks
from storage.proof import Claim, prove
from storage.reads import begin
from tests.recordings import beside, table
from tests.storage.hot_rows import open_hot
from tests.storage.record import candles
from tests.storage.test_proof import HOLES, SEQ, bars


def trades_of(name: str, from_ns: int) -> Ticks:
    rows = [
        (int(row["trade_id"]), int(row["ts_event_ns"]), float(row["price"]), float(row["size"]), 0, side)
        for row in table(beside(name))
        if int(row["ts_event_ns"]) >= from_ns
        for side in ({"buy": 1, "sell": -1}[row["side"]],)
    ]
    return np.array(rows, TICK)


def as_published(own: Candle, bar: dict[str, str]) -> Candle:
    """Take what the publisher says; the sides' volumes and an exact vwap are ours."""
    return own._replace(
        open=float(bar["open"]),
        high=float(bar["high"]),
        low=float(bar["low"]),
        close=float(bar["close"]),
        volume=float(bar["volume"]),
    )


def bar_claim(path: Path, ticks: Ticks, table: str, stored: list[Candle], timeframe_s: int) -> Claim:
    hot = open_hot(path, (timeframe_s,))
    hot.flush(Rows(ticks=[TickRows(1, ticks)], inserted={table: [*stored]}), 1)
    claims = {claim.text: claim for claim in prove(begin(hot.connection), {}, (timeframe_s,))}
    hot.close()
    assert claims[SEQ].ok
    assert claims[HOLES].ok
    return claims[bars(table.removeprefix("candles_"))]


def test_bars_published_by_kraken_are_what_the_proof_recomputes(tmp_path: Path) -> None:
    official = table(beside("bars/kraken_xbtusdt_1m_official_20251110_part1.csv.gz"))
    ticks = trades_of("trades/kraken_spot_xbtusdt_20251110_part1.csv.gz", int(official[0]["ts_open_ns"]))
    stored: list[Candle] = []
    for bar, own in zip(official, candles(ticks.tolist(), 60 * 10**9), strict=True):
        assert float(bar["vwap"]) == (
            math.floor(own.vwap * 10) / 10 if own.trade_count else 0
        )  # as Kraken prints
        stored.append(as_published(own, bar)._replace(trade_count=int(bar["count"])))
    assert bar_claim(tmp_path / "kraken.duckdb", ticks, "candles_1m", stored, 60)[1:] == (True, "231 rows")


@pytest.mark.parametrize(("timeframe", "timeframe_s", "rows"), [("1m", 60, 2_130), ("5m", 300, 426)])
def test_bars_published_by_freqtrade_are_what_the_proof_recomputes(
    tmp_path: Path, timeframe: str, timeframe_s: int, rows: int
) -> None:
    official = {
        int(bar["ts_open_ns"]): bar
        for bar in table(beside(f"bars/freqtrade_xrpeth_{timeframe}_2019_part1.csv.gz"))
    }
    ticks = trades_of("trades/binance_spot_xrpeth_aggtrades_2019_part1.csv.gz", 0)
    stored, used = [], 0
    for own in candles(ticks.tolist(), timeframe_s * 10**9):
        if (bar := official.get(own.ts_ns)) is None:
            assert own.trade_count == 0  # the publisher leaves empty bars out
            stored.append(own)
            continue
        stored.append(as_published(own, bar))
        used += 1
    assert used == len(official)
    claim = bar_claim(tmp_path / "freqtrade.duckdb", ticks, f"candles_{timeframe}", stored, timeframe_s)
    assert claim[1:] == (True, f"{rows:,} rows")
