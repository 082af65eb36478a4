"""QuestDB's tables: what they must be, made where they are missing, checked where they are not."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from market.errors import Fatal
from storage.questdb_migrations import Migration, migrate, migrations
from storage.questdb_sql import Sql, literal, shown

OLDEST = (9, 0)  # binary numbers in the line protocol, and materialized views that are no preview

log = structlog.get_logger(__name__)


class Table(NamedTuple):
    """What a table of ours must have; the SQL files of migrations say the rest."""

    name: str
    types: dict[str, str]
    keys: tuple[str, ...]  # beside the timestamp


def _types(text: str) -> dict[str, str]:
    return dict(column.split() for column in text.split(", "))


_OHLCV = _types(
    "symbol SYMBOL, open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, volume DOUBLE, vwap DOUBLE, "
    "trade_count LONG, timestamp TIMESTAMP"
)
TRADES = Table(
    "trades",
    _types(
        "symbol SYMBOL, price DOUBLE, size DOUBLE, timestamp TIMESTAMP, exchange SYMBOL, side SYMBOL, "
        "seq LONG, trade_id VARCHAR"
    ),
    ("symbol", "seq"),
)
OHLCV_1M = Table("ohlcv_1m", _OHLCV, ("symbol",))
OHLCV_1D = Table("ohlcv_1d", _OHLCV, ("symbol",))
DEAD_LETTERS = Table(
    "dead_letters",
    _types("table_name SYMBOL, symbol VARCHAR, reason VARCHAR, row VARCHAR, timestamp TIMESTAMP"),
    ("table_name", "symbol", "row"),
)
TABLES = (TRADES, OHLCV_1M, OHLCV_1D, DEAD_LETTERS)
VIEW = "ohlcv_1h"
_VIEW_TYPES = {
    "timestamp": "TIMESTAMP",
    "symbol": "SYMBOL",
    **dict.fromkeys(("open", "high", "low", "close", "volume"), "DOUBLE"),
}


def prepare(sql: Sql) -> None:
    """Make what is missing and mend what stands still; raises Fatal where something else has our names."""
    check_version(sql.rows("SELECT build()")[0][0])
    known = migrations()
    migrate(sql, known)
    _restore(sql, known)
    for table in TABLES:
        check(sql, table)
    _check_columns(sql, VIEW, _VIEW_TYPES)
    resume(sql)
    _refresh(sql)


def _restore(sql: Sql, known: Sequence[Migration]) -> None:
    """Make again what somebody dropped after it was made."""
    there = {name for (name,) in sql.rows("SELECT table_name FROM tables()")}
    if not {VIEW, *(table.name for table in TABLES)} <= there:
        for one in known:
            for statement in one.statements:
                sql.rows(statement)


def check_version(build: str) -> None:
    """Raise Fatal for a server that is too old; the enterprise edition counts otherwise and is not judged."""
    found = re.search(r"QuestDB (\d+)\.(\d+)", build)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        told = build.partition(",")[0].removeprefix("Build Information: ")
        raise Fatal(f"{told} is too old: QuestDB {OLDEST[0]}.{OLDEST[1]} or newer is needed")


def check(sql: Sql, table: Table) -> None:
    """Raise Fatal, naming the column, unless the table is ours; columns that somebody added do no harm."""
    keys = _check_columns(sql, table.name, table.types)
    for key in ("timestamp", *table.keys):
        if key not in keys:
            raise Fatal(f"QuestDB's table {table.name}: column {key} is no upsert key, rows would double")


def _check_columns(sql: Sql, name: str, types: dict[str, str]) -> set[str]:
    """Compare the columns with what they should be; return those that are upsert keys."""
    ask = f'SELECT "column", type, upsertKey FROM table_columns({literal(name)})'
    found = {column: (kind, key) for column, kind, key in sql.rows(ask)}
    for column, kind in types.items():
        there = found[column][0] if column in found else "missing"
        if there != kind:
            raise Fatal(f"QuestDB's table {name} is not ours: column {column} is {there}, expected {kind}")
    return {column for column, (_, key) in found.items() if key}


def resume(sql: Sql) -> None:
    """Have tables go on whose writing stopped, as after a full disk; they keep what they had accepted."""
    for name, message in sql.rows("SELECT name, errorMessage FROM wal_tables() WHERE suspended"):
        if name == VIEW or name in {table.name for table in TABLES}:
            log.warning("questdb_table_resumed", table=name, stopped_by=shown(message))
            kind = "MATERIALIZED VIEW" if name == VIEW else "TABLE"
            sql.rows(f"ALTER {kind} {name} RESUME WAL")


def _refresh(sql: Sql) -> None:
    """Have the view computed anew where its base was cut under it."""
    ask = "SELECT invalidation_reason FROM materialized_views()"
    for (reason,) in sql.rows(f"{ask} WHERE view_name = '{VIEW}' AND view_status = 'invalid'"):
        log.warning("questdb_view_refreshed", view=VIEW, invalid_by=shown(reason))
        sql.rows(f"REFRESH MATERIALIZED VIEW {VIEW} FULL")
