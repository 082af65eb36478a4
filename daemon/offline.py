"""Answer for a pair whose daemon does not run: its file is first brought up to its journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from duckdb import DuckDBPyConnection

from actors.recovery import open_pair
from daemon import logs
from daemon.lock import FolderLock
from daemon.settings import Settings, is_contiguous
from market.errors import UsageError
from market.pairs import Pair
from market.rows import Row
from storage.proof import Claim, prove
from storage.reads import begin, export


def query(settings: Settings, pair: Pair, sql: str, fmt: str, out: Path) -> None:
    """Write the answer to `out`."""
    with _opened(settings, pair) as (cursor, opened):
        export(cursor, opened, sql, fmt, out)


def verify(settings: Settings, pair: Pair) -> list[Claim]:
    """Prove the pair's record."""
    with _opened(settings, pair) as (cursor, opened):
        timeframes_s = settings.engine.spec().timeframes_s
        return prove(cursor, opened, timeframes_s, contiguous=is_contiguous(pair))


@contextmanager
def _opened(settings: Settings, pair: Pair) -> Iterator[tuple[DuckDBPyConnection, dict[str, list[Row]]]]:
    logs.configure(settings.log.level, settings.log.format)  # to stderr: stdout is the answer's
    folder = settings.data_dir / pair.path
    if not folder.is_dir():
        raise UsageError(f"{settings.data_dir}: holds no record of {pair}")
    with FolderLock(settings.data_dir):
        files = open_pair(folder, pair, settings.engine.spec(), contiguous=is_contiguous(pair))
        try:
            with closing(begin(files.hot.connection)) as cursor:
                yield cursor, files.core.open_rows()
        finally:
            files.close()
