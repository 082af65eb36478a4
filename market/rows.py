"""Rows of the pair's tables, in the order of their columns; times are nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from market.ticks import Ticks


class Candle(NamedTuple):
    ts_ns: int  # open time
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    vwap: float
    trade_count: int
    is_complete: bool
    revision: int


class OrderFlow(NamedTuple):
    ts_ns: int  # start of the minute
    buy_volume: float
    sell_volume: float
    delta: float
    cvd: float
    imbalance_ratio: float | None
    trade_count: int


class MarketProfile(NamedTuple):
    session_start_ns: int
    ts_ns: int  # as of: the end of a minute that had trades
    poc: float
    value_area_high: float
    value_area_low: float
    total_volume: float
    bin_size: float


class FairValueGap(NamedTuple):
    gap_id: str  # "1m:2024-08-09T00:01:00Z": the timeframe and the open time of the middle bar
    timeframe: str
    gap_type: str  # BULLISH or BEARISH
    top: float
    bottom: float
    created_ns: int
    filled_pct: float  # 0 to 100
    status: str  # OPEN, PARTIAL, FILLED or EXPIRED
    filled_ns: int | None


class Zone(NamedTuple):
    zone_id: str  # "1m:2024-08-09T00:01:00Z": the timeframe and the open time of the impulse bar
    timeframe: str
    zone_type: str  # SUPPLY or DEMAND
    price_low: float
    price_high: float
    strength: float  # 0 to 1
    status: str  # FRESH, TESTED or BROKEN
    touches: int
    created_ns: int
    updated_ns: int
    broken_ns: int | None


class MarketState(NamedTuple):
    ts_ns: int  # end of the step
    mass: float | None
    momentum: float | None
    friction: float | None
    entropy: float | None
    nash_dist: float | None
    alpha: float | None
    regime: str  # Levy, Gaussian or Unknown
    sentiment_label: str  # Bullish, Bearish or Neutral
    sentiment_score: float  # 0 to 1


class QuoteRow(NamedTuple):
    ts_ns: int
    bid_price: float
    bid_size: float
    ask_price: float
    ask_size: float
    received_ns: int


class GapRow(NamedTuple):
    gap_id: int
    first_missing_id: int | None  # None: the venue's ids do not tell
    last_missing_id: int | None
    from_ns: int
    to_ns: int
    detected_ns: int
    status: str  # OPEN, FILLED or UNFILLABLE
    filled_ns: int | None
    rows_filled: int
    reason: str


class RejectedRow(NamedTuple):
    received_ns: int
    reason: str
    raw: bytes


class EventRow(NamedTuple):
    seq: int
    ts_ns: int
    event: str
    data: bytes  # JSON


Row: TypeAlias = tuple[Any, ...]
Flags: TypeAlias = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class TickRows:
    """Ticks numbered from `first_seq` on; `ids` are the venue's own where these are text.

    `flags` say of each whether it is an outlier; without them none is.
    """

    first_seq: int
    ticks: Ticks
    ids: tuple[str, ...] = ()
    flags: Flags | None = None

    def __iter__(self) -> Iterator[Any]:
        """Unpack as (first_seq, ticks), for whoever asks for no ids."""
        return iter((self.first_seq, self.ticks))

    def __len__(self) -> int:
        return len(self.ticks)

    def cut(self, start: int, stop: int | None = None) -> TickRows:
        """Take those from index `start` on, up to `stop`."""
        flags = None if self.flags is None else self.flags[start:stop]
        return TickRows(self.first_seq + start, self.ticks[start:stop], self.ids[start:stop], flags)


@dataclass(slots=True)
class Rows:
    """What one flush writes, by table name.

    `inserted` rows are new; `replaced` rows take the place of the row with the same key, the last one
    winning, after everything was inserted. `living` rows change again and again: by key, each as it is now,
    None where there is none any more. `flags` are those of ticks stored before, by number.
    """

    ticks: list[TickRows] = field(default_factory=list)
    inserted: dict[str, list[Row]] = field(default_factory=dict)
    replaced: dict[str, list[Row]] = field(default_factory=dict)
    living: dict[str, dict[str, Row | None]] = field(default_factory=dict)
    flags: dict[int, int] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)  # what the file says of itself, by key

    def __bool__(self) -> bool:
        return bool(self.ticks or self.inserted or self.replaced or self.living or self.flags or self.meta)

    @property
    def count(self) -> int:
        ticks = sum(map(len, self.ticks))
        by_table = [*self.inserted.values(), *self.replaced.values(), *self.living.values()]
        return ticks + sum(map(len, by_table)) + len(self.flags)

    def extend(self, later: Rows) -> None:
        """Take over rows that come after these."""
        self.ticks += later.ticks
        for table, rows in later.inserted.items():
            self.inserted.setdefault(table, []).extend(rows)
        for table, rows in later.replaced.items():
            self.replaced.setdefault(table, []).extend(rows)
        for table, keyed in later.living.items():
            self.living.setdefault(table, {}).update(keyed)
        self.flags |= later.flags
        self.meta |= later.meta

    def insert(self, table: str, row: Row) -> None:
        self.inserted.setdefault(table, []).append(row)

    def replace(self, table: str, row: Row) -> None:
        self.replaced.setdefault(table, []).append(row)

    def keep(self, table: str, key: str, row: Row | None) -> None:
        """Say how a living row is now."""
        self.living.setdefault(table, {})[key] = row


def timeframe_text(seconds: int) -> str:
    """Name a timeframe as tables and messages do: 60 is `1m`, 5 is `5s`, 3600 is `1h`."""
    for width, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds % width == 0:
            return f"{seconds // width}{unit}"
    return f"{seconds}s"
