"""Ends that nobody chose: kills between any two calls to the disk, disks that forget what was not synced."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.inserts import Inserter

CALLS = ("write", "ftruncate", "fdatasync", "fsync", "rename", "replace", "unlink", "link")


class Killed(BaseException):
    """Ends a life wherever it is; only the story that armed it catches it."""


class Reaper:
    """Stand behind every call to the disk, keep what each sync made durable, and kill at the one it is told.

    What a killed process left is what other processes see at that moment: a copy of the folder, made before
    anything of the dying one can tidy up. What a power cut left is what was synced, and some of the rest.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.durable = Durable()
        self._left = 0
        self._bury: Callable[[], object] = _nothing
        for name in CALLS:
            patch.setattr(os, name, self._watched(getattr(os, name), name))
        patch.setattr(Inserter, "run", self._watched(Inserter.run, "sql"))

    def _watched(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._count()
            made = call(*args, **kwargs)
            if name in {"fsync", "fdatasync"}:
                self.durable.synced(args[0])
            self._count()
            return made

        return watched

    def _count(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self._bury()
                raise Killed

    @contextmanager
    def armed(self, calls: int, bury: Callable[[], object]) -> Iterator[None]:
        """Kill before or after one of the next calls, if so many come; `bury` copies what is left then."""
        self._left, self._bury = calls, bury
        try:
            yield
        finally:
            self._left = 0


class Durable:
    """What a disk would still have after a power cut: file contents and folders' names as last synced.

    DuckDB syncs beneath Python, at every commit: its files are taken as they are.
    """

    def __init__(self) -> None:
        self._files: dict[int, bytes] = {}  # by inode
        self._folders: dict[int, dict[str, int]] = {}
        self._subfolders: set[int] = set()
        self._held: dict[int, int] = {}  # open, so that no other file gets the inode

    def synced(self, fd: int) -> None:
        self._learn(Path(f"/proc/self/fd/{fd}").readlink())

    def learn(self, root: Path) -> None:
        """Begin with a folder all of which is on the disk."""
        for fd in self._held.values():
            os.close(fd)
        self._files, self._folders, self._subfolders, self._held = {}, {}, set(), {}
        for path in [root, *root.rglob("*")]:
            if ".duckdb" not in path.name:
                self._learn(path)

    def _learn(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)
        if path.is_dir():
            self._folders[inode] = {one.name: one.stat().st_ino for one in path.iterdir()}
            self._subfolders.update(one.stat().st_ino for one in path.iterdir() if one.is_dir())
        else:
            self._files[inode] = path.read_bytes()

    def restore(self, root: Path, into: Path, rng: random.Random) -> None:
        """Build a folder from what was synced of it, and a part of what was not."""
        into.mkdir()
        self._restore(self._folders[root.stat().st_ino], into, rng)
        for one in root.rglob("*.duckdb*"):
            shutil.copy(one, into / one.relative_to(root))

    def _restore(self, names: dict[str, int], into: Path, rng: random.Random) -> None:
        for name, inode in names.items():
            if inode in self._subfolders:
                (into / name).mkdir()
                self._restore(self._folders.get(inode, {}), into / name, rng)
            elif ".duckdb" not in name:
                (into / name).write_bytes(self._torn(inode, rng))

    def _torn(self, inode: int, rng: random.Random) -> bytes:
        synced = self._files.get(inode, b"")
        if inode not in self._held:
            return synced
        tail = os.pread(self._held[inode], 1 << 26, len(synced))
        kept = tail[: rng.randint(0, len(tail))]
        return synced + (bytes(len(kept)) if rng.random() < 0.3 else kept)


def _nothing() -> None:
    """Leave nothing: nobody is to be killed."""
