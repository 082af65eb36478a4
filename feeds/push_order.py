"""Pushed trades on their way into the record: each id once, what lacks named, and sides nobody told. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from feeds.frames import Trade
from market.inputs import Began, GapClosed, GapOpened, Input

REMEMBERED = 8_192
MAX_HOLES = 1_024
LATER = "pushed later"
TOO_MANY = f"more than {MAX_HOLES:,} holes at once"


class Placed(NamedTuple):
    """Trades that are new, and the inputs that belong before and behind them."""

    before: list[Input]
    trades: list[Trade]
    after: list[Input]


class Order(Protocol):
    """What knows which trades a record has, and which it should have."""

    def doubtful(self, trades: Iterable[Trade]) -> list[Trade]:
        """Say which may be in the record although nothing here remembers them."""
        ...

    def lost(self, entries: int, reason: str) -> None:
        """Note that entries are gone that nobody has read; 0: nobody knows how many."""
        ...

    def place(self, trades: Iterable[Trade], known: Collection[str], now_ns: int) -> Placed:
        """Take a page, even an empty one; `known` are those of the doubtful that the record has."""
        ...

    def has(self, trade: Trade, known: Collection[str]) -> bool:
        """Tell whether the record has a trade, or needs it no more."""
        ...

    @property
    def open_holes(self) -> int: ...

    @property
    def newest_ns(self) -> int:
        """The newest time of the record's trades; 0: it has none."""
        ...


class Texts:
    """Ids are names. The newest REMEMBERED are kept here; older ones are to be looked up.

    `number` is that of the record's next tick, `recent` the ids it got last, `last_ts_ns` its newest time.
    """

    def __init__(self, number: int, recent: Iterable[str], last_ts_ns: int) -> None:
        self._number, self._last_ts_ns = number, last_ts_ns
        self._recent = dict.fromkeys(recent, last_ts_ns)
        self._forgot_ns = last_ts_ns if number > 1 else -1  # of no trade after this is the id forgotten
        self._lost: list[tuple[int, str]] = []

    @property
    def open_holes(self) -> int:
        return 0  # what is lost here is lost

    @property
    def newest_ns(self) -> int:
        return self._last_ts_ns

    def has(self, trade: Trade, known: Collection[str]) -> bool:
        return str(trade.id) in self._recent or str(trade.id) in known

    def doubtful(self, trades: Iterable[Trade]) -> list[Trade]:
        return [x for x in trades if x.ts_ns <= self._forgot_ns and x.id not in self._recent]

    def lost(self, entries: int, reason: str) -> None:
        self._lost.append((entries, reason))

    def place(self, trades: Iterable[Trade], known: Collection[str], now_ns: int) -> Placed:
        fresh = []
        for trade in trades:
            if not self.has(trade, known):
                self._recent[str(trade.id)] = trade.ts_ns
                fresh.append(trade)
        self._forget()
        fresh.sort(key=lambda x: x.ts_ns)
        before = self._gaps(fresh[0].ts_ns if fresh else now_ns, now_ns)
        self._number += len(fresh)
        self._last_ts_ns = max(self._last_ts_ns, fresh[-1].ts_ns) if fresh else self._last_ts_ns
        return Placed(before, fresh, [])

    def _forget(self) -> None:
        for name in list(self._recent)[: max(0, len(self._recent) - REMEMBERED)]:
            self._forgot_ns = max(self._forgot_ns, self._recent.pop(name))

    def _gaps(self, to_ns: int, now_ns: int) -> list[Input]:
        """Name what is gone for ever; the gap is only named by the number of the tick after it."""
        lost, self._lost = self._lost, []
        key, from_ns = self._number, self._last_ts_ns or to_ns
        out: list[Input] = []
        for entries, reason in lost:
            out.append(GapOpened(key, key, from_ns, to_ns, now_ns, reason, counted=False))
            out.append(GapClosed(key, now_ns, entries or 1, "nobody has them any more"))
        return out


class Hole(NamedTuple):
    """Ids `first` to `last` are missing of the gap that began at `gap`."""

    gap: int
    first: int
    last: int


