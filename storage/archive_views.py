"""Hot file, archive and open bars as one table each, for one reading cursor."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema or a quoted path

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import msgspec

from market.rows import Row
from storage import views
from storage.archive import ArchiveFile, check, check_anew, current, place_of
from storage.archive_sql import latest, relation
from storage.inserts import Inserter
from storage.schema import columns, is_keyed, is_living, key_of
from storage.sweep import Archived, expect

# What these mean of a file on disk; an error of the reader's SQL is another.
_OF_FILES = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.InternalException,
    duckdb.FatalException,
)


@dataclass(slots=True)
class Shown:
    """The archive's files that a reader was given."""

    files: list[ArchiveFile] = field(default_factory=list)

    def vanished(self) -> bool:
        """Tell whether a compaction has removed any of them since."""
        return any(not file.path.exists() for file in self.files)

    def suspect(self, error: duckdb.Error) -> None:
        """Raise ArchiveDamaged if one of the files is what `error` came from."""
        if isinstance(error, _OF_FILES):
            check_anew(self.files)


class _Position(msgspec.Struct):
    archived: Archived = Archived()


def show(
    cursor: duckdb.DuckDBPyConnection,
    open_rows: Mapping[str, Sequence[Row]],
    shown: Shown,
    named_in: str | None = None,
) -> None:
    """Let the archive and `open_rows` stand in their tables, for this cursor alone.

    Only for tables named in a text, if one is given: a view of hundreds of files takes its time. The files
    are listed after the cursor's transaction began, so they hold at least what its snapshot says was swept.
    """
    catalog, known = _known(cursor)
    archived = msgspec.json.decode(known["position"], type=_Position).archived
    place = place_of(Path(catalog[1]).parent, known["pair"])
    text = None if named_in is None else _named(cursor, named_in.casefold(), {*archived.marks, *open_rows})
    shown.files = []
    for table in sorted({*archived.marks, *open_rows}):
        if text is not None and table not in text:
            continue
        files = current(place.files(table), archived.sweep) if table in archived.marks else []
        expect(place, table, archived.upto(table))
        shown.files += files
        check(files)
        if files or open_rows.get(table):
            _shadow(cursor, f'"{catalog[0]}".main.{table}', table, files, open_rows.get(table, ()))


def _named(cursor: duckdb.DuckDBPyConnection, text: str, tables: set[str]) -> str:
    """Create the macros that a text calls; add the tables that they and the file's own views read."""
    views.create(cursor, text)
    return f"{text.replace('market_ticks', 'ticks quotes')} {views.tables_of(text, tables)}"


def _known(cursor: duckdb.DuckDBPyConnection) -> tuple[tuple[str, str], dict[str, str]]:
    sql = "SELECT database_name, path FROM duckdb_databases() WHERE database_name = current_catalog()"
    (catalog,) = cursor.execute(sql).fetchall()
    return catalog, dict(cursor.execute("SELECT key, value FROM meta").fetchall())


def _kept(stored: str, table: str, files: Sequence[ArchiveFile]) -> str:
    """Give the archive's rows but for those that are others now, or never were."""
    key, names = key_of(table), ", ".join(name for name, _ in columns(table))
    rows = f"SELECT {names} FROM ({latest(files, table)}) ANTI JOIN {stored} USING ({key})"
    if not is_living(table):
        return rows
    amended = f"SELECT key FROM {_beside(stored, table)} WHERE table_name = '{table}'"
    return f"{rows} WHERE {key} NOT IN ({amended})"


def _reflagged(stored: str, files: Sequence[ArchiveFile]) -> str:
    """Give the archive's ticks with the flags that they have now."""
    amended = f"SELECT key::BIGINT AS seq, flag FROM {_beside(stored, 'ticks')} WHERE table_name = 'ticks'"
    now = "coalesce(flag, outlier_flag) AS outlier_flag"
    names = ", ".join(now if name == "outlier_flag" else name for name, _ in columns("ticks"))
    return f"SELECT {names} FROM ({relation(files, 'ticks')}) LEFT JOIN ({amended}) USING (seq)"


def _beside(stored: str, table: str) -> str:
    return f"{stored.removesuffix(table)}amended"


def _shadow(
    cursor: duckdb.DuckDBPyConnection,
    stored: str,
    table: str,
    files: Sequence[ArchiveFile],
    rows: Sequence[Row],
) -> None:
    """Hide a table behind a temporary view of the same name; a row stored in the meantime wins."""
    names = ", ".join(name for name, _ in columns(table))
    parts = [f"SELECT {names} FROM {stored}"]
    if files and is_keyed(table):
        parts.append(_kept(stored, table, files))
    elif files:
        parts.append(_reflagged(stored, files) if table == "ticks" else relation(files, table))
    if rows:
        cursor.execute(f"CREATE TEMP TABLE open_{table} AS FROM {stored} LIMIT 0")
        Inserter(cursor).insert(table, rows, into=f"temp.open_{table}")
        for part in parts:
            known = f"SELECT timestamp FROM ({part}) WHERE timestamp >= make_timestamp_ns({rows[0][0]})"
            cursor.execute(f"DELETE FROM temp.open_{table} WHERE timestamp IN ({known})")
        parts.append(f"SELECT {names} FROM temp.open_{table}")
    cursor.execute(f"CREATE TEMP VIEW {table} AS {' UNION ALL '.join(parts)}")
