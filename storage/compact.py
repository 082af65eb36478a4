"""Put the small files of the archive together: a day of a pair's table becomes one file, 5 bytes a tick.

It runs beside the pairs, which only add files. A merged file is read back before it gets its name, and from
then on those it was made of are superseded; they stay for readers who listed them before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import duckdb
import structlog

from market.errors import MarketdError, Retryable
from market.times import NS_PER_S
from storage.archive import (
    ArchiveDamaged,
    ArchiveFile,
    Place,
    check_anew,
    crc_of,
    current,
    date_of,
    publish,
    refusals,
)
from storage.archive_ledger import NAME, load
from storage.archive_sql import Packer, latest, quoted, relation, sums
from storage.duck import first_line, verdict
from storage.durable import sync_path
from storage.schema import is_keyed, is_sequence, time_of

log = structlog.get_logger()
MANY = 12  # files of a day that still grows
GRACE_S = 600.0  # a reader opens what it listed sooner
MEMORY = "256MB"
WORK = "compact"


class Compacted(NamedTuple):
    """How many files were made, of how many, and which of these are damaged: they stay as they are."""

    made: int = 0
    merged: int = 0
    damaged: tuple[Path, ...] = ()

    def plus(self, other: Compacted) -> Compacted:
        return Compacted(self.made + other.made, self.merged + other.merged, (*self.damaged, *other.damaged))


def to_merge(files: Iterable[ArchiveFile], sweep: int, today: str) -> list[list[ArchiveFile]]:
    """Choose, of files that count after `sweep` sweeps, those of a day that are to become one."""
    days: dict[str, list[ArchiveFile]] = {}
    for file in sorted(current(files, sweep), key=lambda file: file.first):
        days.setdefault(file.date, []).append(file)
    return [day for date, day in days.items() if len(day) > (MANY if date >= today else 1)]


def superseded(files: Sequence[ArchiveFile], sweep: int) -> list[ArchiveFile]:
    """Choose the files that nobody needs any more."""
    kept = set(current(files, sweep))
    return [file for file in files if file.last <= sweep and file not in kept]


def compact(root: Path) -> int:
    """Merge what there is to merge in the whole archive; return how many files were made.

    Raises ArchiveDamaged, naming the first of the damaged files and how many they are, when the rest is done.
    """
    done = compact_all(root)
    if done.damaged:
        raise ArchiveDamaged(f"{len(done.damaged)} damaged files, the first: {done.damaged[0]}")
    return done.made


def compact_all(root: Path, now_s: float | None = None) -> Compacted:
    """Merge what there is to merge, and remove what was superseded a while ago.

    What a pair's ledger does not tell of yet is left alone. A damaged file is named and counted, and the rest
    goes on; raises Retryable for what a disk refused, when the rest is done.
    """
    done, refused = Compacted(), list[MarketdError]()
    with closing(duckdb.connect(config={"threads": 1, "memory_limit": MEMORY})) as con:
        con.execute("SET enable_progress_bar = false")
        con.execute(f"SET temp_directory = {quoted(root / 'tmp')}")
        for folder in sorted(path.parent for path in root.parent.glob(f"*/*/*/{NAME}")):
            try:
                with refusals(root):
                    place, sweep = _place(root, folder), load(folder).archived.sweep
                    told = _Compactor(con, place).run(sweep, time.time() if now_s is None else now_s)
                done = done.plus(told)
            except Retryable as error:
                refused.append(error)
    if refused:
        raise refused[0]
    return done


def _place(root: Path, folder: Path) -> Place:
    exchange, market, symbol = folder.parts[-3:]
    return Place(root, f"{exchange}.{market}", symbol)


class _Compactor:
    """Work on one pair's part of the archive."""

    def __init__(self, con: duckdb.DuckDBPyConnection, place: Place) -> None:
        self._con, self._place = con, place
        self._packer = Packer(con)

    def run(self, sweep: int, now_s: float) -> Compacted:
        """Do what there is to do for each table."""
        for stray in self._place.strays(WORK):
            stray.unlink()
        done = Compacted()
        for table in self._place.tables():
            files = self._place.files(table)
            self._remove(files, sweep, now_s)
            for day in to_merge(files, sweep, date_of(int(now_s) * NS_PER_S)):
                done = done.plus(self._merge_whole(table, day))
        return done

    def _remove(self, files: Sequence[ArchiveFile], sweep: int, now_s: float) -> None:
        """Remove superseded files, none before the one in its place has been there for a while."""
        for file in superseded(files, sweep):
            above = [other for other in files if file.inside(other)]
            if all(now_s - other.path.stat().st_mtime > GRACE_S for other in above):
                file.path.unlink(missing_ok=True)

    def _merge_whole(self, table: str, day: list[ArchiveFile]) -> Compacted:
        """Merge the runs of files between damaged ones."""
        damaged = tuple(file.path for file in day if not self._is_whole(file))
        runs: list[list[ArchiveFile]] = [[]]
        for file in day:
            if file.path in damaged:
                runs.append([])
            else:
                runs[-1].append(file)
        runs = [run for run in runs if len(run) > 1]
        for run in runs:
            self._merge(table, run)
        return Compacted(len(runs), sum(map(len, runs)), damaged)

    def _is_whole(self, file: ArchiveFile) -> bool:
        try:
            check_anew([file])
        except ArchiveDamaged as error:
            log.error("archive_damaged", file=str(file.path), error=str(error))
            return False
        return True

    def _merge(self, table: str, files: Sequence[ArchiveFile]) -> None:
        aside = self._place.aside(table, files[0].date, WORK)
        span = files[0].first, files[-1].last
        try:
            self._gather(table, files)
            self._packer.write(table, "merged", aside)
            sync_path(aside)
            crc = crc_of(aside)
            self._verify(table, aside)
            publish(aside, path := self._place.path(table, files[0].date, span, crc))
        except duckdb.Error as error:
            raise _named(error, aside) from error
        finally:
            aside.unlink(missing_ok=True)
        log.info("archive_compacted", file=str(path), files=len(files))

    def _gather(self, table: str, files: Sequence[ArchiveFile]) -> None:
        """Read once what is then looked at several times; more of it than memory holds goes to the disk."""
        rows = latest(files, table) if is_keyed(table) else relation(files, table)
        order = "seq" if is_sequence(table) else time_of(table)
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE merged AS {rows} ORDER BY {order}")

    def _verify(self, table: str, aside: Path) -> None:
        made = relation([ArchiveFile(aside, 0, 0, "")], table)
        if (kept := sums(self._con, table, f"({made})")) != (given := sums(self._con, table, "merged")):
            raise Retryable(f"{aside}: reads back as {kept}, not as {given}")


def _named(error: duckdb.Error, aside: Path) -> MarketdError:
    named = verdict(error, aside)
    return named if isinstance(named, Retryable) else Retryable(f"{aside}: {first_line(error)}")
