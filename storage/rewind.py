"""Find in the journal the state before a time, and the ticks since: what restating a bar needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from market.errors import Fatal
from market.inputs import TickBatch
from storage.journal import Head, Segment, read


class TooOld(Fatal):
    """The journal begins later."""


class JournalHistory:
    """Read a pair's journal backwards; `segments` lists what it is now, and may be growing at its end."""

    def __init__(self, segments: Callable[[], list[Segment]]) -> None:
        self._segments = segments

    def before(self, number: int, ts_ns: int) -> tuple[Head, list[Segment]]:
        """Return the newest state before record `number` that closed no bar after `ts_ns`, and what follows.

        Raises TooOld if no segment reaches back far enough.
        """
        chain = [s for s in self._segments() if s.first <= number]
        for start in range(len(chain) - 1, -1, -1):
            head = chain[start].head()
            if head.closed_ns <= ts_ns:
                return head, chain[start:]
        raise TooOld(f"the journal: no segment reaches back to {ts_ns}")


def batches(chain: list[Segment], number: int) -> Iterator[TickBatch]:
    """Yield the ticks journaled before record `number`, in the order of the journal."""
    for record in read(chain):
        if record.number >= number:
            return
        yield from (i for i in record.inputs if isinstance(i, TickBatch))
