"""A copy of the hot file that stands for what a mended journal has no more: `{record}.base` in its folder.

A lost hot file is made of it as it would be of the journal, until the archive holds all of before that.
"""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import duckdb
from msgspec.structs import replace

from storage.archive_ledger import Ledger
from storage.duck import connect, translated
from storage.durable import sync_path
from storage.hot import HotFile
from storage.hot_meta import Span, head_of, meta, names, text_of
from storage.schema import is_living
from storage.sweep import Cut, Mark


def keep(hot: HotFile, path: Path, folder: Path) -> None:
    """Copy the hot file at `path` durably into a journal's folder."""
    hot.checkpoint()
    copy = folder / f"{hot.position:016d}.base"
    shutil.copyfile(path, copy)
    sync_path(copy)


def find(folder: Path, first: int) -> Path | None:
    """Find the copy that a journal beginning after record `first` goes on from; remove those of before it."""
    for copy in sorted(folder.glob("*.base")):
        if int(copy.stem) >= first:
            return copy
        copy.unlink()
    return None


def restore(copy: Path, path: Path, ledger: Ledger) -> None:
    """Make the hot file of its copy, without what the archive has got since."""
    aside = path.with_name("trading.base")
    shutil.copyfile(copy, aside)
    with translated(aside, opening=True), closing(connect(aside)) as con:
        head = head_of(meta(con))
        con.execute("BEGIN")
        for table in ledger.archived.marks.keys() & names(con):
            gone = _gone(table, ledger.archived.marks[table], head.record)
            con.execute(f"DELETE FROM {table} WHERE {gone}")
        spans = {table: _span(con, table) for table in ("ticks", "events")}
        archived = replace(ledger.archived, copied={})
        head = replace(head, archived=archived, cursors=head.cursors | ledger.cursors, **spans)
        con.execute("UPDATE meta SET value = ? WHERE key = 'position'", [text_of(head)])
        con.execute("COMMIT")
        con.execute("CHECKPOINT")
    sync_path(aside)
    aside.rename(path)
    sync_path(path.parent)


def _gone(table: str, mark: Mark, record: int) -> str:
    """Say which rows the archive has; living ones the journal makes again from the mark's record on."""
    if is_living(table):
        return "true" if mark.record > record else "false"
    return Cut(table, mark.upto, 0).where


def _span(con: duckdb.DuckDBPyConnection, table: str) -> Span:
    numbers = "count(*), coalesce(min(seq), 0), coalesce(max(seq), 0)"
    ((rows, first, last),) = con.execute(f"SELECT {numbers} FROM {table}").fetchall()
    return Span(rows, first, last)
