"""Find in the journal the state before a time, and the ticks since: what restating a bar needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from market.errors import Fatal
from market.inputs import TickBatch
from storage.journal import Head, Segment, read, segments


class TooOld(Fatal):
    """The journal begins later."""


class JournalHistory:
    """Read a pair's journal backwards; the files may be growing at their end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def before(self, number: int, ts_ns: int) -> tuple[Head, list[Segment]]:
        """Return the newest state before record `number` that closed no bar after `ts_ns`, and what follows.

        Raises TooOld if no segment reaches back far enough.
        """
        chain = [s for s in segments(self._folder) if s.first <= number]
        for start in range(len(chain) - 1, -1, -1):
            head = chain[start].head()
            if head.closed_ns <= ts_ns:
                return head, chain[start:]
        raise TooOld(f"{self._folder}: no segment reaches back to {ts_ns}")


def batches(chain: list[Segment], number: int) -> Iterator[TickBatch]:
    """Yield the ticks journaled before record `number`, in the order of the journal."""
    for record in read(chain):
        if record.number >= number:
            return
        yield from (i for i in record.inputs if isinstance(i, TickBatch))
