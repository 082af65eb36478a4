"""How much of a pair's journal nobody needs any more: what its hot file and archive hold without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from actors import state
from market.inputs import Input, Quote, TickBatch
from storage.hot import HotFile, Left
from storage.journal import Segment, segments

NEVER_NS = 2**63 - 1


class Start(NamedTuple):
    """Where a segment begins: of before are ticks and events below these, and all that is timed by then."""

    first: int  # record
    until_ns: int
    next_seq: int
    next_event: int
    has_gaps: bool  # that are open, and may yet restate what was before
    reached_ns: int = -1  # ticks up to here that come after it are restated from before it
    timeframes_s: tuple[int, ...] = ()

    def is_before(self, table: str, first: int) -> bool:
        """Tell whether nothing was made before of a table that begins with this number or time."""
        least = {"ticks": self.next_seq, "events": self.next_event}
        return first >= least.get(table, self.until_ns + 1)


def needed_from(starts: Sequence[Start], left: Left) -> list[Start]:
    """List the segments that the journal may begin with, as far as tables other than quotes are concerned.

    A hot file is rebuilt from a segment's beginning on, so of what was made before it no row may be left
    that is only in the hot file; the segment's state has the living rows that had not ended. The first
    segment of all may always stay the first.
    """
    tables = left.first.keys() - {"quotes"}
    return [
        start
        for start in starts[1:]
        if start.first - 1 <= min(left.record, left.ended)
        and not start.has_gaps
        and all(start.is_before(table, left.first[table]) for table in tables)
    ]


class _Look(NamedTuple):
    """Times in the records of a segment: of the newest quote, and the least of ticks that came late."""

    newest_quote_ns: int = 0
    least_late_ns: int = NEVER_NS

    def plus(self, item: Input) -> _Look:
        if isinstance(item, Quote):
            return self._replace(newest_quote_ns=max(self.newest_quote_ns, item.ts_ns or item.received_ns))
        if isinstance(item, TickBatch) and item.late:
            return self._replace(least_late_ns=min(self.least_late_ns, int(item.ticks["ts_ns"].min())))
        return self


class JournalCut:
    """Find how far a journal can be cut at its front; every call belongs to the hot file's thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts: dict[int, Start] = {}  # by first record; bounded, as is the next, by the segments
        self._looks: dict[int, _Look] = {}

    def find(self, hot: HotFile) -> int:
        """Note in the archive's ledger, and return, the record with which the journal may begin.

        `Journal.drop_before` takes it from there. Raises Retryable if a disk refuses.
        """
        chain, left = segments(self._folder), hot.left()
        self._forget({segment.first for segment in chain[:-1]})
        starts = [self._start(segment) for segment in chain]
        for start in reversed(needed_from(starts, left)):
            before = [self._look(segment) for segment in chain if segment.first < start.first]
            quoted_ns = max(look.newest_quote_ns for look in before)
            if quoted_ns < left.first.get("quotes", NEVER_NS) and self._restates_alike(start, starts, chain):
                hot.release_journal(start.first)
                return start.first
        return chain[0].first if chain else 0

    def _restates_alike(self, start: Start, starts: list[Start], chain: list[Segment]) -> bool:
        """Tell whether whatever came late after a start is restated from it, or from later, as it was.

        Folded again without what was before, it would make other events, and those are numbered.
        """
        kept = [self._look(segment) for segment in chain if segment.first >= start.first]
        least_ns = min(look.least_late_ns for look in kept)
        frames = {other.timeframes_s for other in starts if other.first >= start.first}
        return least_ns == NEVER_NS or (least_ns > start.reached_ns and len(frames) == 1)

    def _start(self, segment: Segment) -> Start:
        if segment.first not in self._starts:
            head = segment.head()
            known = state.load(head.state)
            ledger = known.ledger
            until_ns = max(head.closed_ns, ledger.watermark_ns)  # a bar's time is its beginning
            numbers = ledger.next_seq, ledger.next_event, bool(ledger.gaps)
            begun = Start(segment.first, until_ns, *numbers, head.closed_ns, known.folds.timeframes_s)
            self._starts[segment.first] = begun
        return self._starts[segment.first]

    def _look(self, segment: Segment) -> _Look:
        """Read a segment; the last one, which grows, every time."""
        if segment.first not in self._looks:
            look = _Look()
            for record in segment.records():
                for item in record.inputs:
                    look = look.plus(item)
            self._looks[segment.first] = look
        return self._looks[segment.first]

    def _forget(self, finished: set[int]) -> None:
        """Forget what is gone, and what was read of a segment that has grown since."""
        for first in self._looks.keys() - finished:
            del self._looks[first]
        for first in self._starts.keys() - finished:
            del self._starts[first]
