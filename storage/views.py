"""Questions that readers ask again and again, as table macros: `FROM imbalance(60)`.

A macro sees the tables as the query does, the archive and the open bars among them. The moment at which one
that looks back ends (`until`) is the time of the last trade, unless it is told.
"""

# ruff: noqa: S608 - every statement here is our own

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Macro(NamedTuple):
    name: str
    parameters: str
    tables: str  # what it reads, by the names of the tables
    sql: str


_SPAN = """
    WITH till AS (SELECT coalesce(until::TIMESTAMP_NS, (SELECT max(timestamp) FROM ticks)) AS to_time),
    span AS (
        SELECT to_time,
            make_timestamp_ns(epoch_ns(to_time) - (seconds::DECIMAL(38, 9) * 1000000000)::BIGINT) AS from_time
        FROM till
    ),
    part AS (
        SELECT * FROM ticks
        WHERE timestamp > (SELECT from_time FROM span) AND timestamp <= (SELECT to_time FROM span)
    )"""
"""Trades in (until - seconds, until], as definitions §2 has it."""

_SIDES = """
    coalesce(sum(volume) FILTER (side = 'BUY'), 0) AS buy_volume,
    coalesce(sum(volume) FILTER (side = 'SELL'), 0) AS sell_volume"""

MACROS = (
    Macro(
        "recent_ticks",
        "n := 100",
        "ticks",
        "FROM ticks ORDER BY timestamp DESC, seq DESC LIMIT n",
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
            SELECT epoch_ns(timestamp) // (every::DECIMAL(38, 9) * 1000000000)::BIGINT AS number, {_SIDES},
                arg_max(price, (timestamp, seq)) AS close, count(*) AS trade_count
            FROM part GROUP BY number
        )
        SELECT make_timestamp_ns(number * (every::DECIMAL(38, 9) * 1000000000)::BIGINT) AS timestamp,
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
        "FROM market_profile ORDER BY timestamp DESC LIMIT 1",
    ),
    Macro(
        "state_now",
        "",
        "market_state",
        "FROM market_state ORDER BY timestamp DESC LIMIT 1",
    ),
)

_NAMED = {macro.name: macro for macro in MACROS}
_CALL = re.compile(rf"\b({'|'.join(_NAMED)})\"?\s*\(\s*(?:timeframe\s*:?=\s*)?('\w*'\s*[,)])?")


def ddl(temporary: str = "") -> Iterator[str]:
    """Write the statements that create every macro, in the place of an earlier one."""
    for macro in MACROS:
        yield _create(macro, temporary)


def called(text: str) -> Iterator[str]:
    """Write the statements that create, for one connection alone, the macros that a casefolded text calls."""
    for name in sorted({call[1] for call in _CALL.finditer(text)}):
        yield _create(_NAMED[name], "TEMP")


def tables_of(text: str, tables: Iterable[str]) -> str:
    """Name those of the tables that the macros in a casefolded text read; of candles all, if need be."""
    told: list[str] = []
    for name, timeframe in _CALL.findall(text):
        read = _NAMED[name].tables + timeframe.strip("',) \n\t")
        told += [table for table in tables if table.startswith(read)] if read.endswith("_") else read.split()
    return " ".join(told)


def _create(macro: Macro, temporary: str) -> str:
    return f"CREATE OR REPLACE {temporary} MACRO {macro.name}({macro.parameters}) AS TABLE {macro.sql}"
