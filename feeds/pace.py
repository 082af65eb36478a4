"""How often to ask again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from market.times import NS_PER_S

RETRY_NS = NS_PER_S // 4
RETRY_MAX_NS = 30 * NS_PER_S


@dataclass(slots=True)
class Pace:
    """Ask again ever more slowly, until something is gained."""

    after_ns: int = 0
    _waits: int = 0

    def due(self, now_ns: int) -> bool:
        return now_ns >= self.after_ns

    def postpone(self, now_ns: int) -> None:
        """Wait RETRY_NS, and each time twice as long, up to RETRY_MAX_NS."""
        self.after_ns = now_ns + min(RETRY_NS << min(self._waits, 16), RETRY_MAX_NS)
        self._waits += 1

    def reset(self) -> None:
        """Ask at once."""
        self.after_ns = self._waits = 0
