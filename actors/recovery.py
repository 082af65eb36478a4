"""Bring a pair's record up to its journal: the same work after a clean stop, a kill, or a lost hot file."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
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
from storage.journal import Journal, Segment, read_from, segments
from storage.rewind import JournalHistory, batches

log = structlog.get_logger()
LOCK_WAIT_S = 20.0


@dataclass(slots=True)
class PairFiles:
    """A pair's folder, owned: nobody else writes in it while `lock_fd` is open."""

    lock_fd: int
    journal: Journal
    hot: HotFile
    core: PairCore

    def close(self) -> None:
        self.hot.close()
        self.journal.close()
        os.close(self.lock_fd)


class _History:
    """The journal as the core wants it."""

    def __init__(self, folder: Path) -> None:
        self._journal = JournalHistory(folder)

    def before(self, number: int, ts_ns: int) -> Rewind:
        head, chain = self._journal.before(number, ts_ns)
        return Rewind(head, lambda: batches(chain, number))


def open_pair(folder: Path, pair: Pair, engine: EngineSpec) -> PairFiles:
    """Take the folder, rebuild what is missing, and return everything at the journal's last record.

    Raises UsageError if the files are another version's or pair's, Fatal if they cannot be brought together.
    """
    lock_fd = _lock(folder)
    try:
        journal = Journal(folder / "journal", sync=engine.journal_sync)
        if journal.cut_bytes:
            log.warning("journal_torn_tail", pair=pair.key, cut_bytes=journal.cut_bytes)
        hot = _open_hot(folder, pair, engine, journal)
        core = _replay(folder / "journal", journal, hot, pair, engine)
        return PairFiles(lock_fd, journal, hot, core)
    except BaseException:
        os.close(lock_fd)
        raise


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


def _open_hot(folder: Path, pair: Pair, engine: EngineSpec, journal: Journal) -> HotFile:
    """Open the hot file; one that is damaged or ahead of the journal is put aside and made anew."""
    path = folder / "trading.duckdb"
    try:
        hot = HotFile.open(path, pair.key, engine.timeframes_s)
        return _not_ahead(hot, journal, path)
    except Damaged as damage:
        set_aside(path)
        log.warning("hot_file_damaged", pair=pair.key, reason=str(damage), kept_as=f"{path.name}.damaged")
        return HotFile.open(path, pair.key, engine.timeframes_s)


def _not_ahead(hot: HotFile, journal: Journal, path: Path) -> HotFile:
    if hot.position <= journal.number:
        return hot
    hot.close()
    if journal.is_new:
        raise Fatal(f"{path}: its journal is missing; restore it, or move the file away to begin anew")
    raise Damaged(f"{path}: stands for record {hot.position}, the journal ends at {journal.number}")


def _replay(folder: Path, journal: Journal, hot: HotFile, pair: Pair, engine: EngineSpec) -> PairCore:
    chain = segments(folder)
    if not chain:
        core = PairCore(state.new(pair.key, engine.timeframes_s), _History(folder))
        journal.rotate(*core.snapshot())
        return core
    start = _start(chain, hot.position)
    loaded = state.load(chain[start].head().state)
    if loaded.pair != pair.key:
        raise UsageError(f"{folder}: this journal is of {loaded.pair}, not of {pair.key}")
    core = PairCore(loaded, _History(folder))
    _fold_up(core, chain[start:], hot, engine.max_batch_ticks)
    if changed := core.set_timeframes(engine.timeframes_s):
        hot.flush(changed.rows, hot.position)
        journal.rotate(*core.snapshot())
    return core


def _start(chain: list[Segment], position: int) -> int:
    """Find the newest segment whose head is not ahead of the hot file."""
    for index in range(len(chain) - 1, -1, -1):
        if chain[index].first - 1 <= position:
            return index
    raise Fatal(f"{chain[0].path}: the journal begins after record {position}, where the hot file ends")


def _fold_up(core: PairCore, chain: list[Segment], hot: HotFile, max_batch_ticks: int) -> None:
    """Fold the journal: effects the hot file already stands for are dropped, the rest is written."""
    stands_for, pending, ticks = hot.position, Rows(), 0
    for record in read_from(chain, 0):
        effects = core.handle(record.number, record.inputs)
        if record.number <= stands_for:
            continue
        pending.extend(effects.rows)
        ticks += sum(len(t) for _, t in effects.rows.ticks)
        if ticks >= max_batch_ticks:
            hot.flush(pending, record.number)
            pending, ticks = Rows(), 0
    if core.state.ledger.position > hot.position:
        hot.flush(pending, core.state.ledger.position)
