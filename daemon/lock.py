"""One daemon per data folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from market.errors import UsageError


class Held(UsageError):
    """Another process has the folder."""


class FolderLock:
    """Hold `{data_dir}` and its `run/lock` until released or the process ends, whichever way it ends.

    The file names the holder; the folder stays held if the file is removed. Children inherit neither. Raises
    Held for a folder that still is after `wait_s`, UsageError for one that cannot be written.
    """

    def __init__(self, data_dir: Path, wait_s: float = 0.0) -> None:
        self._data_dir, self._wait_s = data_dir, wait_s
        self._fds: list[int] = []

    def acquire(self) -> None:
        """Create data_dir and its run folder (0700) where needed, and take the lock."""
        try:
            run_dir = self._data_dir / "run"
            run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            run_dir.chmod(0o700)
            self._fds = self._taken()
        except OSError as error:
            raise UsageError(
                f"data_dir {self._data_dir}: {(error.strerror or str(error)).lower()}"
            ) from error

    def _taken(self) -> list[int]:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return _take(self._data_dir)
            except Held:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def release(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

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


def _take(data_dir: Path) -> list[int]:
    fds = [os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        fds.append(os.open(data_dir / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600))
        _claim(fds, data_dir)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _claim(fds: list[int], data_dir: Path) -> None:
    file = fds[-1]
    if not all(_locked(fd) for fd in fds):
        by = f" (pid {_pid(file)})" if _pid(file) else ""  # none where its lock file was removed
        raise Held(f"data_dir {data_dir}: another marketd{by} is running on it")
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    os.fsync(file)  # a full disk may answer only here


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(fd: int) -> int:
    text = os.pread(fd, 20, 0)
    return int(text) if text.isdigit() else 0
