"""What the core needs to go back in time: a state, and the ticks folded since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from market.inputs import TickBatch
from market.ticks import EMPTY, Ticks, joined

CHUNK_TICKS = 16_384
_FEW = 32  # up to here a plain loop is cheaper

Key: TypeAlias = tuple[int, int]
"""(ts_ns, trade_id): the order of trades."""

Order: TypeAlias = npt.NDArray[np.intp]
Seq: TypeAlias = npt.NDArray[np.int64]


class Rewind(NamedTuple):
    """A core's state, the time that it has reached, and every tick batch journaled between it and now."""

    state: bytes
    closed_ns: int
    batches: Callable[[], Iterable[TickBatch]]


class History(Protocol):
    def before(self, number: int, ts_ns: int) -> Rewind:
        """Rewind to where nothing after `ts_ns` was reached; record `number` and later ones are left out."""
        ...


class Numbered(NamedTuple):
    """Ticks with their numbers in the record."""

    ticks: Ticks
    seq: Seq

    def cut(self, start: int | None, stop: int | None) -> Numbered:
        return Numbered(self.ticks[start:stop], self.seq[start:stop])


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks since a rewind, numbered from `next_seq` on; none of them should be below `edge`."""

    rewind: Rewind
    edge: Key
    next_seq: int


def numbered(ticks: Ticks, first_seq: int) -> Numbered:
    return Numbered(ticks, np.arange(first_seq, first_seq + len(ticks)))


def order_of(ticks: Ticks) -> Order | None:
    """Tell which sorts them by (time, id); None: they are in order."""
    if len(ticks) < _FEW:
        keys = [(row[1], row[0]) for row in ticks.tolist()]
        if all(a < b for a, b in pairwise(keys)):
            return None
    ts, ids = ticks["ts_ns"], ticks["trade_id"]
    if bool((ts[1:] >= ts[:-1]).all()) and bool((ids[1:] > ids[:-1]).all()):
        return None
    return np.lexsort((ids, ts))


def together(parts: Iterable[Numbered]) -> Numbered:
    """Join, in order."""
    parts = [part for part in parts if len(part.ticks)]
    if len(parts) < 2:
        return _sorted(parts[0]) if parts else Numbered(EMPTY, np.zeros(0, np.int64))
    ticks = joined(part.ticks for part in parts)
    return _sorted(Numbered(ticks, np.concatenate([part.seq for part in parts])))


def late_since(span: Span) -> Numbered:
    """Collect, in order, the ticks that came after younger ones."""
    return together(late for late, _ in _parted(span))


def replayed(span: Span, *lates: Numbered) -> Iterator[tuple[Numbered, ...]]:
    """Yield the ticks in large chunks that no fold finds late, once for each of `lates`.

    Those are the ticks that came late, in order; each is put where it belongs. They and a chunk are held in
    memory, no more.
    """
    left = lates
    for _, chunk in _parted(span):
        if len(chunk.ticks):
            last = key_of(chunk.ticks[-1])
            reached = [_below(late.ticks, last) for late in left]
            due = zip(left, reached, strict=True)
            yield tuple(together([late.cut(None, n), chunk]) if n else chunk for late, n in due)
            left = tuple(late.cut(n, None) for late, n in zip(left, reached, strict=True))
    yield left


def key_of(tick: Ticks) -> Key:
    return int(tick["ts_ns"]), int(tick["trade_id"])


def first_key(ticks: Ticks) -> Key:
    """Tell the key of the tick that is the first in order."""
    order = order_of(ticks)
    return key_of(ticks[0] if order is None else ticks[order[0]])


def _sorted(part: Numbered) -> Numbered:
    order = order_of(part.ticks)
    return part if order is None else Numbered(part.ticks[order], part.seq[order])


def _below(ticks: Ticks, key: Key) -> int:
    """Count those before a key; the ticks are in order."""
    ts = ticks["ts_ns"]
    start, end = np.searchsorted(ts, key[0], "left"), np.searchsorted(ts, key[0], "right")
    return int(start + np.searchsorted(ticks["trade_id"][start:end], key[1]))


def _parted(span: Span) -> Iterator[tuple[Numbered, Numbered]]:
    """Part the ticks, chunk by chunk, into those that belong before some before them, and the rest."""
    edge, seq = span.edge, span.next_seq
    for ticks in _chunks(batch.ticks for batch in span.rewind.batches()):
        part, late = numbered(ticks, seq), _late(ticks, edge)
        seq += len(ticks)
        if late is None:
            edge = key_of(ticks[-1])
            yield part.cut(0, 0), part
        else:
            yield Numbered(ticks[late], part.seq[late]), Numbered(ticks[~late], part.seq[~late])
            edge = key_of(ticks[~late][-1]) if not late.all() else edge


def _late(ticks: Ticks, edge: Key) -> npt.NDArray[np.bool_] | None:
    """Mark what belongs before the edge or before any before it; None: nothing does."""
    order = order_of(ticks)
    if order is None and key_of(ticks[0]) > edge:
        return None
    ts, ids = ticks["ts_ns"], ticks["trade_id"]
    rank = np.arange(len(ticks))
    if order is not None:
        rank[order] = np.arange(len(ticks))
    late: npt.NDArray[np.bool_] = rank < np.maximum.accumulate(rank)
    late |= (ts < edge[0]) | ((ts == edge[0]) & (ids < edge[1]))
    return late


def _chunks(parts: Iterable[Ticks]) -> Iterator[Ticks]:
    """Join small arrays: a fold costs the same for 1 and for 1,000 ticks."""
    gathered: list[Ticks] = []
    count = 0
    for ticks in parts:
        gathered.append(ticks)
        count += len(ticks)
        if count >= CHUNK_TICKS:
            yield joined(gathered)
            gathered, count = [], 0
    if count:
        yield joined(gathered)
