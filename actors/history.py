"""What the core needs to go back in time: a state, and the ticks folded since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from market.inputs import TickBatch
from market.ticks import TICK, Ticks, in_order

CHUNK_TICKS = 16_384


class Rewind(NamedTuple):
    """A core's state, the end of its last closed bar, and every tick batch journaled between it and now."""

    state: bytes
    closed_ns: int
    batches: Callable[[], Iterable[TickBatch]]


class History(Protocol):
    def before(self, number: int, ts_ns: int) -> Rewind:
        """Rewind to where no bar after `ts_ns` was closed; record `number` and later ones are left out."""
        ...


def joined(parts: Iterable[Ticks]) -> Ticks:
    """Concatenate; numpy's own way compares the fields of every array with those of the next."""
    return np.frombuffer(b"".join(part.data for part in parts), TICK)


def late_since(rewind: Rewind) -> Ticks:
    """Collect, in order, the ticks that came after younger ones."""
    return in_order(joined([late for late, _ in _parted(rewind)]))


def replayed(rewind: Rewind, *lates: Ticks) -> Iterator[tuple[Ticks, ...]]:
    """Yield the ticks in large chunks that no fold finds late, once for each of `lates`.

    Those are the ticks that came late, in order; each is put where it belongs. They and a chunk are held in
    memory, no more.
    """
    left = lates
    for _, chunk in _parted(rewind):
        if len(chunk):
            reached = [np.searchsorted(late["ts_ns"], chunk["ts_ns"][-1], side="right") for late in left]
            due = zip(left, reached, strict=True)
            yield tuple(in_order(joined([late[:n], chunk])) if n else chunk for late, n in due)
            left = tuple(late[n:] for late, n in zip(left, reached, strict=True))
    yield left


def _parted(rewind: Rewind) -> Iterator[tuple[Ticks, Ticks]]:
    """Part the ticks, chunk by chunk, into those older than some before them, and the rest, in order."""
    newest_ns = rewind.closed_ns
    for ticks in _chunks(batch.ticks for batch in rewind.batches()):
        reached = np.maximum(np.maximum.accumulate(ticks["ts_ns"]), newest_ns)
        late = ticks["ts_ns"] < reached
        newest_ns = int(reached[-1])
        yield (ticks[late], ticks[~late]) if late.any() else (ticks[:0], ticks)


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
