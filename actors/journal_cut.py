"""How much of a pair's journal nobody needs any more: what its hot file and archive hold without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from actors import state
from market.inputs import Quote
from storage.hot import HotFile, Left
from storage.journal import Segment, segments


class Start(NamedTuple):
    """Where a segment begins: of before are ticks and events below these, and all that is timed by then."""

    first: int  # record
    until_ns: int
    next_seq: int
    next_event: int
    has_gaps: bool  # that are open, and may yet restate what was before

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


class JournalCut:
    """Find how far a journal can be cut at its front; every call belongs to the hot file's thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts: dict[int, Start] = {}  # by first record; bounded, as is the next, by the segments
        self._newest_quotes: dict[int, int] = {}

    def find(self, hot: HotFile) -> int:
        """Note in the archive's ledger, and return, the record with which the journal may begin.

        `Journal.drop_before` takes it from there. Raises Retryable if a disk refuses.
        """
        chain, left = segments(self._folder), hot.left()
        self._forget({segment.first for segment in chain})
        for start in reversed(needed_from([self._start(segment) for segment in chain], left)):
            before = [segment for segment in chain if segment.first < start.first]
            if "quotes" not in left.first or max(map(self._newest_quote, before)) < left.first["quotes"]:
                hot.release_journal(start.first)
                return start.first
        return chain[0].first if chain else 0

    def _start(self, segment: Segment) -> Start:
        if segment.first not in self._starts:
            head = segment.head()
            ledger = state.load(head.state).ledger
            until_ns = max(head.closed_ns, ledger.watermark_ns)  # a bar's time is its beginning
            numbers = ledger.next_seq, ledger.next_event, bool(ledger.gaps)
            self._starts[segment.first] = Start(segment.first, until_ns, *numbers)
        return self._starts[segment.first]

    def _newest_quote(self, segment: Segment) -> int:
        """Read the time under which the newest quote of a segment is stored."""
        if segment.first not in self._newest_quotes:
            quotes = (i for record in segment.records() for i in record.inputs if isinstance(i, Quote))
            newest_ns = max((quote.ts_ns or quote.received_ns for quote in quotes), default=0)
            self._newest_quotes[segment.first] = newest_ns
        return self._newest_quotes[segment.first]

    def _forget(self, there: set[int]) -> None:
        for known in (self._starts, self._newest_quotes):
            for first in known.keys() - there:
                del known[first]
