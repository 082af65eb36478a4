"""DuckDB's door: one way to open it, its faults in our words, and the mark of a running checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from market.errors import Fatal, MarketdError, Retryable
from storage.durable import sync_path

_PASSING = ("lock on file", "Permission denied", "No space left", "Too many open files")
_RUINED = ("orrupt", "Could not read enough bytes")
_LOST = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


class Damaged(MarketdError):
    """A file that cannot be trusted: `set_aside` it and rebuild it from the journal."""


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open for one writer among many processes, with no checkpoint but the deliberate one."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "async_threads": 1,
        "memory_limit": "64MB",
        "wal_autocheckpoint": "1TB",
        "temp_directory": str(path.parent / "tmp"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    con = duckdb.connect(path, config=config)
    con.execute("PRAGMA disable_checkpoint_on_shutdown")
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    return con


@contextmanager
def translated(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Turn DuckDB's errors into ours; a file that turns out Damaged is marked, and not opened again."""
    try:
        yield
    except duckdb.Error as error:
        told = verdict(error, path, opening=opening)
        if isinstance(told, Damaged) and not opening:
            set_mark(path, there=True)
        raise told from error


def verdict(error: duckdb.Error, where: object, *, opening: bool = False) -> MarketdError:
    """Name a fault by what the caller can do; a file that does not open is Damaged unless waiting helps."""
    text = first_line(error)
    told = f"{where}: {text}"
    if isinstance(error, duckdb.OutOfMemoryException) or any(words in text for words in _PASSING):
        return Retryable(told)
    if opening or isinstance(error, _LOST) or any(words in text for words in _RUINED):
        return Damaged(told)
    return Retryable(told) if isinstance(error, duckdb.OperationalError) else Fatal(told)


def first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def mark(path: Path) -> Path:
    """Name the file that is there while a checkpoint runs, which a kill makes a ruin, and beside a ruin."""
    return path.with_name("checkpointing")


def set_mark(path: Path, *, there: bool) -> None:
    """Put or remove the mark, durably."""
    if there:
        mark(path).touch()
    else:
        mark(path).unlink(missing_ok=True)
    sync_path(path.parent)


def set_aside(path: Path) -> None:
    """Move a damaged file out of the way, as `.damaged` beside it; only the latest of these is kept."""
    for part in (path, wal(path)):
        if part.exists():
            part.replace(part.with_name(f"{part.name}.damaged"))
    set_mark(path, there=False)
