"""What a pair knows of its archive beside its hot file, so that a lost hot file can be rebuilt above it."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema or a quoted path

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec
import structlog

from market.errors import Retryable
from storage.archive import ArchiveDamaged, Place, make_folder, publish, put_aside, refusals
from storage.archive_sql import quoted, source
from storage.schema import COPIED, columns
from storage.sweep import Archived

log = structlog.get_logger()
NAME = "archived.json"


class Ledger(msgspec.Struct, frozen=True):
    """What was recorded at the last sweep; the journal begins with segment `journal_from`.

    From tick `texts_from` on ids are text (0: none is).
    """

    archived: Archived = Archived()
    cursors: dict[str, tuple[int, int]] = {}
    journal_from: int = 0
    texts_from: int = 0


def load(folder: Path) -> Ledger:
    """Read the ledger of a pair's folder; an empty one where there is none."""
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except FileNotFoundError:
        return Ledger()
    except msgspec.MsgspecError as error:
        raise ArchiveDamaged(f"{path}: is damaged: {error}; restore it") from error


def save(folder: Path, ledger: Ledger) -> None:
    """Write the ledger durably; raises Retryable if the disk refuses, and the old one stays."""
    aside = folder / f"{NAME}.tmp"
    try:
        aside.write_bytes(msgspec.json.encode(ledger))
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise Retryable(f"{aside}: {error.strerror}") from error
    publish(aside, folder / NAME)


def copy(con: duckdb.DuckDBPyConnection, place: Place, table: str, record: int) -> None:
    """Copy a small table whole, as it is at a journal record; raises Retryable if the disk refuses."""
    path = place.copy(table)
    aside = path.with_suffix(".copy.tmp")
    try:
        with refusals(path):
            make_folder(path.parent)
        options = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{record: '{record}'}}"
        con.execute(f"COPY {table} TO {quoted(aside)} ({options})")
    except (duckdb.Error, Retryable):
        aside.unlink(missing_ok=True)
        raise
    publish(aside, path)


def restore_copies(con: duckdb.DuckDBPyConnection, place: Place, ledger: Ledger) -> dict[str, int]:
    """Put the copies' rows back; return the records they were made at.

    Without a ledger they are of a record that is gone, and put aside. A copy that cannot be read is told and
    left out: its rows since the journal's beginning are made again.
    """
    found: dict[str, int] = {}
    for table in COPIED:
        if not (path := place.copy(table)).exists():
            continue
        if ledger == Ledger():
            put_aside(path)
        else:
            try:
                found[table] = _restore(con, table, path)
            except (duckdb.Error, ArchiveDamaged) as error:
                log.error("archive_damaged", file=str(path), error=str(error).partition("\n")[0])
    return found


def _restore(con: duckdb.DuckDBPyConnection, table: str, path: Path) -> int:
    """Read first and insert then: an error inside a transaction would end it."""
    names = ", ".join(f"{name}::{kind} AS {name}" for name, kind in columns(table))
    with con.cursor() as reader:
        sql = f"SELECT value::VARCHAR FROM parquet_kv_metadata({quoted(path)}) WHERE key = 'record'"
        known = reader.execute(sql).fetchall()
        if len(known) != 1 or not str(known[0][0]).isdecimal():
            raise ArchiveDamaged(f"{path}: does not say when it was made")
        reader.execute(f"SELECT {names} FROM {source([path])}").fetchall()
    con.execute(f"INSERT INTO {table} SELECT {names} FROM {source([path])}")
    return int(known[0][0])
