"""Bring a pair's record up to its journal: the same work after a clean stop, a kill, or a lost hot file."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain as chained
from pathlib import Path
from typing import NamedTuple

import structlog

from actors import state
from actors.core import PairCore
from actors.journal_cut import JournalCut
from actors.journal_past import JournalPast, nothing, suspicion
from actors.mending import Mender, finish
from actors.spec import EngineSpec
from analytics.params import AnalyticsParams
from market.errors import Fatal, UsageError
from market.pairs import Pair
from market.rows import Rows
from storage import archive_ledger, base
from storage.archive import make_folder
from storage.archive_ledger import Ledger
from storage.duck import Damaged, mark, set_aside, wal
from storage.hot import HotFile
from storage.journal import Journal, JournalDamaged, Segment, check, read, segments
from storage.sweep import without_archived

log = structlog.get_logger()
LOCK_WAIT_S = 20.0
CHECKED_BYTES = 64 * 1024 * 1024  # of journal, at every start: a quarter of a second


@dataclass(slots=True)
class PairFiles:
    """A pair's folder, owned: nobody else writes in it until `close`."""

    opened: ExitStack
    journal: Journal
    hot: HotFile
    core: PairCore
    cut: JournalCut

    def close(self) -> None:
        self.opened.close()


class _Found(NamedTuple):
    """What a pair's folder holds beside the hot file."""

    journal: Journal
    chain: list[Segment]
    ledger: Ledger
    base: Path | None  # a copy of the hot file, from which the journal goes on

    @property
    def first(self) -> int:
        """Number of the last record before the journal's first."""
        return self.chain[0].first - 1 if self.chain else 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is gone that the ledger does not tell of."""
        known = self.ledger == Ledger() or bool(self.chain)
        return self.base is not None or (known and self.first < max(1, self.ledger.journal_from))


class _Wanted(NamedTuple):
    """Whose files, and how they are to go on."""

    pair: Pair
    engine: EngineSpec
    params: AnalyticsParams | None
    contiguous: bool


class _Kept(NamedTuple):
    """What a configuration says of the analytics."""

    timeframes_s: tuple[int, ...]
    params: AnalyticsParams


def open_pair(
    folder: Path,
    pair: Pair,
    engine: EngineSpec,
    *,
    params: AnalyticsParams | None = None,
    contiguous: bool = True,
) -> PairFiles:
    """Take the folder, rebuild what is missing, and return everything at the journal's last record.

    Without `params` the analytics go on with those they have; `contiguous` says whether the venue's ids are.
    A damaged journal is mended, see `actors.mending`.
    Raises UsageError if the files are another version's or pair's, Fatal if they cannot be brought together.
    """
    wanted = _Wanted(pair, engine, params, contiguous)
    with ExitStack() as opened:
        opened.callback(os.close, _lock(folder))
        finish(folder / "journal")
        try:
            files = _opened(folder, wanted)
        except JournalDamaged as damage:
            log.error("journal_damaged", pair=pair.key, reason=damage.what)
            _mend(folder, wanted)
            files = _opened(folder, wanted)
        opened.push(files.opened)
        files.opened = opened.pop_all()
        return files


def _opened(folder: Path, wanted: _Wanted) -> PairFiles:
    pair, engine, params, contiguous = wanted
    with ExitStack() as opened:
        journal = Journal(folder / "journal", sync=engine.journal_sync)
        opened.callback(journal.close)
        if journal.cut_bytes:
            log.warning("journal_torn_tail", pair=pair.key, cut_bytes=journal.cut_bytes)
        ledger = archive_ledger.load(folder)
        for path in journal.drop_before(ledger.journal_from):
            path.unlink()
        chain = segments(folder / "journal")
        _check(folder, chain)
        kept = {segment.first: _kept(_state(segment, pair)) for segment in chain}
        every = sorted({*engine.timeframes_s, *chained(*(one.timeframes_s for one in kept.values()))})
        copy = base.find(folder / "journal", chain[0].first - 1 if chain else 0)
        hot = _open_hot(folder, pair, tuple(every), _Found(journal, chain, ledger, copy))
        opened.callback(hot.close)
        older = nothing if copy is None else lambda: segments(folder / "journal.damaged")
        history = JournalPast(lambda: segments(folder / "journal"), folder, pair, hot, older)
        begun = _start(chain, hot, pair) or state.new(pair.key, engine.timeframes_s, params)
        core = PairCore(begun, history, contiguous=contiguous)
        _fold_up(core, chain, kept, hot, engine.max_batch_ticks)
        _configure(core, journal, hot, _Kept(tuple(sorted(engine.timeframes_s)), params or core.state.params))
        return PairFiles(opened.pop_all(), journal, hot, core, JournalCut(folder / "journal"))


def _check(folder: Path, chain: list[Segment]) -> None:
    """Read a journal through, unless it is long and under no suspicion: what is found now can be mended."""
    mark = suspicion(folder)
    if mark.exists() or sum(segment.path.stat().st_size for segment in chain) <= CHECKED_BYTES:
        check(chain)
        mark.unlink(missing_ok=True)


def _mend(folder: Path, wanted: _Wanted) -> None:
    pair, engine, params, contiguous = wanted
    with ExitStack() as opened:
        if hot := _whole_hot(folder, pair, engine):
            opened.callback(hot.close)
        mender = Mender(
            folder / "journal",
            state.new(pair.key, engine.timeframes_s, params),
            lambda chain, older: JournalPast(chain, folder, pair, hot, older),
            contiguous=contiguous,
        )
        mender.mend(hot, archive_ledger.load(folder))


def _whole_hot(folder: Path, pair: Pair, engine: EngineSpec) -> HotFile | None:
    """Open the hot file if it is whole and no old one, else the copy of it that a mended journal has."""
    path, ledger = folder / "trading.duckdb", archive_ledger.load(folder)
    if path.exists():
        try:
            hot = HotFile.open(path, pair.key, engine.timeframes_s)
        except Damaged as damage:
            log.warning("hot_file_damaged", pair=pair.key, reason=str(damage), kept_as=f"{path.name}.damaged")
        else:
            if hot.archived.sweep >= ledger.archived.sweep:
                return hot
            hot.close()
        set_aside(path)
    if (copy := base.find(folder / "journal", 0)) is None:
        return None
    base.restore(copy, path, ledger)
    return HotFile.open(path, pair.key, engine.timeframes_s)


def _kept(known: state.CoreState) -> _Kept:
    return _Kept(known.folds.timeframes_s, known.params)


def _state(segment: Segment, pair: Pair) -> state.CoreState:
    loaded = state.load(segment.head().state)
    if loaded.pair != pair.key:
        raise UsageError(f"{segment.path}: this journal is of {loaded.pair}, not of {pair.key}")
    return loaded


def _lock(folder: Path) -> int:
    """Wait for a dying predecessor to let go of the folder."""
    make_folder(folder)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise Fatal(f"{folder}: another process writes there") from None
            time.sleep(0.05)
        else:
            return fd


def _open_hot(folder: Path, pair: Pair, timeframes_s: tuple[int, ...], found: _Found) -> HotFile:
    """Open the hot file; one that is damaged or does not fit the journal is put aside and made anew."""
    path = folder / "trading.duckdb"
    if any(part.exists() for part in (path, wal(path), mark(path))):
        try:
            return _fitting(HotFile.open(path, pair.key, timeframes_s), found, path)
        except Damaged as damage:
            _refuse_unless_whole(folder, found)
            set_aside(path)
            log.warning("hot_file_damaged", pair=pair.key, reason=str(damage), kept_as=f"{path.name}.damaged")
    _refuse_unless_whole(folder, found)
    if found.base is not None:
        base.restore(found.base, path, found.ledger)
    return HotFile.open(path, pair.key, timeframes_s, record=found.first)


def _refuse_unless_whole(folder: Path, found: _Found) -> None:
    if not found.is_whole:
        raise Fatal(
            f"{folder}: the journal begins after record {found.first}, the archive's ledger knows of "
            f"{max(0, found.ledger.journal_from - 1)}, and the hot file is gone; "
            "restore them, or move the pair's folder away to begin anew"
        )


def _fitting(hot: HotFile, found: _Found, path: Path) -> HotFile:
    """Close and refuse a file that the journal or the archive has left behind.

    One that is ahead of the journal is whole; then the journal has lost its end.
    """
    swept, known = hot.archived.sweep, found.ledger.archived.sweep
    fits = found.first <= hot.position <= found.journal.number and swept >= known
    if fits and found.is_whole:
        return hot
    hot.close()
    if fits:
        raise JournalDamaged(f"{path.parent}: the journal begins after record {found.first}, too late")
    told = f"{path}: stands for record {hot.position} and {swept} sweeps"
    if hot.position > found.journal.number:
        raise JournalDamaged(f"{told}, the journal ends at {found.journal.number}")
    raise Damaged(f"{told}; the journal begins after {found.first}, the archive has {known}")


def _start(chain: list[Segment], hot: HotFile, pair: Pair) -> state.CoreState | None:
    """Load the newest state in the journal that is not ahead of the hot file."""
    fitting = (segment for segment in reversed(chain) if segment.first - 1 <= hot.position)
    return _state(next(fitting), pair) if chain else None


def _fold_up(
    core: PairCore,
    chain: list[Segment],
    kept: dict[int, _Kept],
    hot: HotFile,
    max_rows: int,
) -> None:
    """Fold the journal: effects the hot file already stands for are dropped, the rest is written.

    `kept` is the configuration from a record on: whatever was announced then is announced alike now.
    """
    stands_for, pending = hot.position, Rows()
    pending.extend(_living(core, hot, stands_for))
    for record in read([s for s in chain if s.first > core.state.ledger.position]):
        changed = _changed(core, kept.get(record.number))
        effects = core.handle(record.number, record.inputs)
        if record.number > stands_for:
            pending.extend(without_archived(changed, record.number - 1, hot.archived))
            pending.extend(without_archived(effects.rows, record.number, hot.archived))
        pending.extend(_living(core, hot, stands_for))
        if pending.count >= max_rows and record.number > stands_for:
            hot.flush(pending, record.number)
            pending = Rows()
    if pending or core.state.ledger.position > hot.position:
        hot.flush(pending, core.state.ledger.position)


def _living(core: PairCore, hot: HotFile, stands_for: int) -> Rows:
    """Give the rows that had not ended at the last record whose ended rows are in the archive.

    From there on what the journal makes of a table is written; before, nobody knows what was swept.
    """
    rows, number = Rows(), core.state.ledger.position
    for table, keyed in core.living().items():
        mark = hot.archived.marks.get(table)
        if number == max(stands_for, mark.record if mark else 0):
            for key, row in keyed.items():
                rows.keep(table, key, row)
    return rows


def _changed(core: PairCore, kept: _Kept | None) -> Rows:
    """Change the configuration; return the rows that this makes."""
    if kept is None:
        return Rows()
    rows = core.set_timeframes(kept.timeframes_s).rows
    rows.extend(core.set_params(kept.params).rows)
    return rows


def _configure(core: PairCore, journal: Journal, hot: HotFile, kept: _Kept) -> None:
    """Go on with the timeframes and parameters of the configuration, from a state that says so."""
    if journal.is_new or _kept(core.state) != kept:
        hot.flush(_changed(core, kept), hot.position)
        journal.rotate(*core.snapshot())
    known = hot.meta
    if new := {key: value for key, value in core.meta().items() if known.get(key) != value}:
        hot.flush(Rows(meta=new), hot.position)
