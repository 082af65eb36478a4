"""CPU by step: functions wrapped for a while, so that what they cost, on whichever thread, is added up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Stopwatch:
    """Adds up CPU nanoseconds by the name of a step, until the `with` block ends."""

    def __init__(self) -> None:
        self.spent_ns: Counter[str] = Counter()
        self._undo: list[Callable[[], None]] = []
        self._inner = threading.local()  # of each thread: what was measured within the call at work

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for undo in self._undo:
            undo()

    def attach(self, step: str, owner: object, name: str) -> None:
        """Measure each call of `owner.name`, without what other measured calls within it took."""
        work = getattr(owner, name)

        def measured(*args: Any, **kwargs: Any) -> Any:
            outer, self._inner.ns = getattr(self._inner, "ns", 0), 0
            start_ns = time.thread_time_ns()
            try:
                return work(*args, **kwargs)
            finally:
                spent_ns = time.thread_time_ns() - start_ns
                self.spent_ns[step] += spent_ns - self._inner.ns
                self._inner.ns = outer + spent_ns

        setattr(owner, name, measured)
        self._undo.append(lambda: setattr(owner, name, work))
