"""What a venue allows one address, shared by every pair's process on this machine through one small file."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RECORD = struct.Struct("<dd")  # when all that was reserved is used up; until when the venue wants nothing
MAX_BAN_S = 3 * 86_400.0


class Budget:
    """Reserve in turn: at most `amount` at once, and then as fast as `amount` in `per_s` seconds allows.

    Times are of the machine's monotonic clock, which all its processes share; a file from before a reboot
    holds a time that is too far ahead to be one of ours, and is not believed.
    """

    def __init__(self, path: Path, amount: float, per_s: float) -> None:
        self._path, self._per_s = path, per_s
        self._cost_s = per_s / amount

    def reserve(self, cost: float = 1.0) -> float:
        """Take a turn; return how many seconds to wait before it. Raises OSError."""
        with self._locked() as (fd, used_s, banned_s, now_s):
            turn_s = max(used_s, now_s - self._per_s) + cost * self._cost_s
            os.pwrite(fd, _RECORD.pack(turn_s, banned_s), 0)
            return max(turn_s - now_s, banned_s - now_s, 0.0)

    def ban(self, wait_s: float) -> None:
        """Let nobody ask for so long: the venue said so. Raises OSError."""
        with self._locked() as (fd, used_s, banned_s, now_s):
            until_s = max(banned_s, now_s + min(wait_s, MAX_BAN_S))
            os.pwrite(fd, _RECORD.pack(used_s, until_s), 0)

    def banned_s(self) -> float:
        """Say for how many seconds nobody may ask. Raises OSError."""
        with self._locked() as (_, _, banned_s, now_s):
            return max(0.0, banned_s - now_s)

    @contextmanager
    def _locked(self) -> Iterator[tuple[int, float, float, float]]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            raw, now_s = os.pread(fd, _RECORD.size, 0), time.monotonic()
            used_s, banned_s = _RECORD.unpack(raw) if len(raw) == _RECORD.size else (0.0, 0.0)
            used_s = used_s if used_s <= now_s + 10 * self._per_s else 0.0
            yield fd, used_s, banned_s if banned_s <= now_s + MAX_BAN_S else 0.0, now_s
        finally:
            os.close(fd)
