"""Left-overs of a daemon that was killed: they would hold its files and its memory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from market.errors import Fatal

VARIABLE = "MARKETD_RUN_DIR"
"""In the environment of everything a daemon starts, handed down to the children's children."""

_RAY_TITLES = (b"ray::", b"ray-dashboard-")


def environment(run_dir: Path, variable: str = VARIABLE) -> dict[str, str]:
    """Give the variable that marks a child as this run folder's."""
    return {variable: str(run_dir.absolute())}


def find(run_dir: Path, variable: str = VARIABLE) -> list[int]:
    """List the processes marked as this run folder's, this one and its ancestors apart.

    Ray's processes write their titles over their environment, now and then over all of it: those are known by
    the files they keep open in `{run_dir}/ray` (a folder, or a link to one).
    """
    mark = f"{variable}={run_dir.absolute()}".encode()
    ray_dir = (run_dir / "ray").resolve()
    spared = _lineage()
    return [
        pid
        for pid in _processes()
        if pid not in spared and (mark in _variables(pid) or _is_ray(pid, ray_dir))
    ]


def kill(run_dir: Path, variable: str = VARIABLE, timeout_s: float = 10.0) -> int:
    """Kill what `find` lists until nothing is left, and count it; raise Fatal if it does not go in time.

    Only for the holder of the folder's lock: anyone else would kill a living daemon's children.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + timeout_s
    while (left := find(run_dir, variable)) or any(map(_is_ending, killed)):
        if time.monotonic() > deadline:
            raise Fatal(f"processes {left or sorted(killed)} of {run_dir} do not end")
        for pid in left:
            _kill(pid)
        killed.update(left)
        time.sleep(0.01)
    return len(killed)


def _is_ending(pid: int) -> bool:
    """Tell whether a killed process still has its files: it loses its environment before them."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # gone since it was listed


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _variables(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or gone; a zombie's is empty
        return []


def _is_ray(pid: int, ray_dir: Path) -> bool:
    try:
        if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_RAY_TITLES):
            return False
        return any(ray_dir in _target(link).parents for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # another user's, or gone
        return False


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except OSError:  # closed since it was listed
        return link


def _lineage() -> set[int]:
    pid, lineage = os.getpid(), set[int]()
    while pid:
        lineage.add(pid)
        pid = _parent(pid)
    return lineage


def _parent(pid: int) -> int:
    return int((_stat(pid) or ["", "0"])[1])


def _stat(pid: int) -> list[str]:
    """Give a process's state, parent and so on; nothing of one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
