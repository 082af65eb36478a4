"""What came before, as the core wants it: the journal, and before its first segment hot file and archive."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from actors import state
from actors.history import CHUNK_TICKS, Rewind
from market.inputs import TickBatch
from market.pairs import Pair
from storage import archive_ledger
from storage.archive import place_of
from storage.archive_history import ticks_before
from storage.archive_pages import Pages
from storage.hot import HotFile
from storage.hot_meta import head_of, meta
from storage.journal import Head, JournalDamaged, Segment
from storage.reads import begin
from storage.rewind import JournalHistory, TooOld, batches

MAX_AGAIN = 1_000_000  # ticks that are folded again from a state older than the journal

Chain: TypeAlias = Callable[[], list[Segment]]


def nothing() -> list[Segment]:
    return []


class JournalPast:
    """A History; `chain` lists the segments there are.

    `older` are those of a damaged journal: of them only the states count, the ticks after these are stored.
    """

    def __init__(
        self, chain: Chain, folder: Path, pair: Pair, hot: HotFile | None, older: Chain = nothing
    ) -> None:
        self._chain, self._older, self._folder, self._hot = chain, older, folder, hot
        self._pair, self._place = pair, place_of(folder, pair.key)
        self._journal = JournalHistory(chain)

    def before(self, number: int, ts_ns: int) -> Rewind:
        try:
            with _noted(self._folder):
                head, chain = self._journal.before(number, ts_ns)
        except TooOld:
            if known := self._state_before(ts_ns):
                seq, head = known
                return Rewind(
                    head.state, head.closed_ns, lambda: self._noting(self._batches_from(seq, number))
                )
            return Rewind(b"", -1, lambda: self._noting(self._all_batches(number, ts_ns)))
        return Rewind(head.state, head.closed_ns, lambda: self._noting(batches(chain, number)))

    def _state_before(self, ts_ns: int) -> tuple[int, Head] | None:
        """Find a state older than the journal, the empty one if need be, and the number of the next tick."""
        for segment in reversed(self._older()):
            with suppress(JournalDamaged):
                head = segment.head()
                seq = state.load(head.state).ledger.next_seq
                if head.closed_ns <= ts_ns and seq <= self._end() <= seq + MAX_AGAIN:
                    return seq, head
        if self._older is not nothing and self._end() <= MAX_AGAIN:
            return 1, Head(0, -1, state.dump(state.new(self._pair.key, ())))
        return None

    def _end(self) -> int:
        """Give the number of the first tick after the journal's first state."""
        chain = self._chain()
        return state.load(chain[0].head().state).ledger.next_seq if chain else 0

    def _batches_from(self, seq: int, number: int) -> Iterator[TickBatch]:
        yield from self._pages(seq - 1, self._end() - 1)
        yield from batches(self._chain(), number)

    def _noting(self, found: Iterator[TickBatch]) -> Iterator[TickBatch]:
        with _noted(self._folder):
            yield from found

    def _all_batches(self, number: int, ts_ns: int) -> Iterator[TickBatch]:
        chain = self._chain()
        yield from self._stored(self._end() or sys.maxsize, ts_ns)
        yield from batches(chain, number)

    def _stored(self, end: int, ts_ns: int) -> Iterator[TickBatch]:
        """Yield the ticks numbered below `end`, from archive and hot file."""
        if self._hot is None:
            ledger = archive_ledger.load(self._folder)
            yield from ticks_before(self._place, ledger.archived.sweep, end, ts_ns, ledger.texts_from)
            return
        with closing(begin(self._hot.connection)) as cursor:
            head = head_of(meta(cursor))
        yield from ticks_before(self._place, head.archived.sweep, end, ts_ns, head.texts_from)
        yield from self._pages(head.archived.upto("ticks"), end - 1)

    def _pages(self, after: int, upto: int) -> Iterator[TickBatch]:
        """Yield ticks after + 1 to upto as hot file and archive have them at one moment."""
        if self._hot is None:
            return
        with closing(begin(self._hot.connection)) as cursor:
            head, here = head_of(meta(cursor)), Pages(cursor, self._place)
            upto = min(upto, max(head.ticks.last, head.archived.upto("ticks")))
            for seq in range(after, upto, CHUNK_TICKS):
                last = min(seq + CHUNK_TICKS, upto)
                yield TickBatch(here.ticks(seq, last, head.archived, head.texts_from).ticks)


def suspicion(folder: Path) -> Path:
    """Name the file that is there when the whole journal is to be looked at."""
    return folder / "journal.suspect"


@contextmanager
def _noted(folder: Path) -> Iterator[None]:
    """Let the next start look at the whole journal if any of it turns out damaged."""
    try:
        yield
    except JournalDamaged:
        suspicion(folder).touch()
        raise
