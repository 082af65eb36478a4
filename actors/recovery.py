"""Bring a pair's record up to its journal: the same work after a clean stop, a kill, or a lost hot file."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain as chained
from pathlib import Path

import structlog

from actors import state
from actors.core import PairCore
from actors.history import Rewind
from actors.spec import EngineSpec
from market.errors import Fatal, UsageError
from market.pairs import Pair
from market.rows import Rows
from storage.duck import Damaged, set_aside
from storage.hot import HotFile
from storage.journal import Journal, Segment, read, segments
from storage.rewind import JournalHistory, batches

log = structlog.get_logger()
LOCK_WAIT_S = 20.0


@dataclass(slots=True)
class PairFiles:
    """A pair's folder, owned: nobody else writes in it until `close`."""

    opened: ExitStack
    journal: Journal
    hot: HotFile
    core: PairCore

    def close(self) -> None:
        self.opened.close()


class _History:
    """The journal as the core wants it."""

    def __init__(self, folder: Path) -> None:
        self._journal = JournalHistory(folder)

    def before(self, number: int, ts_ns: int) -> Rewind:
        head, chain = self._journal.before(number, ts_ns)
        return Rewind(head.state, head.closed_ns, lambda: batches(chain, number))


def open_pair(folder: Path, pair: Pair, engine: EngineSpec) -> PairFiles:
    """Take the folder, rebuild what is missing, and return everything at the journal's last record.

    Raises UsageError if the files are another version's or pair's, Fatal if they cannot be brought together.
    """
    with ExitStack() as opened:
        opened.callback(os.close, _lock(folder))
        journal = Journal(folder / "journal", sync=engine.journal_sync)
        opened.callback(journal.close)
        if journal.cut_bytes:
            log.warning("journal_torn_tail", pair=pair.key, cut_bytes=journal.cut_bytes)
        chain = segments(folder / "journal")
        kept = {segment.first: _state(segment, pair).folds.timeframes_s for segment in chain}
        every = sorted({*engine.timeframes_s, *chained(*kept.values())})
        hot = _open_hot(folder, pair, tuple(every), journal)
        opened.callback(hot.close)
        core = _start(folder / "journal", chain, hot.position, pair, engine)
        _fold_up(core, chain, kept, hot, engine.max_batch_ticks)
        _set_timeframes(core, journal, hot, engine.timeframes_s)
        return PairFiles(opened.pop_all(), journal, hot, core)


def _state(segment: Segment, pair: Pair) -> state.CoreState:
    loaded = state.load(segment.head().state)
    if loaded.pair != pair.key:
        raise UsageError(f"{segment.path}: this journal is of {loaded.pair}, not of {pair.key}")
    return loaded


def _lock(folder: Path) -> int:
    """Wait for a dying predecessor to let go of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
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


def _open_hot(folder: Path, pair: Pair, timeframes_s: tuple[int, ...], journal: Journal) -> HotFile:
    """Open the hot file; one that is damaged or ahead of the journal is put aside and made anew."""
    path = folder / "trading.duckdb"
    try:
        return _not_ahead(HotFile.open(path, pair.key, timeframes_s), journal, path)
    except Damaged as damage:
        set_aside(path)
        log.warning("hot_file_damaged", pair=pair.key, reason=str(damage), kept_as=f"{path.name}.damaged")
        return HotFile.open(path, pair.key, timeframes_s)


def _not_ahead(hot: HotFile, journal: Journal, path: Path) -> HotFile:
    if hot.position <= journal.number:
        return hot
    hot.close()
    told = f"{path}: stands for record {hot.position}, the journal ends at {journal.number}"
    if journal.is_new or journal.synced:  # synced records do not vanish: nothing may be made of this damage
        raise Fatal(f"{told}; restore the journal, or move the pair's folder away to begin anew")
    raise Damaged(told)


def _start(folder: Path, chain: list[Segment], position: int, pair: Pair, engine: EngineSpec) -> PairCore:
    """Load the newest state in the journal that is not ahead of the hot file."""
    if not chain:
        return PairCore(state.new(pair.key, engine.timeframes_s), _History(folder))
    for segment in reversed(chain):
        if segment.first - 1 <= position:
            return PairCore(_state(segment, pair), _History(folder))
    raise Fatal(f"{chain[0].path}: the journal begins after record {position}, where the hot file ends")


def _fold_up(
    core: PairCore,
    chain: list[Segment],
    kept: dict[int, tuple[int, ...]],
    hot: HotFile,
    max_rows: int,
) -> None:
    """Fold the journal: effects the hot file already stands for are dropped, the rest is written.

    `kept` are the timeframes from a record on: whatever was announced then is announced alike now.
    """
    stands_for, pending = hot.position, Rows()
    for record in read([s for s in chain if s.first > core.state.ledger.position]):
        changed = core.set_timeframes(kept.get(record.number, core.timeframes_s))
        effects = core.handle(record.number, record.inputs)
        if record.number <= stands_for:
            continue
        pending.extend(changed.rows)
        pending.extend(effects.rows)
        if pending.count >= max_rows:
            hot.flush(pending, record.number)
            pending = Rows()
    if core.state.ledger.position > hot.position:
        hot.flush(pending, core.state.ledger.position)


def _set_timeframes(core: PairCore, journal: Journal, hot: HotFile, timeframes_s: tuple[int, ...]) -> None:
    """Go on with the timeframes of the configuration, from a state that says so."""
    if journal.is_new or core.timeframes_s != tuple(sorted(timeframes_s)):
        hot.flush(core.set_timeframes(timeframes_s).rows, hot.position)
        journal.rotate(*core.snapshot())
