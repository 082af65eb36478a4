"""Rows as Parquet keeps them, 5 bytes a tick, and as they were: to the nanosecond and the last bit."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema or a quoted path

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from storage.archive import ArchiveFile
from storage.schema import TIME, columns, is_keyed, is_sequence, key_of, time_of

_LARGEST = 90_000_000  # times 10^8 below 2^53: exact at whatever scale files of several scales are read at
_SCALES = range(9)
_GLOB = re.compile(r"([\[*?])")
_SWEEP = r"-(\d+)-[0-9a-f]{8}\.parquet$"
_OPTIONS = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 3"


class Sums(NamedTuple):
    """What two relations have in common when they hold the same rows, in whatever order."""

    rows: int
    first: int | None
    last: int | None
    hashes: int | None


class _Test(NamedTuple):
    kind: str
    holds: str  # of every value that the type gives back as it was


class Packer:
    """Write rows in the smallest types that lose nothing, beginning with those that did last time."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._tried: dict[tuple[str, str], int] = {}  # by table and column: how many types were too small

    def write(self, table: str, rows: str, path: Path, order: str = "") -> None:
        """Write the rows that a FROM clause gives to a file.

        DuckDB neither syncs it nor removes what a failure leaves.
        """
        types = self._types(table, rows)
        picked = ", ".join(f"{name}::{kind} AS {name}" for name, kind in types.items())
        # A dictionary pays where a DOUBLE is left; beside decimals, packed as differences, it costs.
        packed = is_sequence(table) and "DOUBLE" not in types.values()
        options = f"{_OPTIONS}, DICTIONARY_SIZE_LIMIT 1" if packed else _OPTIONS
        sort = f"ORDER BY {order}" if order else ""
        self._con.execute(f"COPY (SELECT {picked} FROM {rows} {sort}) TO {quoted(path)} ({options})")

    def _types(self, table: str, rows: str) -> dict[str, str]:
        """Find for each column the smallest type that gives back every one of these values."""
        found = dict(columns(table))
        if is_keyed(table):  # a row a minute is not worth the looking
            return found
        tests = {name: _tests(name, kind) for name, kind in columns(table)}
        while asked := self._next(table, tests):
            for name, exact in zip(asked, self._ask(list(asked.values()), rows), strict=True):
                if exact:
                    found[name] = asked[name].kind
                    del tests[name]
                else:
                    self._tried[table, name] += 1
        return found

    def _next(self, table: str, tests: dict[str, list[_Test]]) -> dict[str, _Test]:
        at = {name: self._tried.setdefault((table, name), 0) for name in tests}
        return {name: known[at[name]] for name, known in tests.items() if at[name] < len(known)}

    def _ask(self, tests: Sequence[_Test], rows: str) -> Sequence[bool]:
        asked = ", ".join(f"bool_and({test.holds})" for test in tests)
        (answers,) = self._con.execute(f"SELECT {asked} FROM {rows}").fetchall()
        return answers


def relation(files: Iterable[ArchiveFile], table: str, *, more: str = "") -> str:
    """Write the SELECT that gives the rows of files in the types of their table."""
    picked = ", ".join(f"{name}::{kind} AS {name}" for name, kind in columns(table))
    return f"SELECT {picked}{more} FROM {source(file.path for file in files)}"


def source(paths: Iterable[Path]) -> str:
    listed = ", ".join(quoted(_GLOB.sub(r"[\1]", str(path))) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def latest(files: Iterable[ArchiveFile], table: str) -> str:
    """Write the SELECT that gives one row a key, that of the latest sweep."""
    names = ", ".join(name for name, _ in columns(table))
    sweep = f"regexp_extract(filename, '{_SWEEP}', 1)::BIGINT"
    return (
        f"SELECT {names} FROM ({relation(files, table, more=f', {sweep} AS sweep')}) "
        f"QUALIFY row_number() OVER (PARTITION BY {key_of(table)} ORDER BY sweep DESC) = 1"
    )


def sums(con: duckdb.DuckDBPyConnection, table: str, rows: str) -> Sums:
    """Add up the rows that a FROM clause gives."""
    names = ", ".join(
        f"{name}::VARCHAR" if kind.startswith("ENUM") else name for name, kind in columns(table)
    )
    key = "seq" if is_sequence(table) else f"epoch_ns({time_of(table)})"
    sql = f"SELECT count(*), min({key}), max({key}), sum(hash({names}))::HUGEINT FROM {rows}"
    ((count, first, last, hashes),) = con.execute(sql).fetchall()
    return Sums(count, first, last, hashes)


def quoted(text: object) -> str:
    doubled = str(text).replace("'", "''")
    return f"'{doubled}'"


def _tests(name: str, kind: str) -> list[_Test]:
    """List the types that are worth trying, smallest first."""
    if kind == TIME:
        smaller = (("TIMESTAMP_MS", 1_000_000), ("TIMESTAMP", 1_000))
        return [_Test(to, f"coalesce(epoch_ns({name}) % {unit_ns} = 0, true)") for to, unit_ns in smaller]
    if kind == "DOUBLE":
        return [_decimal(name, scale) for scale in _SCALES]
    if name == "trade_id":
        return [_Test("BIGINT", f"coalesce(TRY_CAST({name} AS BIGINT)::VARCHAR = {name}, {name} IS NULL)")]
    return []


def _decimal(name: str, scale: int) -> _Test:
    kind = f"DECIMAL(18,{scale})"
    bounds = f"abs({name}) < {_LARGEST} AND NOT ({name} = 0 AND signbit({name}))"
    return _Test(kind, f"coalesce({bounds} AND TRY_CAST({name} AS {kind})::DOUBLE = {name}, {name} IS NULL)")
