"""What a venue allows one address, shared by every pair's process on this machine through one small file."""

from __future__ import annotations

import fcntl
import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from math import isfinite
from pathlib import Path
from typing import NamedTuple

MAX_BAN_S = 3 * 86_400.0
MAX_AHEAD_S = 900.0
"""A turn further ahead than this, or ten windows, is none that anybody waits for: the clock was set back."""
MAX_STEP_S = 1.0  # clocks of two processes on one machine differ by less
MAX_TURNS = 4_096


class _Turn(NamedTuple):
    at_s: float
    cost: float


@dataclass(slots=True)
class _Book:
    """The file: when it was written, until when the venue wants nothing, and the turns, in order of time."""

    written_s: float
    banned_s: float
    turns: deque[_Turn]


class Budget:
    """Give turns in order: in any `per_s` seconds at most `amount` of them, or one that costs more.

    Times are of the machine's clock, so that a ban outlives a reboot. What is in the file and cannot be so
    is not believed; what a clock wrote that has been set back since counts from then as it did.
    """

    def __init__(
        self, path: Path, amount: float, per_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._amount, self._per_s, self._clock = path, amount, per_s, clock

    def reserve(self, cost: float = 1.0) -> float:
        """Take a turn; return how many seconds to wait before it. Raises OSError."""
        now_s = self._clock()
        with self._open(now_s) as book:
            at_s = self._next(book.turns, cost, now_s)
            book.turns.append(_Turn(at_s, cost))
            return at_s - now_s

    def ban(self, wait_s: float) -> None:
        """Let nobody ask for so long: the venue said so. Raises OSError."""
        now_s = self._clock()
        with self._open(now_s) as book:
            book.banned_s = max(book.banned_s, now_s + min(wait_s, MAX_BAN_S))

    def banned_s(self) -> float:
        """Say for how many seconds nobody may ask. Raises OSError."""
        now_s = self._clock()
        with self._open(now_s) as book:
            return max(0.0, book.banned_s - now_s)

    def _next(self, turns: deque[_Turn], cost: float, now_s: float) -> float:
        """Find the next turn that still fits; let go of those that no longer count."""
        at_s = max(now_s, turns[-1].at_s) if turns else now_s
        used = sum(turn.cost for turn in turns)
        while turns and (used + cost > self._amount or self._end_s(turns[0]) <= now_s):
            oldest = turns.popleft()
            used -= oldest.cost
            at_s = max(at_s, self._end_s(oldest))
        return at_s

    def _end_s(self, turn: _Turn) -> float:
        return turn.at_s + self._per_s * max(1.0, turn.cost / self._amount)

    @contextmanager
    def _open(self, now_s: float) -> Iterator[_Book]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            raw = os.pread(fd, 16 * MAX_TURNS + 16, 0)
            book = _read(raw, now_s, now_s + max(MAX_AHEAD_S, 10 * self._per_s))
            was = _written(book)
            yield book
            if _written(book) != was:
                book.written_s = now_s
                new = _written(book)
                os.ftruncate(fd, 0)
                os.pwrite(fd, new, 0)
        finally:
            os.close(fd)


def _read(raw: bytes, now_s: float, latest_s: float) -> _Book:
    """Believe what can be so: a book that somebody else wrote, or nobody, is an empty one."""
    numbers = array("d")
    if len(raw) % 16 or not raw:
        return _Book(now_s, 0.0, deque())
    numbers.frombytes(raw)
    if not all(map(isfinite, numbers)):
        return _Book(now_s, 0.0, deque())
    back_s = ahead_s if (ahead_s := numbers[0] - now_s) > MAX_STEP_S else 0.0
    banned_s = numbers[1] - back_s if numbers[1] - back_s <= now_s + MAX_BAN_S else 0.0
    turns = deque(_Turn(at_s - back_s, cost) for at_s, cost in zip(numbers[2::2], numbers[3::2], strict=True))
    orderly = all(a.at_s <= b.at_s for a, b in pairwise(turns)) and all(turn.cost > 0 for turn in turns)
    if not orderly or (turns and turns[-1].at_s > latest_s):
        turns.clear()
    return _Book(numbers[0] - back_s, banned_s, turns)


def _written(book: _Book) -> bytes:
    turns = chain.from_iterable([*book.turns][-MAX_TURNS:])
    return array("d", [book.written_s, book.banned_s, *turns]).tobytes()