class Counted:
    """Ids rise by one: a jump is a gap, open until its trades are pushed; nothing waits for them.

    `gaps` are the first ids of those that the record holds open, `holes` what they still lack, in order. More
    than MAX_HOLES are not remembered: the oldest gaps are then given up.
    """

    def __init__(
        self, next_id: int | None, gaps: Iterable[int] = (), holes: Iterable[Hole] = (), last_ts_ns: int = 0
    ) -> None:
        self.next_id = next_id
        self._holes = list(holes)
        self._last_ts_ns = last_ts_ns
        self._open = set(gaps)
        self._reason = ""

    def doubtful(self, trades: Iterable[Trade]) -> list[Trade]:  # noqa: ARG002 - ids tell everything
        return []

    def lost(self, entries: int, reason: str) -> None:  # noqa: ARG002 - the ids will tell how many
        self._reason = reason

    def place(self, trades: Iterable[Trade], known: Collection[str], now_ns: int) -> Placed:  # noqa: ARG002
        by_id = {int(trade.id): trade for trade in reversed(list(trades))}
        in_order = [by_id[i] for i in sorted(by_id)]
        before = self._begun(in_order)
        edge = self.next_id or 0
        late = [x for x in in_order if int(x.id) < edge and self._fills(int(x.id))]
        new = [x for x in in_order if int(x.id) >= edge]
        before += self._reached(new, now_ns)
        fresh = sorted(late + new, key=lambda x: x.ts_ns)
        return Placed(before, fresh, self._closed(now_ns))

    def has(self, trade: Trade, known: Collection[str]) -> bool:  # noqa: ARG002
        trade_id = int(trade.id)
        return trade_id < (self.next_id or 0) and self._hole_of(trade_id) is None

    @property
    def open_holes(self) -> int:
        return len(self._open)

    @property
    def newest_ns(self) -> int:
        return self._last_ts_ns

    def _begun(self, trades: Sequence[Trade]) -> list[Input]:
        if self.next_id is not None or not trades:
            return []
        self.next_id = int(trades[0].id)
        return [Began(self.next_id)]

    def _reached(self, trades: Iterable[Trade], now_ns: int) -> list[Input]:
        """Go on to newer trades; name what is jumped over."""
        out: list[Input] = []
        for trade in trades:
            first, last = self.next_id or 0, int(trade.id) - 1
            if first <= last:
                from_ns, reason = self._last_ts_ns or trade.ts_ns, self._reason or "ids jumped"
                out.append(GapOpened(first, last, from_ns, trade.ts_ns, now_ns, reason))
                self._holes.append(Hole(first, first, last))
                self._open.add(first)
            self._reason, self.next_id, self._last_ts_ns = "", last + 2, trade.ts_ns
        return out

    def _fills(self, trade_id: int) -> bool:
        """Strike an id off what is missing; tell whether it was."""
        at = self._hole_of(trade_id)
        if at is None:
            return False
        gap, first, last = self._holes[at]
        parts = [Hole(gap, first, trade_id - 1), Hole(gap, trade_id + 1, last)]
        self._holes[at : at + 1] = [part for part in parts if part.first <= part.last]
        return True

    def _hole_of(self, trade_id: int) -> int | None:
        at = bisect_right(self._holes, trade_id, key=lambda hole: hole.first) - 1
        return at if at >= 0 and trade_id <= self._holes[at].last else None

    def _closed(self, now_ns: int) -> list[Input]:
        """Close gaps that lack nothing any more, and the oldest where there are too many to remember."""
        out: list[Input] = []
        while len(self._holes) > MAX_HOLES:
            gap = self._holes[0].gap
            missing = sum(hole.last - hole.first + 1 for hole in self._holes if hole.gap == gap)
            self._holes = [hole for hole in self._holes if hole.gap != gap]
            self._open.discard(gap)
            out.append(GapClosed(gap, now_ns, missing, TOO_MANY))
        whole = self._open - {hole.gap for hole in self._holes}
        self._open -= whole
        return [*out, *(GapClosed(gap, now_ns, 0, LATER) for gap in sorted(whole))]


class TickRule:
    """Infer who took from the last change of the price, where a collector does not know.

    Source: Lee and Ready, Journal of Finance 1991. A first trade was bought.
    """

    def __init__(self, price: float = 0.0, sign: int = 1, inferred: int = 0) -> None:
        self.price, self.sign, self.inferred = price, sign, inferred

    def apply(self, trades: Iterable[Trade]) -> list[Trade]:
        """Give every trade a side, in the order in which they enter the record."""
        return [self._sided(trade) for trade in trades]

    def _sided(self, trade: Trade) -> Trade:
        if self.price and trade.price != self.price:
            self.sign = 1 if trade.price > self.price else -1
        self.price = trade.price
        if trade.side:
            return trade
        self.inferred += 1
        return trade._replace(side=self.sign)
