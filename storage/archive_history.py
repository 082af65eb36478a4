"""The ticks that came before the journal's first segment, out of the archive, as the core once saw them."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import duckdb

from market.inputs import TickBatch
from market.ticks import Ticks
from market.times import DAY_NS, floor_ns
from storage.archive import ArchiveFile, Place, check, current, date_of
from storage.archive_pages import as_ticks, numbered_ticks
from storage.archive_sql import relation

PAGE_SEQ = 65_536


def ticks_before(place: Place, sweep: int, seq: int, ts_ns: int, texts_from: int = 0) -> Iterator[TickBatch]:
    """Yield ticks numbered below `seq`, in their order: whole UTC days, enough to fold bars from `ts_ns` on.

    These begin with the last day that has a tick before `ts_ns`, for a flat bar repeats a price; without
    one, with the first of all. For ids that are text, as they are from tick `texts_from` on, stand their
    numbers, by which folds order. Raises ArchiveDamaged.
    """
    files = current(place.files("ticks"), sweep)
    with closing(duckdb.connect(config={"threads": 1, "memory_limit": "64MB"})) as con:
        con.execute("SET enable_progress_bar = false")
        begin_ns = _begin(con, files, f"seq < {seq} AND epoch_ns(timestamp) < {ts_ns}", date_of(ts_ns))
        picked = [file for file in files if begin_ns is None or file.date >= date_of(begin_ns)]
        check(picked)
        for page in _pages(con, picked, seq, numbered_ticks(seq - 1, texts_from)):
            old = 0 if begin_ns is None else int((page["ts_ns"] < begin_ns).sum())
            yield TickBatch(page[page["ts_ns"] >= begin_ns] if old else page)


def _begin(con: duckdb.DuckDBPyConnection, files: list[ArchiveFile], where: str, until: str) -> int | None:
    """Find the start of the last day that has such a tick."""
    for date in sorted({file.date for file in files if file.date <= until}, reverse=True):
        of_day = [file for file in files if file.date == date]
        check(of_day)
        sql = f"SELECT max(epoch_ns(timestamp)) FROM ({relation(of_day, 'ticks')}) WHERE {where}"
        ((newest_ns,),) = con.execute(sql).fetchall()
        if newest_ns is not None:
            return floor_ns(int(newest_ns), DAY_NS)
    return None


def _pages(
    con: duckdb.DuckDBPyConnection, files: list[ArchiveFile], seq: int, select: str
) -> Iterator[Ticks]:
    if not files:
        return
    rows = relation(files, "ticks")
    ((first,),) = con.execute(f"SELECT min(seq) FROM ({rows})").fetchall()
    for start in range(first, seq, PAGE_SEQ):
        where = f"seq >= {start} AND seq < {min(start + PAGE_SEQ, seq)}"
        found = con.execute(f"{select} FROM ({rows}) WHERE {where} ORDER BY seq").fetchnumpy()
        if len(found["seq"]):
            yield as_ticks(found)
