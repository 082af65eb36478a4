"""Rows that the storage tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from market.rows import (
    Candle,
    EventRow,
    FairValueGap,
    GapRow,
    MarketProfile,
    MarketState,
    OrderFlow,
    QuoteRow,
    RejectedRow,
    Rows,
    TickRows,
    Zone,
)
from market.ticks import TICK, Ticks
from storage.hot import HotFile

PAIR = "binance:spot:BTCUSDT"
MINUTE = 60 * 10**9
T0 = 1_766_318_400 * 10**9  # 2025-12-21T12:00:00Z


def make_ticks(count: int, first_id: int = 1, start_ns: int = T0, step_ns: int = 7_000_000_123) -> Ticks:
    ticks = np.zeros(count, TICK)
    at = np.arange(count)
    ticks["trade_id"] = first_id + at
    ticks["ts_ns"] = start_ns + at * step_ns
    ticks["received_ns"] = ticks["ts_ns"] + 1_000_000
    ticks["price"] = 100 + at % 17 * 0.01
    ticks["size"] = 0.001 * (1 + at % 5)
    ticks["side"] = at % 3 - 1
    return ticks


def candle(ts_ns: int, close: float = 1.5, revision: int = 0) -> Candle:
    return Candle(ts_ns, 1.0, 2.0, 0.5, close, 10.0, 6.0, 4.0, 1.25, 17, True, revision)


def gap(gap_id: str, filled_pct: float = 0.0, status: str = "OPEN") -> FairValueGap:
    return FairValueGap(gap_id, "1m", "BULLISH", 2.0, 1.0, T0, filled_pct, status, None)


def zone(zone_id: str, touches: int = 0, status: str = "FRESH") -> Zone:
    return Zone(zone_id, "1m", "DEMAND", 1.0, 2.0, 0.75**touches, status, touches, T0, T0, None)


def some_of_each(seq: int, count: int = 3) -> Rows:
    """One flush with `count` ticks from `seq` on and a row or more of every table."""
    rows = Rows(ticks=[TickRows(seq, make_ticks(count, seq))])
    rows.insert("quotes", QuoteRow(T0, 99.0, 1.0, 101.0, 2.0, T0))
    for timeframe in ("1m", "5m", "15m"):
        rows.insert(f"candles_{timeframe}", candle(T0 + seq * MINUTE))
    rows.insert("order_flow", OrderFlow(T0 + seq * MINUTE, 1.0, 0.0, 1.0, 1.0, None, 1))
    for number in range(seq, seq + count):
        rows.insert("events", EventRow(number, T0 + number, "CANDLE_CLOSED", b'{"close":1e-08}'))
    rows.insert("market_profile", MarketProfile(T0, T0 + seq * MINUTE, 1.5, 2.0, 0.5, 10.0, 0.01))
    for number in range(seq, seq + count):
        row = MarketState(T0 + number, 1.0, None, 1e-8, 0.5, 2.0, None, "Unknown", "Neutral", 0.5)
        rows.insert("market_state", row)
        rows.keep("fair_value_gaps", f"1m:{number}", gap(f"1m:{number}"))
        rows.keep("supply_demand_zones", f"1m:{number}", zone(f"1m:{number}"))
    rows.insert("data_gaps", GapRow(seq, 5, 9, T0, T0 + 1, T0 + 2, "OPEN", None, 0, "reconnect"))
    rows.insert("rejected", RejectedRow(T0, "not JSON", b"\xff\x00{"))
    return rows


def open_hot(path: Path, timeframes_s: tuple[int, ...] = (60, 300, 900)) -> HotFile:
    return HotFile.open(path, PAIR, timeframes_s)
