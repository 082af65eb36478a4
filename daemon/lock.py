"""One daemon per data folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from market.errors import UsageError


class FolderLock:
    """Hold `{data_dir}/run/lock` until released or the process ends, whichever way it ends.

    Children do not inherit it. Raises UsageError for a folder that is held (naming the holder) or that cannot
    be written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fd: int | None = None

    def acquire(self) -> None:
        """Create data_dir and its run folder (0700) where needed, and take the lock."""
        try:
            run_dir = self._data_dir / "run"
            run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            run_dir.chmod(0o700)
            self._fd = _take(run_dir / "lock", self._data_dir)
        except OSError as error:
            raise UsageError(
                f"data_dir {self._data_dir}: {(error.strerror or str(error)).lower()}"
            ) from error

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def holder(data_dir: Path) -> int | None:
    """Name the process that holds the folder's lock (0: one that has not said so yet); None if it is free."""
    try:
        fd = os.open(data_dir / "run" / "lock", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _locked(fd) else _pid(fd)
    finally:
        os.close(fd)  # and with it the lock, if it was free


def _take(path: Path, data_dir: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _claim(fd, data_dir)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _claim(fd: int, data_dir: Path) -> None:
    if not _locked(fd):
        raise UsageError(f"data_dir {data_dir}: another marketd (pid {_pid(fd)}) is running on it")
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    os.fsync(fd)  # a full disk may answer only here


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(fd: int) -> int:
    text = os.pread(fd, 20, 0)
    return int(text) if text.isdigit() else 0
