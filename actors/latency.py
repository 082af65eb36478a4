"""The newest delays, for people to look at."""

from __future__ import annotations

from collections import deque

import numpy as np

from market.times import NS_PER_MS

SERIES = 32


class Latencies:
    """Keep the newest `bound` delays in nanoseconds; give percentiles in milliseconds."""

    def __init__(self, bound: int = 512) -> None:
        self._delays: deque[int] = deque(maxlen=bound)

    def add(self, delay_ns: int) -> None:
        self._delays.append(delay_ns)

    def percentiles_ms(self) -> tuple[float, float] | None:
        """Return (p50, p99), or None before anything was measured."""
        if not self._delays:
            return None
        p50, p99 = np.percentile(np.array(self._delays), (50, 99)) / NS_PER_MS
        return round(float(p50), 3), round(float(p99), 3)


class Durations:
    """Count durations, and keep the newest SERIES of them for whoever looks now and then."""

    def __init__(self) -> None:
        self._count = 0
        self._newest: deque[float] = deque(maxlen=SERIES)

    def add(self, seconds: float) -> None:
        self._count += 1
        self._newest.append(seconds)

    @property
    def series(self) -> tuple[int, list[float]]:
        return self._count, list(self._newest)
