"""What a pair's DuckDB file says of itself, and the proof at opening that it is true."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec
import structlog

from market.errors import UsageError
from storage import archive_ledger
from storage.archive import place_of, put_aside
from storage.duck import Damaged
from storage.schema import SCHEMA_VERSION, ddl, tables
from storage.sweep import Archived

log = structlog.get_logger()


class Span(NamedTuple):
    """How many rows of a sequence there are, its least and its largest number (0 when there are none)."""

    rows: int = 0
    first: int = 0
    last: int = 0

    def plus(self, rows: int, first: int, last: int) -> Span:
        return Span(self.rows + rows, min(self.first, first) if self.rows else first, max(self.last, last))


class Head(msgspec.Struct, frozen=True):
    """What the file says of itself in `meta`, written in the transaction of the rows it counts."""

    record: int = 0  # the journal record up to which the rows stand
    ticks: Span = Span()
    events: Span = Span()
    cursors: dict[str, tuple[int, int]] = {}  # by sink: last acknowledged seq, and when (ns)
    archived: Archived = Archived()
    texts_from: int = 0  # seq of the first tick with a text id: from there on ids are text; 0: none is


def create(
    con: duckdb.DuckDBPyConnection, path: Path, pair_key: str, timeframes_s: tuple[int, ...], record: int
) -> None:
    """Make a new file in one transaction: a kill meanwhile leaves one without tables, which is Damaged.

    What the archive holds beyond its ledger is made again from the journal, or is of a record that is gone.
    """
    ledger, place = archive_ledger.load(path.parent), place_of(path.parent, pair_key)
    if beyond := place.above(ledger.archived.sweep):
        log.warning("archive_set_aside", pair=pair_key, files=len(beyond), first=str(beyond[0].path))
        for file in beyond:
            put_aside(file.path)
    con.execute("BEGIN")
    for statement in ddl(timeframes_s):
        con.execute(statement)
    copied = archive_ledger.restore_copies(con, place, ledger)
    archived = msgspec.structs.replace(ledger.archived, copied=copied)
    head = Head(record, cursors=ledger.cursors, archived=archived, texts_from=ledger.texts_from)
    con.execute(
        "INSERT INTO meta VALUES ('schema_version', ?), ('pair', ?), ('position', ?)",
        [str(SCHEMA_VERSION), pair_key, text_of(head)],
    )
    con.execute("COMMIT")


def checked(con: duckdb.DuckDBPyConnection, path: Path, pair_key: str) -> None:
    """Refuse what is not this pair's whole file."""
    if missing := tables(()).keys() - names(con):
        raise Damaged(f"{path}: has no {', '.join(sorted(missing))}")
    known = meta(con)
    version = known.get("schema_version", "")
    if not version.isdecimal() or known.get("pair") != pair_key:
        raise Damaged(
            f"{path}: holds {known.get('pair')} in schema version {version or 'none'}, not {pair_key}"
        )
    if int(version) > SCHEMA_VERSION:
        raise UsageError(f"{path}: schema version {version}; this marketd knows {SCHEMA_VERSION}")
    try:
        head = head_of(known)
    except (KeyError, msgspec.MsgspecError) as error:
        raise Damaged(f"{path}: meta does not say where it stands") from error
    for table, said in (("ticks", head.ticks), ("events", head.events)):
        if (found := _span(con, table)) != said:
            raise Damaged(f"{path}: {table} holds {found}, its last commit said {said}")


def extend(con: duckdb.DuckDBPyConnection, timeframes_s: tuple[int, ...]) -> None:
    """Add what the configuration says and the file has not."""
    if tables(timeframes_s).keys() - names(con):
        for statement in ddl(timeframes_s):
            con.execute(statement)


def names(con: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def meta(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return dict(con.execute("SELECT key, value FROM meta").fetchall())


def head_of(known: dict[str, str]) -> Head:
    return msgspec.json.decode(known["position"], type=Head)


def text_of(head: Head) -> str:
    return msgspec.json.encode(head).decode()


def _span(con: duckdb.DuckDBPyConnection, table: str) -> Span:
    numbers = "count(*), coalesce(min(seq), 0), coalesce(max(seq), 0)"
    (row,) = con.execute(f"SELECT {numbers} FROM {table}").fetchall()  # noqa: S608 - a name of our schema
    return Span(*row)
