"""Move old rows of a pair's file into the archive: written, synced, named, read back; recorded by the caller.

A sweep has a number. Until the file's own transaction says that it happened, nobody reads what it wrote, and
the next sweep of that number begins by removing it.
"""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import duckdb
import msgspec

from market.errors import Retryable
from market.rows import Row, Rows
from market.times import DAY_NS
from storage.archive import (
    ArchiveDamaged,
    ArchiveFile,
    Place,
    crc_of,
    date_of,
    make_folder,
    publish,
    put_aside,
    refusals,
)
from storage.archive_sql import Packer, quoted, relation, sums
from storage.durable import sync_path
from storage.schema import LIVING, is_keyed, is_living, is_sequence, place_in_order, time_of

MAX_ROWS = 262_144  # of one table in one sweep, so that a flush waits for a fraction of a second at most
WORK = "sweep"

Plan: TypeAlias = Mapping[str, tuple[int, int | None]]
"""By table: rows older than this time (ns) may go, those numbered above the second not (None: all may)."""


Living: TypeAlias = Mapping[str, Collection[str]]
"""By living table: the keys of the rows that have not ended."""


class Mark(NamedTuple):
    """Rows numbered up to `upto` (or, without numbers, older than it) are in the archive.

    Those without numbers: as far as journal records up to `record` had made them; of living rows, all that
    had ended then.
    """

    upto: int
    record: int


class Archived(msgspec.Struct, frozen=True):
    """What of a pair's rows the archive holds, after so many sweeps."""

    sweep: int = 0
    marks: dict[str, Mark] = {}
    copied: dict[str, int] = {}  # by table: the record at which its copy was made

    def upto(self, table: str) -> int:
        return self.marks[table].upto if table in self.marks else 0


class Part(NamedTuple):
    rows: int = 0
    bytes: int = 0
    files: int = 0


class Swept(NamedTuple):
    """What a sweep moved; with `more`, a table had more than one sweep may take."""

    sweep: int
    tables: dict[str, Part]
    more: bool = False


class Cut(NamedTuple):
    """The rows of a table that go."""

    table: str
    upto: int
    rows: int
    more: bool = False
    living: tuple[str, ...] = ()  # keys of those that stay, of a living table

    @property
    def where(self) -> str:
        if is_living(self.table):
            listed = ", ".join(map(quoted, self.living))
            return f"{LIVING[self.table]} NOT IN ({listed})" if listed else "true"
        column, sign = ("seq", "<=") if is_sequence(self.table) else ("epoch_ns(timestamp)", "<")
        return f"{column} {sign} {self.upto}"


def cut(con: duckdb.DuckDBPyConnection, table: str, limits: tuple[int, int | None], before: int) -> Cut:
    """Find what may go of a table of which `before` said how much went already."""
    if is_sequence(table):
        return _cut_sequence(con, table, *limits)
    upto = max(limits[0], before)
    ((rows,),) = con.execute(f"SELECT count(*) FROM {table} WHERE epoch_ns(timestamp) < {upto}").fetchall()
    return Cut(table, upto, rows)


def cut_living(con: duckdb.DuckDBPyConnection, table: str, living: Collection[str]) -> Cut:
    """Find what has ended."""
    part = Cut(table, 1, 0, living=tuple(living))
    ((rows,),) = con.execute(f"SELECT count(*) FROM {table} WHERE {part.where}").fetchall()
    return part._replace(rows=rows)


def _cut_sequence(con: duckdb.DuckDBPyConnection, table: str, cutoff_ns: int, limit: int | None) -> Cut:
    """Cut before the first row that is not old, or not acknowledged.

    An event that carries this host's time is old when a bar was closed after it that is.
    """
    young = f"min(seq) FILTER (epoch_ns(timestamp) >= {cutoff_ns}) - 1"
    closed = f"max(seq) FILTER (event = 'CANDLE_CLOSED' AND epoch_ns(timestamp) < {cutoff_ns})"
    old = f"coalesce({young}, max(seq))"
    if table == "events":
        old = f"greatest({old}, {closed})"
    ((first, upto),) = con.execute(f"SELECT min(seq), {old} FROM {table}").fetchall()
    if first is None:
        return Cut(table, 0, 0)
    upto = upto if limit is None else min(upto, limit)
    last = min(upto, first + MAX_ROWS - 1)
    return Cut(table, last, max(0, last - first + 1), upto > last)


