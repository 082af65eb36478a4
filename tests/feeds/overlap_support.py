"""Trades without contiguous ids, as a venue names them, and a reader of the record that is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from market.inputs import GapClosed, GapOpened, Input, TickBatch
from market.ticks import TICK, Ticks
from market.times import NS_PER_MS, NS_PER_S

T0 = 1_700_000_000 * NS_PER_S


class Traded(NamedTuple):
    """One trade as it happened; ids are text, or numbers with holes."""

    number: int
    ts_ns: int
    texts: bool = True

    @property
    def key(self) -> str:
        return f"id {self.number}" if self.texts else str(1_000 + 7 * self.number)


def trade(number: int, ms: int | None = None, *, texts: bool = True) -> Traded:
    return Traded(number, T0 + (number if ms is None else ms) * NS_PER_MS, texts)


def trades(first: int, last: int) -> list[Traded]:
    """Make trades of these numbers, a millisecond apart."""
    return [trade(number) for number in range(first, last + 1)]


def told(happened: Sequence[Traded]) -> tuple[Ticks, tuple[str, ...]]:
    """Write trades as a parser does."""
    ids = [0 if x.texts else int(x.key) for x in happened]
    rows = [
        (i, x.ts_ns, 100.0 + x.number, 1.0, T0, 1 if x.number % 2 else -1)
        for i, x in zip(ids, happened, strict=True)
    ]
    return np.array(rows, TICK), tuple(x.key for x in happened if x.texts)


@dataclass
class Record:
    """Check each input as it comes."""

    stored: dict[str, int] = field(default_factory=dict)  # id: time, in order of arrival
    gaps: dict[int, GapOpened] = field(default_factory=dict)
    closed: dict[int, GapClosed] = field(default_factory=dict)
    past: list[tuple[GapOpened, GapClosed]] = field(default_factory=list)

    def take(self, inputs: Sequence[Input]) -> None:
        for item in inputs:
            match item:
                case TickBatch():
                    self._ticks(item)
                case GapOpened():
                    assert not item.counted
                    assert item.from_ns <= item.to_ns
                    assert item.first_id not in self.gaps
                    self.gaps[item.first_id] = item
                case GapClosed():
                    self.past.append((self.gaps.pop(item.first_id), item))

    @property
    def next_seq(self) -> int:
        return len(self.stored) + 1

    @property
    def last_ts_ns(self) -> int:
        return max(self.stored.values(), default=0)

    @property
    def began_ns(self) -> int:
        return next(iter(self.stored.values()))

    def numbers(self) -> list[int]:
        """Tell the trades' own numbers, in order."""
        return [int(key.removeprefix("id ")) for key in self.stored]

    def _ticks(self, batch: TickBatch) -> None:
        ts_ns = batch.ticks["ts_ns"].tolist()
        assert ts_ns == sorted(ts_ns)
        if batch.ids:
            assert batch.ticks["trade_id"].tolist() == list(
                range(self.next_seq, self.next_seq + len(ts_ns)),
            )
        keys = batch.ids or [str(i) for i in batch.ticks["trade_id"].tolist()]
        for key, at_ns in zip(keys, ts_ns, strict=True):
            assert key not in self.stored
            self.stored[key] = at_ns
