"""Questions that readers ask again and again, as table macros: `FROM imbalance(60)`.

A macro sees the tables as the query does, the archive and the open bars among them. The moment at which one
that looks back ends (`until`) is the time of the last trade, unless it is told.
"""

# ruff: noqa: S608 - every statement here is our own

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import duckdb

from storage.rolling_profile import PROFILE


class Macro(NamedTuple):
    name: str
    parameters: str
    tables: str  # what it reads, by the names of the tables
    sql: str  # with bounds in braces


_ENOUGH = 1_000

# A row that is hot says that the newest is no older: as a number it spares the reader most of the archive.
_BOUNDS = {
    "newest_tick": "SELECT max(timestamp) FROM ticks",
    "enough_ticks": f"SELECT timestamp FROM ticks ORDER BY timestamp DESC LIMIT 1 OFFSET {_ENOUGH - 1}",
    "newest_profile": "SELECT max(timestamp) FROM market_profile",
    "newest_state": "SELECT max(timestamp) FROM market_state",
}

_SPAN = """
    WITH till AS (
        SELECT coalesce(
            until::TIMESTAMP_NS, (SELECT max(timestamp) FROM ticks WHERE timestamp >= {newest_tick})
        ) AS to_time
    ),
    span AS (
        SELECT to_time,
            make_timestamp_ns(epoch_ns(to_time) - (seconds::DECIMAL(38, 9) * 1000000000)::BIGINT) AS from_time
        FROM till
    ),
    part AS (
        SELECT * FROM ticks
        WHERE timestamp > (SELECT from_time FROM span) AND timestamp <= (SELECT to_time FROM span)
            AND timestamp <= coalesce(until::TIMESTAMP_NS, make_timestamp_ns(9200000000000000000))
            AND timestamp > make_timestamp_ns(
                epoch_ns(coalesce(until::TIMESTAMP_NS, {newest_tick}))
                - (seconds::DECIMAL(38, 9) * 1000000000)::BIGINT
            )
    )"""
"""Trades in (until - seconds, until], as definitions §2 has it."""

_EVERY = """
    CASE WHEN (every::DECIMAL(38, 9) * 1000000000)::BIGINT > 0
        THEN (every::DECIMAL(38, 9) * 1000000000)::BIGINT
        ELSE error('cvd: every must be more than 0 seconds') END"""
"""A bucket's nanoseconds."""

_SIDES = """
    coalesce(sum(volume) FILTER (side = 'BUY'), 0) AS buy_volume,
    coalesce(sum(volume) FILTER (side = 'SELL'), 0) AS sell_volume"""

MACROS = (
    Macro(
        "recent_ticks",
        "n := 100",
        "ticks",
        f"""FROM ticks
        WHERE timestamp >= CASE WHEN n <= {_ENOUGH} THEN {{enough_ticks}} ELSE make_timestamp_ns(0) END
        ORDER BY timestamp DESC, seq DESC LIMIT n""",
    ),
    Macro(
        "candles",
        "timeframe, n := 100",
        "candles_",
        "FROM query_table('candles_' || timeframe) ORDER BY timestamp DESC LIMIT n",
    ),
    Macro(
        "cvd",
        "seconds := 900, every := 60, until := NULL",
        "ticks",
        f"""{_SPAN},
        buckets AS (
            SELECT epoch_ns(timestamp) // {_EVERY} AS number, {_SIDES},
                arg_max(price, (timestamp, seq)) AS close, count(*) AS trade_count
            FROM part GROUP BY number
        )
        SELECT make_timestamp_ns(number * {_EVERY}) AS timestamp,
            buy_volume, sell_volume, buy_volume - sell_volume AS delta,
            sum(buy_volume - sell_volume) OVER (ORDER BY number) AS cvd, close, trade_count
        FROM buckets ORDER BY number""",
    ),
    Macro(
        "imbalance",
        "seconds := 60, until := NULL",
        "ticks",
        f"""{_SPAN},
        sums AS (SELECT {_SIDES}, count(*) AS trade_count FROM part)
        SELECT from_time, to_time, buy_volume, sell_volume, trade_count,
            CASE WHEN buy_volume + sell_volume > 0
                THEN (buy_volume - sell_volume) / (buy_volume + sell_volume) ELSE 0 END AS imbalance
        FROM span, sums""",
    ),
    Macro(
        "active_zones",
        "",
        "supply_demand_zones",
        "FROM supply_demand_zones WHERE status IN ('FRESH', 'TESTED') ORDER BY price_high DESC, zone_id",
    ),
    Macro(
        "open_gaps",
        "",
        "fair_value_gaps",
        "FROM fair_value_gaps WHERE status IN ('OPEN', 'PARTIAL') ORDER BY top DESC, gap_id",
    ),
    Macro(
        "profile_now",
        "",
        "market_profile",
        "FROM market_profile WHERE timestamp >= {newest_profile} ORDER BY timestamp DESC LIMIT 1",
    ),
    Macro(
        "rolling_profile",
        "seconds := 14400, bin := NULL, value_area := 0.7, va_step := 2, until := NULL",
        "ticks market_profile",
        f"""{_SPAN},
        {PROFILE}""",
    ),
    Macro(
        "state_now",
        "",
        "market_state",
        "FROM market_state WHERE timestamp >= {newest_state} ORDER BY timestamp DESC LIMIT 1",
    ),
)

_NAMED = {macro.name: macro for macro in MACROS}
_CALL = re.compile(rf"\b({'|'.join(_NAMED)})\"?\s*\(\s*(?:timeframe\s*:?=\s*)?('\w*'\s*[,)])?")


def ddl() -> Iterator[str]:
    """Write the statements that create every macro in a file, in the place of an earlier one."""
    everything = dict.fromkeys(_BOUNDS, _time(0))
    for macro in MACROS:
        yield _create(macro, everything)


def create(cursor: duckdb.DuckDBPyConnection, text: str) -> None:
    """Create, for this cursor alone, the macros that a casefolded text calls.

    The file's own tables must not be hidden yet: what is hot tells what of the archive need not be read.
    """
    called = {_NAMED[name] for name, _ in _CALL.findall(text)}
    bounds = {
        name: _time(_newest(cursor, sql) if any(f"{{{name}}}" in macro.sql for macro in called) else 0)
        for name, sql in _BOUNDS.items()
    }
    for macro in called:
        cursor.execute(_create(macro, bounds, "TEMP"))


def tables_of(text: str, tables: Iterable[str]) -> str:
    """Name those of the tables that the macros in a casefolded text read; of candles all, if need be."""
    told: list[str] = []
    for name, timeframe in _CALL.findall(text):
        read = _NAMED[name].tables + timeframe.strip("',) \n\t")
        told += [table for table in tables if table.startswith(read)] if read.endswith("_") else read.split()
    return " ".join(told)


def _create(macro: Macro, bounds: Mapping[str, str], kind: str = "") -> str:
    body = macro.sql.format_map(bounds)
    return f"CREATE OR REPLACE {kind} MACRO {macro.name}({macro.parameters}) AS TABLE {body}"


def _newest(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Look among what is hot; 0 where there is nothing, or not enough."""
    found = cursor.execute(f"SELECT epoch_ns(timestamp) FROM ({sql}) AS hot(timestamp)").fetchall()
    return found[0][0] or 0 if found else 0


def _time(ts_ns: int) -> str:
    return f"make_timestamp_ns({ts_ns})"
