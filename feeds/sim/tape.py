"""Trades held in columns, and the rows read from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from feeds.sim.noise import Ints
from market.times import NS_PER_MS

E8 = 10**8
"""Prices and sizes are counted in 1e-8, the finest the venue prints."""

Flags: TypeAlias = npt.NDArray[np.bool_]


class Trade(NamedTuple):
    id: int
    ts_ns: int
    price: str
    size: str
    buyer_is_maker: bool


class Aggregate(NamedTuple):
    """Consecutive trades of one millisecond, price and side; `id` is of a sequence of its own."""

    id: int
    ts_ns: int
    price: str
    size: str
    buyer_is_maker: bool
    first_id: int
    last_id: int


class Columns(NamedTuple):
    """Trades as numbers, in 1e-8."""

    price_e8: Ints
    size_e8: Ints
    buyer_is_maker: Flags


def decimal_text(e8: int) -> str:
    """Print as the venue does: always eight decimals."""
    return f"{e8 // E8}.{e8 % E8:08d}"


class Tape:
    """Some consecutive trades; `texts` holds (prices, sizes) as printed where they were recorded."""

    def __init__(
        self,
        ids: Ints,
        ts_ns: Ints,
        columns: Columns,
        first_aggregate: int = 1,
        texts: tuple[list[str], list[str]] | None = None,
    ) -> None:
        self.ids, self.ts_ns, self.columns = ids, ts_ns, columns
        self._first_aggregate = first_aggregate
        self._texts = texts
        self._starts = _aggregate_starts(ts_ns, columns)

    @property
    def aggregate_count(self) -> int:
        return len(self._starts)

    def rows(self, first_id: int, last_id: int) -> slice:
        """Locate the ids; those that are not here are left out."""
        low, high = np.searchsorted(self.ids, (first_id, last_id + 1)).tolist()
        return slice(low, high)

    def trades(self, first_id: int, last_id: int) -> list[Trade]:
        at = self.rows(first_id, last_id)
        prices, sizes = self._printed(at)
        makers = self.columns.buyer_is_maker[at].tolist()
        return list(map(Trade, self.ids[at].tolist(), self.ts_ns[at].tolist(), prices, sizes, makers))

    def aggregate_of(self, trade_id: int) -> int:
        """Give the aggregate that holds the trade, or the one before it where the trade is not here."""
        row = int(np.searchsorted(self.ids, trade_id, side="right")) - 1
        return self._first_aggregate + int(np.searchsorted(self._starts, row, side="right")) - 1

    def aggregates(self, first: int, last: int) -> list[Aggregate]:
        low = max(first - self._first_aggregate, 0)
        high = min(last - self._first_aggregate + 1, len(self._starts))
        return [self._aggregate(i) for i in range(low, high)]

    def _aggregate(self, index: int) -> Aggregate:
        start = int(self._starts[index])
        end = int(self._starts[index + 1]) if index + 1 < len(self._starts) else len(self.ids)
        first_id, last_id = int(self.ids[start]), int(self.ids[end - 1])
        head = self.trades(first_id, first_id)[0]
        size = head.size if end - start == 1 else decimal_text(int(self.columns.size_e8[start:end].sum()))
        return Aggregate(
            self._first_aggregate + index,
            head.ts_ns,
            head.price,
            size,
            head.buyer_is_maker,
            first_id,
            last_id,
        )

    def _printed(self, at: slice) -> tuple[Sequence[str], Sequence[str]]:
        if self._texts is not None:
            return self._texts[0][at], self._texts[1][at]
        price_e8, size_e8, _ = self.columns
        return list(map(decimal_text, price_e8[at].tolist())), list(map(decimal_text, size_e8[at].tolist()))


def _aggregate_starts(ts_ns: Ints, columns: Columns) -> Ints:
    starts = np.zeros(len(ts_ns), np.bool_)
    starts[0] = True
    for column in (ts_ns // NS_PER_MS, columns.price_e8, columns.buyer_is_maker):
        starts[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(starts)
