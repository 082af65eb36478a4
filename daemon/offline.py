"""Answer for a pair whose daemon does not run: its file is first brought up to its journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from duckdb import DuckDBPyConnection

from actors.recovery import PairFiles, open_pair
from daemon import logs
from daemon.lock import FolderLock
from daemon.settings import Settings, is_contiguous
from market.errors import UsageError
from market.pairs import Pair
from market.rows import Row, Rows
from storage.proof import Claim, prove
from storage.reads import begin, export
from storage.resync import place

TURN_S = 30.0
"""So long one that asks without a daemon waits for another who does: each has the files for himself."""


def query(settings: Settings, pair: Pair, sql: str, fmt: str, out: Path) -> None:
    """Write the answer to `out`."""
    with _opened(settings, pair) as (cursor, opened):
        export(cursor, opened, sql, fmt, out)


def verify(settings: Settings, pair: Pair) -> list[Claim]:
    """Prove the pair's record."""
    with _opened(settings, pair) as (cursor, opened):
        timeframes_s = settings.engine.spec().timeframes_s
        return prove(cursor, opened, timeframes_s, contiguous=is_contiguous(pair))


def resync(settings: Settings, pair: Pair, store: str, from_ns: int) -> int:
    """Have a store get everything since a time again when the daemon runs next."""
    sinks = [sink for sink in settings.sinks if sink.name.partition(".")[0] == store]
    with _files(settings, pair) as files:
        places = {}
        with closing(begin(files.hot.connection)) as cursor:
            for sink in sinks:
                seq = place(cursor, files.core.open_rows(), sink.stream, from_ns)
                if seq is not None and seq < files.hot.cursor(sink.name):
                    places[sink.name] = seq
        for name, seq in places.items():
            files.hot.set_cursor(name, seq)
        files.hot.flush(Rows(), files.hot.position)
        return len(places)


@contextmanager
def _opened(settings: Settings, pair: Pair) -> Iterator[tuple[DuckDBPyConnection, dict[str, list[Row]]]]:
    with _files(settings, pair) as files, closing(begin(files.hot.connection)) as cursor:
        yield cursor, files.core.open_rows()


@contextmanager
def _files(settings: Settings, pair: Pair) -> Iterator[PairFiles]:
    logs.configure(settings.log.level, settings.log.format)  # to stderr: stdout is the answer's
    folder = settings.data_dir / pair.path
    if not folder.is_dir():
        raise UsageError(f"{settings.data_dir}: holds no record of {pair}")
    with FolderLock(settings.data_dir, TURN_S):
        files = open_pair(folder, pair, settings.engine.spec(), contiguous=is_contiguous(pair))
        try:
            yield files
        finally:
            files.close()
