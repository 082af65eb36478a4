"""When silence is a fault: of the whole feed, and of its trades alone. Pure."""

from __future__ import annotations

from market.inputs import FeedRecovered, FeedStale, Input
from market.times import NS_PER_S

CHECK_MAX_NS = 600 * NS_PER_S


class Silence:
    """Judge how long nothing came: of the whole feed, and of its trades alone."""

    def __init__(self, stale_after_s: float, *, stale: bool) -> None:
        self.stale = stale
        self.halted = False  # the venue says that the symbol is not traded now
        self._after_ns = int(stale_after_s * NS_PER_S)
        self._heard_ns = self._traded_ns = 0
        self._check_ns = self._after_ns  # of silent trades, longer after each check that found nothing

    def heard(self, now_ns: int) -> list[Input]:
        """Note that something came."""
        self._heard_ns, self.halted = now_ns, False
        if not self.stale:
            return []
        self.stale = False
        return [FeedRecovered(now_ns)]

    def traded(self, now_ns: int) -> None:
        self._traded_ns, self._check_ns = now_ns, self._after_ns

    def wonders(self, now_ns: int) -> bool:
        """Tell whether the silence is long enough to ask the venue whether the symbol is traded."""
        return not self.stale and self._silent_ns(now_ns) >= self._after_ns

    def judged(self, now_ns: int, reason: str, *, halted: bool) -> list[Input]:
        """Take the venue's answer, or that there is none: a market that is halted is no fault."""
        if halted or not self.wonders(now_ns):
            self.halted, self._heard_ns = halted, now_ns  # ask again after as long
            return []
        self.stale, self.halted = True, False
        return [FeedStale(now_ns, round(self._silent_ns(now_ns) / NS_PER_S, 3), reason)]

    def checks(self, now_ns: int) -> bool:
        """Tell whether to ask for the trades that should have come, ever less often."""
        self._traded_ns = self._traded_ns or now_ns
        if now_ns - self._traded_ns < self._check_ns:
            return False
        self._traded_ns, self._check_ns = now_ns, min(2 * self._check_ns, CHECK_MAX_NS)
        return True

    def _silent_ns(self, now_ns: int) -> int:
        self._heard_ns = self._heard_ns or now_ns  # silence counts from the first look at the clock
        return now_ns - self._heard_ns
