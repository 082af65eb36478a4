"""How long a pair gathers, and how often it flushes, where many pairs share too little CPU."""

from __future__ import annotations

from market.times import NS_PER_MS, NS_PER_S

MAX_GATHER_NS = 250 * NS_PER_MS
MAX_FLUSH_NS = 5 * NS_PER_S
_FLUSH_TIMES = 10  # a flush is at work for a tenth of the time at most
_MEMORY = 8  # pauses; a single late one changes little


class Pacing:
    """Say when to work next, from what is wanted and from how the machine keeps up.

    A turn costs nearly the same for one tick as for twenty, a flush for one second's rows as for five's: in
    fewer and larger ones all pairs of a crowded machine go on, later; in small ones they would starve each
    other. That a turn takes long says nothing, there may be much to catch up on: that it begins late does.
    """

    def __init__(self, gather_ns: int, flush_ns: int) -> None:
        self._gather_ns, self._flush_ns = gather_ns, flush_ns
        self._late_ns = 0.0  # of late

    def gather_ns(self, late_ns: int) -> int:
        """Tell how long to gather: as long at least as pauses end late, the last by `late_ns`; 0 stays 0."""
        self._late_ns += (late_ns - self._late_ns) / _MEMORY
        return _within(self._gather_ns, int(self._late_ns), MAX_GATHER_NS)

    def flush_ns(self, took_ns: int) -> int:
        """Tell how long after the beginning of a flush that took `took_ns` the next one may begin."""
        return _within(self._flush_ns, took_ns * _FLUSH_TIMES, MAX_FLUSH_NS)


def _within(wanted_ns: int, needed_ns: int, bound_ns: int) -> int:
    """Give what is needed if that is more than what is wanted, but no more than the bound for it."""
    return max(wanted_ns, min(needed_ns, bound_ns)) if wanted_ns else 0
