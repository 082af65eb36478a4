"""What the core needs to go back in time: a state, and the ticks folded since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from market.inputs import TickBatch
from market.ticks import EMPTY, Ticks, in_order

CHUNK_TICKS = 16_384


class Rewind(NamedTuple):
    """A core's state, and every tick batch journaled between it and now."""

    state: bytes
    batches: Callable[[], Iterable[TickBatch]]


class History(Protocol):
    def before(self, number: int, ts_ns: int) -> Rewind:
        """Rewind to where no bar after `ts_ns` was closed; record `number` and later ones are left out."""
        ...


def replayed(batches: Callable[[], Iterable[TickBatch]], extra: Ticks = EMPTY) -> Iterator[Ticks]:
    """Yield the ticks in large chunks that no fold finds late: those that came late stand where they belong.

    Reads the batches twice, so that only the late ticks (`extra` among them) and a chunk are held in memory.
    """
    late = in_order(np.concatenate([extra, *(early for early, _ in _parted(batches()))]))
    for chunk in _gathered(rest for _, rest in _parted(batches())):
        reached = int(np.searchsorted(late["ts_ns"], chunk["ts_ns"].max(), side="right"))
        before, late = late[:reached], late[reached:]
        yield in_order(np.concatenate([before, chunk])) if reached else chunk
    if len(late):
        yield late


def _parted(batches: Iterable[TickBatch]) -> Iterator[tuple[Ticks, Ticks]]:
    """Part each batch into ticks older than some before it, and the rest."""
    newest_ns = 0
    for batch in batches:
        ts_ns = batch.ticks["ts_ns"]
        if int(ts_ns.min()) >= newest_ns:
            yield EMPTY, batch.ticks
        else:
            yield batch.ticks[ts_ns < newest_ns], batch.ticks[ts_ns >= newest_ns]
        newest_ns = max(newest_ns, int(ts_ns.max()))


def _gathered(parts: Iterable[Ticks]) -> Iterator[Ticks]:
    """Join small arrays: a fold costs the same for 1 and for 1,000 ticks."""
    gathered: list[Ticks] = []
    count = 0
    for ticks in parts:
        gathered.append(ticks)
        count += len(ticks)
        if count >= CHUNK_TICKS:
            yield np.concatenate(gathered)
            gathered, count = [], 0
    if count:
        yield np.concatenate(gathered)
