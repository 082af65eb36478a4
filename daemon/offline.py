"""Answer for a pair whose daemon does not run: its file is first brought up to its journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.recovery import PairFiles, open_pair
from daemon.lock import FolderLock
from daemon.settings import Settings
from market.errors import UsageError
from market.pairs import Pair
from storage.proof import Claim, prove
from storage.reads import export


def query(settings: Settings, pair: Pair, sql: str, fmt: str, out: Path) -> None:
    """Write the answer to `out`."""
    with _opened(settings, pair) as files:
        export(files.hot.connection, files.core.open_rows(), sql, fmt, out)


def verify(settings: Settings, pair: Pair) -> list[Claim]:
    """Prove the pair's record."""
    with _opened(settings, pair) as files:
        return prove(files.hot.connection, files.core.open_rows(), settings.engine.spec().timeframes_s)


@contextmanager
def _opened(settings: Settings, pair: Pair) -> Iterator[PairFiles]:
    folder = settings.data_dir / pair.path
    if not folder.is_dir():
        raise UsageError(f"{settings.data_dir}: holds no record of {pair}")
    with FolderLock(settings.data_dir):
        files = open_pair(folder, pair, settings.engine.spec())
        try:
            yield files
        finally:
            files.close()
