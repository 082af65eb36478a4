"""Everything a core remembers. It is the head of every journal segment, so it stays small and plain."""

from __future__ import annotations

import msgspec

from actors.folds import Folds

MAX_REVISIONS = 50_000


class Gap(msgspec.Struct):
    """A gap not yet closed: ids `next_id`..`last_id` of `first_id`..`last_id` are still missing."""

    gap_id: int
    first_id: int
    last_id: int
    next_id: int
    from_ns: int
    to_ns: int
    detected_ns: int
    reason: str
    rows_filled: int = 0


class Ledger(msgspec.Struct):
    """What the core counts; the folds hold what it computes."""

    position: int = 0  # number of the last record handled
    next_seq: int = 1
    next_event: int = 1
    next_gap: int = 1
    next_id: int | None = None  # the live edge of the venue's ids
    watermark_ns: int = 0
    last_ts_ns: int = 0
    last_price: float = 0.0
    last_size: float = 0.0
    bid: float = 0.0
    ask: float = 0.0
    stale: bool = False
    gaps: list[Gap] = []
    gaps_unfillable: int = 0
    revisions: dict[str, int] = {}  # of restated bars, by "table:time", at most MAX_REVISIONS


class CoreState(msgspec.Struct):
    pair: str
    ledger: Ledger
    folds: Folds


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CoreState)


def dump(state: CoreState) -> bytes:
    return _encoder.encode(state)


def load(state: bytes) -> CoreState:
    """Read what `dump` wrote; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(state)


def new(pair: str, timeframes_s: tuple[int, ...]) -> CoreState:
    return CoreState(pair, Ledger(), Folds.new(timeframes_s))
