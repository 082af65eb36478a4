"""When silence is a fault: of the whole feed, and of its trades alone. Pure."""

from __future__ import annotations

from market.inputs import FeedRecovered, FeedStale, Input
from market.times import NS_PER_S

CHECK_MAX_NS = 600 * NS_PER_S
VERDICT_NS = 10 * NS_PER_S  # without an answer of the venue by then, silence is a fault


class Silence:
    """Judge how long nothing came: of the whole feed, and of its trades alone.

    A silent feed is stale unless the venue says that the symbol is not traded now, or REST shows that nothing
    was. Each such answer is trusted for twice as long as the one before, until something comes.
    """

    def __init__(self, stale_after_s: float, *, stale: bool) -> None:
        self.stale = stale
        self.halted = False  # the venue says that the symbol is not traded now
        self._after_ns = int(stale_after_s * NS_PER_S)
        self._heard_ns = self._calm_ns = self._traded_ns = 0
        self._patience_ns = self._after_ns
        self._check_ns = self._after_ns  # of silent trades, longer after each check that found nothing
        self._useless = False  # what comes cannot be stored
        self._suspicion = ""  # how it is that nothing comes, while REST is asked whether something should

    def heard(self, now_ns: int) -> list[Input]:
        """Note that something came."""
        self._heard_ns = self._calm_ns = now_ns
        self._patience_ns, self._suspicion, self.halted = self._after_ns, "", False
        if not self.stale or self._useless:
            return []
        self.stale = False
        return [FeedRecovered(now_ns)]

    def useful(self, now_ns: int, why_not: str) -> list[Input]:
        """Judge what comes: for a reason it may be as good as silence."""
        news, self._useless = bool(why_not) and not self._useless, bool(why_not)
        if not news or self.stale:
            return []
        self.stale = True
        return [FeedStale(now_ns, 0.0, why_not)]

    def traded(self, now_ns: int) -> None:
        self._traded_ns, self._check_ns = now_ns, self._after_ns

    def wonders(self, now_ns: int) -> bool:
        """Tell whether the silence is long enough to ask the venue whether the symbol is traded."""
        return not self.stale and not self._suspicion and self._overdue_ns(now_ns) >= 0

    def halts(self, now_ns: int) -> None:
        """Take the venue's word that the symbol is not traded now, which is no fault."""
        if self.wonders(now_ns):
            self.halted = True
            self._calms(now_ns)

    def suspects(self, now_ns: int, reason: str) -> None:
        """Take the venue's word that the symbol is traded: REST has to tell whether it was."""
        if self.wonders(now_ns):
            self._suspicion = reason

    def fails(self, now_ns: int, reason: str) -> list[Input]:
        """Say that the feed is stale; `reason` is how it is that nothing comes."""
        if self.stale or self._overdue_ns(now_ns) < 0:
            return []
        self.stale, self.halted, self._suspicion = True, False, ""
        return [FeedStale(now_ns, round((now_ns - self._heard_ns) / NS_PER_S, 3), reason)]

    def tick(self, now_ns: int, reason: str, *, checking: bool, missed: bool) -> list[Input]:
        """Let time pass; `missed` says that REST had what the socket did not bring, `checking` is not yet."""
        if (self._suspicion and missed) or self._overdue_ns(now_ns) >= VERDICT_NS:
            return self.fails(now_ns, self._suspicion or reason)
        if self._suspicion and not checking:
            self._calms(now_ns)
        return []

    def checks(self, now_ns: int) -> bool:
        """Tell whether to ask for the trades that should have come, ever less often."""
        self._traded_ns = self._traded_ns or now_ns
        if now_ns - self._traded_ns < self._check_ns:
            return False
        self._traded_ns, self._check_ns = now_ns, min(2 * self._check_ns, CHECK_MAX_NS)
        return True

    def deaf(self) -> None:
        """Note that a check found something: the next one is due as if trades had come."""
        self._check_ns = self._after_ns

    def _calms(self, now_ns: int) -> None:
        self._calm_ns, self._suspicion = now_ns, ""
        self._patience_ns = min(2 * self._patience_ns, CHECK_MAX_NS)

    def _overdue_ns(self, now_ns: int) -> int:
        """Say for how long the silence has been long enough to ask; negative: it is not yet."""
        if not self._heard_ns:  # silence counts from the first look at the clock
            self._heard_ns = self._calm_ns = now_ns
        return now_ns - self._calm_ns - self._patience_ns
