"""Everything a core remembers. It is the head of every journal segment, so it stays small and plain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, repeat

import msgspec

from actors.folds import Folds, TickSizes
from analytics.params import AnalyticsParams
from market.rows import GapRow
from market.times import DAY_NS, floor_ns

MAX_REVISIONS = 50_000
MAX_RECENT_IDS = 1_024
MAX_TICK_SIZES = 32
DECIDING_TRADES = 1_000  # without anybody's word the decimals of so many say what the tick size is


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
    counted: bool = True  # False: the ids above only name it

    def row(self, status: str, filled_ns: int | None) -> GapRow:
        """Show it as its table does."""
        return GapRow(
            self.gap_id,
            self.first_id if self.counted else None,
            self.last_id if self.counted else None,
            self.from_ns,
            self.to_ns,
            self.detected_ns,
            status,
            filled_ns,
            self.rows_filled,
            self.reason,
        )


class Ledger(msgspec.Struct):
    """What the core counts; the folds hold what it computes."""

    position: int = 0  # number of the last record handled
    next_seq: int = 1
    next_event: int = 1
    next_gap: int = 1
    next_id: int | None = None  # the live edge of the venue's ids
    watermark_ns: int = 0
    last_ts_ns: int = 0
    last_trade: int = -1  # the id of the trade last in order
    last_price: float = 0.0
    last_size: float = 0.0
    bid: float = 0.0
    ask: float = 0.0
    stale: bool = False
    since_ns: int = 0  # gaps, zones, market states and flags are those of the ticks since then; 0: all are
    tick_size: float = 0.0  # the last one told; 0: not known yet
    tick_sizes: TickSizes = []  # at most MAX_TICK_SIZES
    first_prices: list[float] = []  # at most DECIDING_TRADES, while no tick size is known
    gaps: list[Gap] = []
    gaps_unfillable: int = 0
    revisions: dict[str, int] = {}  # of restated bars, by "table:time", at most MAX_REVISIONS
    texts_from: int = 0  # seq of the first tick with a text id: from there on ids are text; 0: none is
    recent_ids: list[str] = []  # of a pair without contiguous ids, the newest trades', at most MAX_RECENT_IDS
    recent_ns: list[int] = []  # when these were, in that order; within one time as they arrived
    source: str = ""  # how far the feed's source is in the journal, in the feed's own words
    inferred: int = 0  # ticks with a side that nobody told


def remember(ledger: Ledger, ids: Sequence[str], times_ns: Sequence[int]) -> None:
    """Keep the ids of the newest trades: late ones push none of these out.

    A venue's newest trades are laid over them after a restart, and who is not among them is new.
    """
    ledger.recent_ids += ids
    ledger.recent_ns += [*repeat(0, len(ledger.recent_ids) - len(ids) - len(ledger.recent_ns)), *times_ns]
    if any(a > b for a, b in pairwise(ledger.recent_ns[-len(ids) - 1 :])):
        order = sorted(range(len(ledger.recent_ns)), key=ledger.recent_ns.__getitem__)
        ledger.recent_ids = [ledger.recent_ids[i] for i in order]
        ledger.recent_ns = [ledger.recent_ns[i] for i in order]
    del ledger.recent_ids[:-MAX_RECENT_IDS], ledger.recent_ns[:-MAX_RECENT_IDS]


class CoreState(msgspec.Struct):
    pair: str
    ledger: Ledger
    folds: Folds
    params: AnalyticsParams = AnalyticsParams()

    @property
    def edge(self) -> tuple[int, int]:
        """Time and id that a tick must be above to be in order; (-1, -1) before the first."""
        if self.ledger.next_seq == 1:
            return -1, -1
        return max((self.ledger.last_ts_ns, self.ledger.last_trade), (self.folds.closed_ns, -1))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CoreState)


def dump(state: CoreState) -> bytes:
    return _encoder.encode(state)


def load(state: bytes) -> CoreState:
    """Read what `dump` wrote; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(state)


def new(pair: str, timeframes_s: tuple[int, ...], params: AnalyticsParams | None = None) -> CoreState:
    params = params or AnalyticsParams()
    return CoreState(pair, Ledger(), Folds.new(timeframes_s, params), params)


def schedule(ledger: Ledger, tick_size: float) -> None:
    """Note a tick size; another one than before counts from the next session on."""
    sizes = ledger.tick_sizes
    if not sizes:
        sizes.append((ledger.watermark_ns + 1 if ledger.next_seq > 1 else 0, tick_size))
        ledger.first_prices.clear()
        return
    from_ns = floor_ns(ledger.watermark_ns, DAY_NS) + DAY_NS
    if len(sizes) > 1 and sizes[-1][0] >= from_ns:
        sizes.pop()
    if sizes[-1][1] != tick_size:
        sizes.append((from_ns, tick_size))
        del sizes[:-MAX_TICK_SIZES]
