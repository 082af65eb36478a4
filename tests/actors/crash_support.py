"""Ends that nobody chose: kills between any two calls to the disk, disks that forget what was not synced."""

from __future__ import annotations

import os
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
    anything of the dying one can tidy up.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.durable = Durable()
        self.root, self.corpse = Path(), Path()
        self._left = 0
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
                shutil.copytree(self.root, self.corpse)
                raise Killed

    @contextmanager
    def armed(self, calls: int, root: Path, corpse: Path) -> Iterator[None]:
        """Kill before or after one of the next calls, if so many come."""
        self._left, self.root, self.corpse = calls, root, corpse
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
        self._held: dict[int, int] = {}  # open, so that no other file gets the inode

    def synced(self, fd: int) -> None:
        self._learn(Path(f"/proc/self/fd/{fd}").readlink())

    def learn(self, root: Path) -> None:
        """Begin with a folder all of which is on the disk."""
        for fd in self._held.values():
            os.close(fd)
        self._files, self._folders, self._held = {}, {}, {}
        for path in [root, *root.rglob("*")]:
            if ".duckdb" not in path.name:
                self._learn(path)

    def _learn(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)
        if path.is_dir():
            self._folders[inode] = {one.name: one.stat().st_ino for one in path.iterdir()}
        else:
            self._files[inode] = path.read_bytes()

    def restore(self, root: Path, into: Path) -> None:
        """Build a folder from what was synced of it."""
        into.mkdir()
        self._restore(self._folders[root.stat().st_ino], into)
        for one in root.rglob("*.duckdb*"):
            shutil.copy(one, into / one.relative_to(root))

    def _restore(self, names: dict[str, int], into: Path) -> None:
        for name, inode in names.items():
            if inode in self._folders:
                (into / name).mkdir()
                self._restore(self._folders[inode], into / name)
            elif ".duckdb" not in name:
                (into / name).write_bytes(self._files.get(inode, b""))
