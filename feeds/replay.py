"""Recorded trades as a feed: the recorded times are kept and the network is never asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from feeds import clock
from feeds.recorded import (
    CHUNK_TICKS,
    Edge,
    SortedTrades,
    begins_with_texts,
    by_first_id,
    check_trades,
    read_by_id,
)
from feeds.recording import SUFFIX, pair_of
from feeds.replay_runs import Runs
from feeds.venues import VENUES
from market.errors import UsageError
from market.inputs import Input, Rejected, TickBatch
from market.pairs import Pair
from market.ticks import Ticks
from market.times import NS_PER_S

__all__ = ["UNSOUND", "Ids", "ReplayFeed", "check_files", "read_trades", "recorded_pair"]

UNSOUND = "needs an id, a price and a size above 0, a side of buy or sell, and a time from 2009 to now"


class Ids(NamedTuple):
    """Whether a pair's ids are contiguous; if not, the last that its record has."""

    contiguous: bool = True
    recent: Sequence[str] = ()


CONTIGUOUS = Ids()


def check_files(files: Sequence[Path]) -> None:
    """Raise UsageError for the first file that cannot be replayed, or not together with the others."""
    if recorded_pair(files) is None:
        check_trades(files)


def recorded_pair(files: Sequence[Path]) -> Pair | None:
    """Tell whose raw frames files hold; None for files of trades. Raises UsageError if they differ."""
    recordings = [file for file in files if file.name.endswith(SUFFIX)]
    if not recordings:
        return None
    if len(recordings) < len(files):
        raise UsageError("files of trades and recordings of frames are not replayed together")
    found = {Pair.parse(_named(file)) for file in recordings}
    if len(found) > 1:
        raise UsageError(f"recordings of several pairs: {', '.join(sorted(map(str, found)))}")
    (pair,) = found
    if (pair.exchange, pair.market) not in VENUES:
        raise UsageError(f"{recordings[0]}: frames of {pair}, which is not supported")
    return pair


def _named(file: Path) -> str:
    if not (name := pair_of(file)):
        raise UsageError(f"{file}: holds no frames")
    return name


def read_trades(file: Path) -> tuple[Ticks, list[bytes]]:
    """Read a file with integer ids: trades sorted by id, and the beginning of what is none."""
    read = read_by_id(file)
    return read.ticks, read.rejected


class ReplayFeed:
    """Hand out recorded trades, all at once (`speed` 0) or at `speed` times the recorded pace."""

    def __init__(
        self,
        files: tuple[Path, ...],
        speed: float,
        next_id: int | None,
        last_ts_ns: int,
        ids: Ids = CONTIGUOUS,
    ) -> None:
        self.finished = False
        self.duplicates = 0
        self.replayed = 0
        self._speed, self._runs = speed, Runs(next_id, last_ts_ns)
        self._contiguous = ids.contiguous
        self.rejected = 0
        self._rejected: list[bytes] = []  # at most MAX_REJECTED
        self._batches = self._read(files, Edge(last_ts_ns, ids.recent))
        self._ready: TickBatch | None = None
        self._began: tuple[int, int] | None = None  # wall clock and event time of the first tick

    async def run(self) -> None:
        """Wait for ever: nothing keeps a replay alive but its files."""
        await asyncio.Event().wait()

    async def wait(self, timeout_s: float) -> None:
        """Return at once, or when the next trade is due."""
        if self.finished:
            await asyncio.sleep(timeout_s)
            return
        due_s = (self._due_ns() - clock.now_ns()) / NS_PER_S
        await asyncio.sleep(min(max(due_s, 0.0), timeout_s))

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:  # noqa: ARG002 - trades alone close bars
        """Return the trades that are due, with what is missing between them."""
        if self._ready is None:
            self._ready = next(self._batches, None)
        self.finished = self._ready is None
        out: list[Input] = [Rejected(now_ns, UNSOUND, raw[:1024]) for raw in self._rejected]
        self.rejected += len(self._rejected)
        self._rejected.clear()
        if self._ready is not None:
            batch, due = self._ready, self._due_count(self._ready.ticks, now_ns)
            now = TickBatch(batch.ticks[:due], ids=batch.ids[:due])
            later = TickBatch(batch.ticks[due:], ids=batch.ids[due:])
            self._ready = later if len(later.ticks) else None
            out += self._in_runs(now.ticks, now_ns) if self._contiguous else self._all(now)
        return out

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        return []

    def status(self) -> dict[str, object]:
        return {
            "state": "replaying",
            "replayed": self.replayed,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "holes": 0,
        }

    def _read(self, files: tuple[Path, ...], edge: Edge) -> Iterator[TickBatch]:
        """Go by ids while they are integers without holes; else by time, files and all."""
        alone = self._contiguous and len(files) == 1  # then reading it tells the rest
        ordered, texts = (list(files), begins_with_texts(files[0])) if alone else by_first_id(files)
        while self._contiguous and not texts and ordered:
            read = read_by_id(ordered.pop(0))
            texts = read.has_texts
            if not texts:
                self._rejected += read.rejected
                for start in range(0, len(read.ticks), CHUNK_TICKS):
                    yield TickBatch(read.ticks[start : start + CHUNK_TICKS])
        if texts or not self._contiguous:
            self._contiguous = False
            with closing(SortedTrades(files, edge, texts=texts)) as trades:
                self._rejected += trades.rejected
                self.duplicates += trades.duplicates
                yield from trades.batches()

    def _due_ns(self) -> int:
        if not self._speed or self._ready is None or self._began is None:
            return 0
        wall_ns, event_ns = self._began
        return wall_ns + int((int(self._ready.ticks["ts_ns"][0]) - event_ns) / self._speed)

    def _due_count(self, ticks: Ticks, now_ns: int) -> int:
        if not self._speed:
            return len(ticks)
        if self._began is None:
            self._began = now_ns, int(ticks["ts_ns"][0])
        wall_ns, event_ns = self._began
        until_ns = event_ns + int((now_ns - wall_ns) * self._speed)
        return int(np.searchsorted(ticks["ts_ns"], until_ns, side="right"))

    def _in_runs(self, ticks: Ticks, now_ns: int) -> list[Input]:
        before = self._runs.duplicates
        out = self._runs.cut(ticks, now_ns)
        self.duplicates += (known := self._runs.duplicates - before)
        self.replayed += len(ticks) - known
        return out

    def _all(self, batch: TickBatch) -> list[Input]:
        self.replayed += len(batch.ticks)
        return [batch] if len(batch.ticks) else []
