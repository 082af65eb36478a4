"""The host's clock as one process goes by it: it may jump ahead, and never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Tell the time, in ns since the epoch; a host that is set back is not followed.

    Timers would stand still for as long as it was set back, and the venue's trades look as if they came from
    the future. From then on the time told is ahead of the host's by just that much.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._ahead_ns = wall_ns() - steady_ns()

    def now_ns(self) -> int:
        # the wall clock is read first: a pause between the two readings then never counts as a step ahead
        ahead_ns = self._wall_ns() - (steady_ns := self._steady_ns())
        self._ahead_ns = max(self._ahead_ns, ahead_ns)
        return steady_ns + self._ahead_ns


now_ns = Clock().now_ns
