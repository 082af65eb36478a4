"""Everything a PairCore ever sees. One tuple of these is one journal record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from market.ticks import Ticks


@dataclass(frozen=True, slots=True, eq=False)
class TickBatch:
    """New ticks, each id for the first time, in the order they are to be numbered.

    `late` says that some belong before a bar that was already closed: the core is rewound. `ids` are the
    venue's own where these are text, parallel to the ticks; their `trade_id` is then the order of arrival.
    """

    ticks: Ticks
    late: bool = False
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask; `ts_ns` is 0 where the venue sends no time with it."""

    ts_ns: int
    bid_price: float
    bid_size: float
    ask_price: float
    ask_size: float
    received_ns: int


@dataclass(frozen=True, slots=True)
class Clock:
    """Event time reached `ts_ns` without a trade having said so."""

    ts_ns: int


@dataclass(frozen=True, slots=True)
class Began:
    """The record is owed complete from `trade_id` on."""

    trade_id: int


@dataclass(frozen=True, slots=True)
class GapOpened:
    """Trades `first_id`..`last_id` are missing; `to_ns` is the time of the first trade after them.

    Not `counted`: the venue's ids do not tell which or how many, and `first_id` only names the gap.
    """

    first_id: int
    last_id: int
    from_ns: int
    to_ns: int
    detected_ns: int
    reason: str
    counted: bool = True


@dataclass(frozen=True, slots=True)
class GapClosed:
    """Nothing more will come for the gap that began at `first_id`.

    `missing` counts the trades the venue could not give back; 0 means filled. Of a gap that is not counted
    it only says whether there may be any, and `rows` how many trades came.
    """

    first_id: int
    closed_ns: int
    missing: int
    reason: str
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """Input that was refused; `raw` is at most 1 KiB of it."""

    received_ns: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class FeedStale:
    """Nothing came for `silent_s` although something should have."""

    at_ns: int
    silent_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class FeedRecovered:
    at_ns: int


@dataclass(frozen=True, slots=True)
class Instrument:
    """What the venue, or the configuration, says of the pair: prices are multiples of `tick_size`."""

    tick_size: float


@dataclass(frozen=True, slots=True)
class Position:
    """Up to here all of the feed's source is in the journal, with this record; the text is the feed's own.

    It precedes the ticks that it stands for, and is journaled with the last of them. Of all ticks so far
    `inferred` have a side that nobody told.
    """

    text: str
    inferred: int = 0


Input: TypeAlias = (
    TickBatch
    | Quote
    | Clock
    | Began
    | GapOpened
    | GapClosed
    | Rejected
    | FeedStale
    | FeedRecovered
    | Instrument
    | Position
)
