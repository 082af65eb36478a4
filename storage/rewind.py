"""Find in the journal the state before a time, and the ticks since: what restating a bar needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from market.errors import Fatal
from market.inputs import TickBatch
from storage.journal import Segment, read, segments


class JournalHistory:
    """Read a pair's journal backwards; the files may be growing at their end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def before(self, number: int, ts_ns: int) -> tuple[bytes, list[Segment]]:
        """Return the newest state with no bar closed after `ts_ns`, and the segments from there on.

        No tick of those segments, nor a record from `number` on, may be older than what that state closed:
        else the search goes further back. Raises Fatal if no segment reaches back far enough.
        """
        chain = [s for s in segments(self._folder) if s.first <= number]
        oldest_ns = ts_ns
        for start in range(len(chain) - 1, -1, -1):
            times = (int(b.ticks["ts_ns"].min()) for b in batches(chain[start : start + 1], number))
            oldest_ns = min(oldest_ns, min(times, default=oldest_ns))
            head = chain[start].head()
            if head.closed_ns <= oldest_ns:
                return head.state, chain[start:]
        raise Fatal(f"{self._folder}: no segment reaches back to {oldest_ns}")


def batches(chain: list[Segment], number: int) -> Iterator[TickBatch]:
    """Yield the ticks journaled before record `number`, in the order of the journal."""
    for record in read(chain):
        if record.number >= number:
            return
        yield from (i for i in record.inputs if isinstance(i, TickBatch))
