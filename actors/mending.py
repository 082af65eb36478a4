"""Mend a journal of which something is damaged or gone, from what is whole of it and from the hot file.

The hot file is the second copy of what the journal said up to its position. So:

- A state at the hot file's position that whole records lead to is taken as it is: nothing is lost.
- Without one, the state is made from the last whole one and the ticks that hot file and archive hold beyond
  it; counters, open gaps and clocks are what the hot file's tables say. Nothing is lost, numbers go on where
  they were, and the journal begins anew behind the hot file's position.
- What was not in the hot file yet, a flush interval's worth, is taken from the whole records around the
  damage, written again under numbers without a hole. Trades that no record has are an open gap, which the
  feed fills.
- Where the journal no longer reaches back to what the archive holds, a copy of the hot file is laid beside
  it, for the case that the hot file is lost before the archive has caught up.
- With the hot file lost too, the journal is followed to the damage, and from there on as before.

So no number of a tick or an event is given to another one, but for events of the last flush interval (without
the hot file: since the damage) whose records are damaged: nobody knows any more what those said.

The mended journal is made beside and takes the place of the damaged one, which is kept as `journal.damaged`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from actors import state
from actors.core import PairCore
from actors.history import History
from actors.journal_past import Chain, nothing
from actors.salvage import salvaged
from actors.state import Ledger
from feeds import clock
from market.errors import Fatal, UsageError
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from storage import base
from storage.archive_ledger import Ledger as Archive
from storage.durable import sync_path
from storage.hot import HotFile
from storage.journal import Journal, Piece, segments, survey
from storage.sweep import Archived

log = structlog.get_logger()
REASON = "a damaged journal"


def finish(folder: Path) -> None:
    """Take up where a kill ended the exchange of a mended journal for a damaged one."""
    mended = _aside(folder)
    if not mended.exists():
        return
    if folder.exists():  # it was not complete
        shutil.rmtree(mended)
    else:
        mended.rename(folder)
        sync_path(folder.parent)


@dataclass(frozen=True, slots=True)
class Run:
    """Pieces that follow each other whole; `number` is the last record that they lead to."""

    pieces: Sequence[Piece]
    number: int


def leading_to(pieces: Sequence[Piece], position: int) -> Run | None:
    """Find the longest run with a state at or before a position that leads on the furthest, if any."""
    last = next((i for i in reversed(range(len(pieces))) if _begins_by(pieces[i], position)), None)
    if last is None:
        return None
    run = _run(pieces[last:])
    for first in reversed(range(last)):
        longer = _run(pieces[first:])
        if longer.number < run.number or longer.pieces[-1].segment != run.pieces[-1].segment:
            break
        run = longer
    return run


def _begins_by(piece: Piece, position: int) -> bool:
    return piece.head is not None and piece.head.number <= position


def _run(pieces: Sequence[Piece]) -> Run:
    """Follow pieces for as long as nothing is missing."""
    number, taken = pieces[0].segment.first - 1, 0
    for piece in pieces:
        if piece.head is None or piece.head.number != number:
            break
        taken += 1
        whole = 0
        for found in piece.numbers:
            if found != number + 1:
                break
            number, whole = found, whole + 1
        if whole != len(piece.numbers):
            break
    return Run(pieces[: max(1, taken)], number)


class Mender:
    """Make a journal anew; `fresh` is the state of a pair that never was.

    `history` makes one that goes back over some segments, and then from states of others over what is stored.
    """

    def __init__(
        self,
        folder: Path,
        fresh: state.CoreState,
        history: Callable[[Chain, Chain], History],
        *,
        contiguous: bool,
    ) -> None:
        self._folder, self._fresh, self._history = folder, fresh, history
        self._contiguous = contiguous
        self._pieces = survey(folder)

    def mend(self, hot: HotFile | None, ledger: Archive) -> None:
        """Put a whole journal in the place of the damaged one; without `hot`, it will be rebuilt from that.

        Raises Fatal if what is left does not lead to what is stored.
        """
        position = hot.position if hot is not None else self._oldest()
        run, mended = leading_to(self._pieces, position), _aside(self._folder)
        core = self._reached(run)
        if hot is not None and (run is None or run.number < position):
            salvaged(core, hot)
            run, journal = None, _begun(mended, core)
        else:
            assert run is not None  # noqa: S101 - the oldest head leads to itself
            journal = _copied(run, mended)
        begins_late = run is None or run.pieces[0].segment.first > max(1, ledger.journal_from)
        if hot is not None and begins_late:
            base.keep(hot, self._folder.parent / "trading.duckdb", mended)
        self._refuse_unless_reached(core.state.ledger, ledger.archived if hot is None else hot.archived)
        core = self._core(core.state, lambda: segments(mended), lambda: [p.segment for p in self._pieces])
        again = self._take_again(core, journal)
        journal.close()
        self._exchange(mended)
        log.warning("journal_mended", pair=core.state.pair, behind=position, taken_again=again)

    def _oldest(self) -> int:
        """Without a hot file only the beginning will do."""
        if not self._pieces or self._pieces[0].head is None:
            raise Fatal(
                f"{self._folder}: its beginning is damaged, and the hot file is gone; "
                "restore them, or move the pair's folder away to begin anew"
            )
        return self._pieces[0].head.number

    def _reached(self, run: Run | None) -> PairCore:
        """Fold a run to its end."""
        if run is None:
            return self._core(self._fresh, nothing)
        head = run.pieces[-1].head
        assert head is not None  # noqa: S101 - a run is made of such
        loaded = state.load(head.state)
        if loaded.pair != self._fresh.pair:
            raise UsageError(f"{self._folder}: this journal is of {loaded.pair}, not of {self._fresh.pair}")
        core = self._core(loaded, lambda: [piece.segment for piece in run.pieces])
        for record in run.pieces[-1].segment.found():
            if record.number <= run.number:
                core.handle(record.number, record.inputs)
        return core

    def _core(self, known: state.CoreState, chain: Chain, older: Chain = nothing) -> PairCore:
        return PairCore(known, self._history(chain, older), contiguous=self._contiguous)

    def _refuse_unless_reached(self, ledger: Ledger, archived: Archived) -> None:
        ahead = archived.upto("ticks") >= ledger.next_seq or archived.upto("events") >= ledger.next_event
        if ahead:
            raise Fatal(
                f"{self._folder}: is damaged at record {ledger.position + 1}, the archive knows later ones, "
                "and the hot file is gone; restore them, or move the pair's folder away to begin anew"
            )

    def _take_again(self, core: PairCore, journal: Journal) -> int:
        """Journal what is whole behind the damage once more; return how many records that makes."""
        expected, again, lost = core.state.ledger.position + 1, 0, False
        for piece in self._pieces:
            for record in piece.segment.found(expected - 1):
                torn = record.number != expected
                expected, lost = record.number + 1, lost or torn
                inputs = record.inputs
                if lost:
                    inputs = list(self._told(core.state.ledger, inputs, torn=torn))
                for part in core.records(inputs):
                    core.handle(journal.append(part), part)
                    again += 1
        return again

    def _told(self, ledger: Ledger, inputs: Sequence[Input], *, torn: bool) -> Iterator[Input]:
        """Name what is missing before ticks, and let no gap be closed whose trades were lost again."""
        for item in inputs:
            if isinstance(item, TickBatch) and self._hole(ledger, item, torn=torn):
                yield self._opened(ledger, item)
            if not (isinstance(item, GapClosed) and self._is_lost_again(ledger, item)):
                yield item

    def _hole(self, ledger: Ledger, batch: TickBatch, *, torn: bool) -> bool:
        if self._contiguous:
            return ledger.next_id is not None and int(batch.ticks["trade_id"].min()) > ledger.next_id
        return torn and ledger.next_seq > 1 and not ledger.gaps

    def _opened(self, ledger: Ledger, batch: TickBatch) -> GapOpened:
        first_id, last_id = ledger.next_seq, ledger.next_seq
        if self._contiguous:
            first_id, last_id = ledger.next_id or 0, int(batch.ticks["trade_id"].min()) - 1
        to_ns = int(batch.ticks["ts_ns"].min())
        return GapOpened(
            first_id, last_id, ledger.last_ts_ns, to_ns, clock.now_ns(), REASON, counted=self._contiguous
        )

    def _is_lost_again(self, ledger: Ledger, closed: GapClosed) -> bool:
        wanted = [gap for gap in ledger.gaps if gap.counted and gap.first_id == closed.first_id]
        return not closed.missing and any(g.last_id - g.first_id + 1 > g.rows_filled for g in wanted)

    def _exchange(self, mended: Path) -> None:
        """Let `finish` find at every moment what is to be done."""
        damaged = self._folder.with_name(f"{self._folder.name}.damaged")
        shutil.rmtree(damaged, ignore_errors=True)
        sync_path(mended)
        if self._folder.exists():
            self._folder.rename(damaged)
        mended.rename(self._folder)
        sync_path(self._folder.parent)


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.mended")


def _begun(folder: Path, core: PairCore) -> Journal:
    """Begin a journal behind the record that a core has reached."""
    journal = Journal(folder, sync=True)
    journal.number = core.state.ledger.position
    journal.rotate(*core.snapshot())
    return journal


def _copied(run: Run, folder: Path) -> Journal:
    """Begin a journal with a run, up to its last record."""
    folder.mkdir()
    for piece in run.pieces[:-1]:
        os.link(piece.segment.path, folder / piece.segment.path.name)
    last = run.pieces[-1].segment
    with (folder / last.path.name).open("wb") as file:
        file.write(last.cut_at(run.number))
        file.flush()
        os.fsync(file.fileno())
    return Journal(folder, sync=True)
