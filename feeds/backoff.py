from __future__ import annotations

import random


class Backoff:
    """Give the next delay: doubling from `first_s` to `cap_s`, jittered by half; `reset` after healthy data."""

    def __init__(self, first_s: float = 0.2, cap_s: float = 30.0) -> None:
        self._first_s, self._cap_s = first_s, cap_s
        self._next_s = first_s

    def reset(self) -> None:
        self._next_s = self._first_s

    def next_s(self) -> float:
        delay = self._next_s
        self._next_s = min(2 * delay, self._cap_s)
        return delay * random.uniform(0.5, 1.0)
