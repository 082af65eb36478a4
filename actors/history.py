"""What the core needs to go back in time: a state, and the ticks folded since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from market.inputs import TickBatch
from market.ticks import EMPTY, Ticks, in_order


class Rewind(NamedTuple):
    """A core's state, and every tick batch journaled between it and now."""

    state: bytes
    batches: Callable[[], Iterable[TickBatch]]


class History(Protocol):
    def before(self, number: int, ts_ns: int) -> Rewind:
        """Rewind to where no bar after `ts_ns` was closed; record `number` and later ones are left out."""
        ...


def replayed(batches: Callable[[], Iterable[TickBatch]], extra: Ticks = EMPTY) -> Iterator[Ticks]:
    """Yield the ticks in chunks that no fold finds late: those that came late stand where they belong.

    Reads the batches twice, so that only the late ticks (`extra` among them) are held in memory.
    """
    late = in_order(np.concatenate([extra, *(b.ticks for b in batches() if b.late)]))
    for batch in batches():
        if batch.late:
            continue
        reached = int(np.searchsorted(late["ts_ns"], batch.ticks["ts_ns"].max(), side="right"))
        before, late = late[:reached], late[reached:]
        yield in_order(np.concatenate([before, batch.ticks])) if reached else batch.ticks
    if len(late):
        yield late
