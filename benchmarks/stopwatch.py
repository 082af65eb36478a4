"""CPU by step: methods wrapped for a while, so that what they cost, on whichever thread, is added up."""

from __future__ import annotations

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for undo in self._undo:
            undo()

    def attach(self, step: str, owner: object, name: str) -> None:
        """Measure each call of `owner.name`, which must not be called within another measured one."""
        work = getattr(owner, name)

        def measured(*args: Any, **kwargs: Any) -> Any:
            start_ns = time.thread_time_ns()
            try:
                return work(*args, **kwargs)
            finally:
                self.spent_ns[step] += time.thread_time_ns() - start_ns

        setattr(owner, name, measured)
        self._undo.append(lambda: setattr(owner, name, work))
