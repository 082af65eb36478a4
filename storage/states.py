"""Bars and market states at given times, out of a pair's whole record: what is hot and what is archived."""

# ruff: noqa: S608 - the columns and tables are our own

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Any

import duckdb

from market.rows import Candle, MarketState
from market.times import NS_PER_S
from storage.reads import begin, seen

_LONGEST_STEP_NS = 3_600 * NS_PER_S
_STATES = f"""
    SELECT end_ns, epoch_ns(s.timestamp), {", ".join(f"s.{name}" for name in MarketState._fields[1:])}
    FROM (SELECT unnest($times) AS end_ns) ASOF JOIN (
        FROM market_state
        WHERE timestamp > make_timestamp_ns($first) AND timestamp <= make_timestamp_ns($last)
    ) s ON make_timestamp_ns(end_ns) >= s.timestamp
    """
_BARS = f"""
    SELECT epoch_ns(timestamp), {", ".join(Candle._fields[1:])} FROM {{table}}
    WHERE timestamp > make_timestamp_ns($first) AND timestamp <= make_timestamp_ns($last)
    AND list_contains($times, epoch_ns(timestamp)) AND is_complete ORDER BY timestamp
    """


def states_at(con: duckdb.DuckDBPyConnection, times_ns: Collection[int]) -> dict[int, MarketState]:
    """Give the last state at or before each time, none for a time before the record.

    One that is as old as the longest step is not taken: the record has a hole there.
    """
    found = {at: MarketState(*row) for at, *row in _read(con, "market_state", _STATES, times_ns)}
    return {at: state for at, state in found.items() if at - state.ts_ns < _LONGEST_STEP_NS}


def bars_at(con: duckdb.DuckDBPyConnection, timeframe: str, times_ns: Collection[int]) -> list[Candle]:
    """Give the complete bars that open at these times, as they are now."""
    table = f"candles_{timeframe}"
    return [Candle(*row) for row in _read(con, table, _BARS.format(table=table), times_ns)]


def _read(con: duckdb.DuckDBPyConnection, table: str, sql: str, times_ns: Collection[int]) -> list[Any]:
    if not times_ns:
        return []
    bounds = {"first": min(times_ns) - _LONGEST_STEP_NS, "last": max(times_ns)}
    asked = bounds | {"times": sorted(set(times_ns))}
    with closing(begin(con)) as cursor:
        return seen(cursor, {}, lambda: cursor.execute(sql, asked).fetchall(), table, named_in=table)