def expect(place: Place, table: str, upto: int) -> None:
    """Raise ArchiveDamaged if the archive has no file at all of a table of which it holds rows."""
    if upto and not place.files(table):
        raise ArchiveDamaged(f"{place.folder(table)}: its files are gone; is the archive mounted?")


class Sweeper:
    """Write the files of one pair's sweeps."""

    def __init__(self, con: duckdb.DuckDBPyConnection, place: Place) -> None:
        self._con, self._place = con, place
        self._packer = Packer(con)
        self._clean = False  # whether nothing is left of a sweep that was not recorded
        self._written: list[Path] = []  # by the sweep at work, removed if it fails

    @contextmanager
    def attempt(self, sweep: int) -> Iterator[None]:
        """Leave nothing behind unless all of it succeeds; raises Retryable for what the disk refuses."""
        with refusals(self._place.root):
            if not self._clean:
                self.remove_strays(sweep - 1)
            self._clean, self._written = False, []
            try:
                yield
            except BaseException:
                for path in self._written:
                    path.unlink(missing_ok=True)
                raise
            self._clean = True

    def expect(self, table: str, upto: int) -> None:
        expect(self._place, table, upto)

    def write(self, part: Cut, sweep: int) -> Part:
        """Write a table's rows, a file for each day."""
        rows = f"{part.table} WHERE {part.where}"
        files = [self._write_day(part.table, rows, day, sweep) for day in self._days(part.table, rows)]
        self._verify(part.table, rows, files)
        return Part(part.rows, sum(file.path.stat().st_size for file in files), len(files))

    def _days(self, table: str, rows: str) -> list[int]:
        sql = f"SELECT DISTINCT epoch_ns({time_of(table)}) // {DAY_NS} AS day FROM {rows} ORDER BY day"
        return [day for (day,) in self._con.execute(sql).fetchall()]

    def _write_day(self, table: str, rows: str, day: int, sweep: int) -> ArchiveFile:
        date = date_of(day * DAY_NS)
        aside = self._place.aside(table, date, WORK)
        make_folder(aside.parent)
        self._written.append(aside)
        of_day = f"epoch_ns({time_of(table)}) BETWEEN {day * DAY_NS} AND {(day + 1) * DAY_NS - 1}"
        order = time_of(table) if is_keyed(table) else ""  # the others are stored in the order they came in
        self._packer.write(table, f"{rows} AND {of_day}", aside, order)
        sync_path(aside)
        crc = crc_of(aside)
        path = self._place.path(table, date, (sweep, sweep), crc)
        self._written.append(path)
        publish(aside, path)
        return ArchiveFile(path, sweep, sweep, crc)

    def _verify(self, table: str, rows: str, files: list[ArchiveFile]) -> None:
        kept = sums(self._con, table, f"({relation(files, table)})")
        if kept != (gone := sums(self._con, table, rows)):
            raise Retryable(f"{files[0].path}: reads back as {kept}, not as {gone}")

    def remove_strays(self, sweep: int) -> None:
        """Remove what an unrecorded sweep after `sweep` left: its rows are all still in the file.

        Files of any later one are of another life of the pair; they are put aside.
        """
        for stray in self._place.strays(WORK):
            stray.unlink()
        for file in self._place.above(sweep):
            if (file.first, file.last) == (sweep + 1, sweep + 1):
                file.path.unlink()
            else:
                put_aside(file.path)


def without_archived(rows: Rows, record: int, archived: Archived) -> Rows:
    """Leave out what the archive has of a record's rows: a file that was rebuilt folds them again.

    Living rows stay. They shadow the archive's, and what became of them tells which of those never were.
    """
    upto = archived.upto("ticks")
    ticks = [part.cut(min(len(part), max(0, upto + 1 - part.first_seq))) for part in rows.ticks]

    def left(table: str, made: list[Row]) -> list[Row]:
        if record <= archived.copied.get(table, -1):
            return []
        mark = archived.marks.get(table)
        if mark is None or (not is_sequence(table) and record > mark.record):
            return made
        at, last = place_in_order(table), mark.upto if is_sequence(table) else mark.upto - 1
        return [row for row in made if row[at] > last]

    return Rows(
        [part for part in ticks if len(part)],
        {table: left(table, made) for table, made in rows.inserted.items()},
        {table: left(table, made) for table, made in rows.replaced.items()},
        rows.living,
        rows.flags if record > archived.copied.get("amended", -1) else _young(rows.flags, upto),
        rows.meta,
    )


def _young(flags: Mapping[int, int], upto: int) -> dict[int, int]:
    return {seq: flag for seq, flag in flags.items() if seq > upto}
