"""A pair's file with two hours of everything, and what a reader sees of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from market.rows import EventRow, GapRow, QuoteRow, RejectedRow
from market.ticks import Ticks
from storage.hot import HotFile
from storage.reads import begin, seen
from tests.storage.hot_rows import MINUTE, T0, make_ticks, open_hot
from tests.storage.record import Opened, keep_gap, record

TIMEFRAMES = (60, 300, 900)
TABLES = ("ticks", "quotes", "events", "order_flow", "candles_1m", "candles_5m", "candles_15m")
FOUND = ("market_profile", "market_state", "fair_value_gaps", "supply_demand_zones")
MIDNIGHT = T0 - 12 * 60 * MINUTE
STEP_NS = 9_100_000_001

TIMES = {"timestamp", "received_at", "session_start", "created_at", "updated_at", "filled_at", "broken_at"}

Seen = dict[str, list[tuple[Any, ...]]]


def some_ticks(count: int = 800) -> Ticks:
    """Make two hours across midnight, some ticks of them late."""
    ticks = make_ticks(count, first_id=1, start_ns=MIDNIGHT - 60 * MINUTE + 17, step_ns=STEP_NS)
    late = (ticks["trade_id"] > 300) & (ticks["trade_id"] < 320)
    return np.concatenate([ticks[~late & (ticks["trade_id"] <= 340)], ticks[late], ticks[340:]])


def filled(path: Path, ticks: Ticks | None = None) -> tuple[HotFile, Opened]:
    """Write a record in four flushes, with quotes, a gap and something rejected."""
    ticks = some_ticks() if ticks is None else ticks
    rows, opened = record(ticks, TIMEFRAMES)
    for at, price in zip(ticks["ts_ns"][::10].tolist(), ticks["price"][::10].tolist(), strict=True):
        rows.insert("quotes", QuoteRow(at, price, 1.0, price + 0.01, 2.0, at + 5))
    end_ns = int(ticks["ts_ns"].max())
    keep_gap(rows, GapRow(1, 900, 905, T0, T0, end_ns, "UNFILLABLE", end_ns, 0, "reconnect"))
    rows.insert("rejected", RejectedRow(T0, "no JSON", b"\xff"))
    hot = open_hot(path)
    hot.flush(rows, 1)
    return hot, opened


def everything(hot: HotFile, opened: Opened) -> Seen:
    """Read every table as a query does, each in the order of all its columns, times to the nanosecond."""

    def read() -> Seen:
        return {table: cursor.execute(_all(cursor, table)).fetchall() for table in (*TABLES, *FOUND)}

    with closing(begin(hot.connection)) as cursor:
        return seen(cursor, opened, read, "test")


def stored(hot: HotFile) -> Seen:
    """Read what the hot file itself holds."""
    return {table: hot.connection.execute(_all(hot.connection, table)).fetchall() for table in TABLES}


def _all(con: Any, table: str) -> str:
    names = [name for name, *_ in con.execute(f"DESCRIBE {table}").fetchall()]
    picked = ", ".join(f"epoch_ns({n})" if n in TIMES else n for n in names)
    return f"SELECT {picked} FROM {table} ORDER BY ALL"  # noqa: S608 - a table of ours


def plan(cutoff_ns: int, *tables: str, upto: int | None = None) -> dict[str, tuple[int, int | None]]:
    return dict.fromkeys(tables or TABLES, (cutoff_ns, upto))


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def event(seq: int, ts_ns: int, name: str = "CANDLE_CLOSED") -> EventRow:
    return EventRow(seq, ts_ns, name, b"{}")


END = int(some_ticks()["ts_ns"].max())
