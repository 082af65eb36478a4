"""The Parquet archive by its names: which files there are, which of them count, and whether they are whole.

`{table}/source={exchange}.{market}/date={UTC day of timestamp}/{symbol}-{first}-{last}-{crc32}.parquet`
holds what the sweeps numbered first to last took of one day. A compacted file spans several sweeps, and one
whose span lies inside another's is superseded: nobody reads it, so that a kill at any moment doubles nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from market.errors import Retryable
from market.times import NS_PER_S
from storage.durable import sync_path

FOLDER = "archive"
_CHUNK = 1 << 20
_NAME = re.compile(r"(\d{8,})-(\d{8,})-([0-9a-f]{8})\.parquet")


class ArchiveDamaged(Retryable):
    """A file of the archive is not what was written: who needs it waits until someone has restored it."""


class ArchiveFile(NamedTuple):
    path: Path
    first: int  # sweep
    last: int
    crc: str

    @property
    def date(self) -> str:
        return self.path.parent.name

    def inside(self, other: ArchiveFile) -> bool:
        """Tell whether this file is superseded by `other`."""
        if self.date != other.date or self.path == other.path:
            return False
        if (self.first, self.last) == (other.first, other.last):
            return self.path.name < other.path.name
        return other.first <= self.first and self.last <= other.last


@dataclass(frozen=True, slots=True)
class Place:
    """A pair's part of the archive."""

    root: Path
    source: str  # exchange.market
    symbol: str

    def folder(self, table: str) -> Path:
        return self.root / table / f"source={self.source}"

    def copy(self, table: str) -> Path:
        """Name the file that holds the whole of a small table."""
        return self.folder(table) / f"{self.symbol}.parquet"

    def path(self, table: str, date: str, span: tuple[int, int], crc: str) -> Path:
        name = f"{self.symbol}-{span[0]:08d}-{span[1]:08d}-{crc}.parquet"
        return self.folder(table) / date / name

    def aside(self, table: str, date: str, work: str) -> Path:
        """Name a file that is being written; `work` keeps those who write apart."""
        return self.folder(table) / date / f"{self.symbol}.{work}.tmp"

    def files(self, table: str) -> list[ArchiveFile]:
        """List what there is of a table, superseded files and those of unfinished sweeps among it."""
        with refusals(self.root):
            return sorted(file for day in _days(self.folder(table)) for file in self._of_day(day))

    def tables(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def strays(self, work: str) -> Iterator[Path]:
        """Find what a kill left of `work`."""
        for table in self.tables():
            for day in _days(self.folder(table)):
                if (path := self.aside(table, day.name, work)).exists():
                    yield path

    def above(self, sweep: int) -> list[ArchiveFile]:
        """List the files of every table that hold rows of sweeps after `sweep`."""
        return [file for table in self.tables() for file in self.files(table) if file.last > sweep]

    def _of_day(self, day: Path) -> Iterator[ArchiveFile]:
        start = f"{self.symbol}-"
        for entry in os.scandir(day):
            if entry.name.startswith(start) and (found := _NAME.fullmatch(entry.name[len(start) :])):
                yield ArchiveFile(Path(entry.path), int(found[1]), int(found[2]), found[3])


def place_of(folder: Path, pair_key: str) -> Place:
    """Find the archive of a pair's folder; a folder that is not named after its pair keeps its own."""
    exchange, market, symbol = pair_key.split(":")
    named = folder.parts[-3:] == (exchange, market, symbol)
    return Place((folder.parents[2] if named else folder) / FOLDER, f"{exchange}.{market}", symbol)


def current(files: Iterable[ArchiveFile], sweep: int) -> list[ArchiveFile]:
    """Pick what counts for a reader who knows of `sweep` sweeps."""
    days: dict[str, list[ArchiveFile]] = {}
    for file in files:
        if file.last <= sweep:
            days.setdefault(file.date, []).append(file)
    return [file for day in days.values() for file in day if not any(map(file.inside, day))]


def date_of(ts_ns: int) -> str:
    """Name the folder of a time's UTC day."""
    return f"date={datetime.fromtimestamp(ts_ns // NS_PER_S, UTC):%Y-%m-%d}"


def check(files: Iterable[ArchiveFile]) -> None:
    """Compare files with the checksums in their names, each once in a process's life.

    Raises ArchiveDamaged, and FileNotFoundError for one that a compaction has removed.
    """
    for file in files:
        stat = file.path.stat()
        try:
            whole = _crc_of(file.path, stat.st_size, stat.st_mtime_ns) == file.crc
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ArchiveDamaged(f"{file.path}: cannot be read: {error.strerror}") from error
        if not whole:
            raise ArchiveDamaged(f"{file.path}: is damaged; restore it, or move it away to go on without it")


def check_anew(files: Iterable[ArchiveFile]) -> None:
    """Compare files with the checksums in their names, whatever was found before."""
    _crc_of.cache_clear()
    check(files)


def crc_of(path: Path) -> str:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = crc32(chunk, crc)
    return f"{crc:08x}"


@lru_cache(maxsize=65_536)
def _crc_of(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - they tell one content from another
    return crc_of(path)


def make_folder(folder: Path) -> None:
    """Make a folder that survives a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_path(path.parent)


def put_aside(path: Path) -> None:
    """Take a file out of the archive without losing it."""
    path.rename(path.with_name(f"{path.name}.aside"))


def publish(aside: Path, path: Path) -> None:
    """Give a written file its name, durably; raises Retryable if the disk refuses."""
    with refusals(path):
        sync_path(aside)
        aside.rename(path)
        sync_path(path.parent)


@contextmanager
def refusals(what: object) -> Iterator[None]:
    """Say Retryable for what a disk or its permissions refuse."""
    try:
        yield
    except OSError as error:
        raise Retryable(f"{what}: {error.strerror}") from error


def _days(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith("date="))
    return []
