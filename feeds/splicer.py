"""Put the trades of a venue with contiguous ids into the record in order, each once, holes found and named.

Pure: arrivals in, journal inputs and REST requests out. While a hole is being fetched the live ticks wait
behind it; past WAIT_NS or WAIT_TICKS the hole is left open, live goes on, and its trades are handed in when
REST has them (the core then restates).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from market.inputs import Began, GapClosed, GapOpened, Input, TickBatch
from market.ticks import EMPTY, Ticks
from market.times import NS_PER_S

WAIT_NS = 10 * NS_PER_S
WAIT_TICKS = 65_536
RETRY_NS = NS_PER_S // 4
RETRY_MAX_NS = 30 * NS_PER_S
DOUBTS = 3  # answers that skip an id before the venue is believed not to have it
NOT_LISTED = "the venue does not list them"


@dataclass(frozen=True, slots=True)
class Latest:
    """Ask the venue for its newest trade."""


@dataclass(frozen=True, slots=True)
class Page:
    """Ask the venue for trades from `from_id` on, as many as it gives at once."""

    from_id: int


Request: TypeAlias = Latest | Page


@dataclass(slots=True)
class Hole:
    """Ids `next_id`..`last_id` are still missing of a gap that began at `first_id`."""

    first_id: int
    last_id: int
    next_id: int
    since_ns: int = 0
    missing: int = 0  # ids that the venue says it does not have
    doubts: int = 0
    fetched: list[Ticks] = field(default_factory=list)  # at most WAIT_TICKS and a page


class Splicer:
    """Own the id sequence of one pair; `next_id` None means that nothing was ever owed.

    `gaps` are the (first, last, next missing) ids of the gaps that the record holds open.
    """

    def __init__(
        self,
        next_id: int | None,
        gaps: Iterable[tuple[int, int, int]] = (),
        last_ts_ns: int = 0,
    ) -> None:
        self.next_id = next_id
        self.duplicates = 0
        holes = [Hole(*gap) for gap in gaps]
        # A gap beyond the last stored trade is one that live ticks were waiting for.
        self._front = next((h for h in holes if next_id is not None and h.last_id >= next_id), None)
        self._holes = [h for h in holes if h is not self._front]
        self._waiting: Ticks = EMPTY
        self._waiting_since_ns = 0
        self._syncing = False  # connected, and not yet known whether something was missed
        self._asked: Request | None = None
        self._ask_after_ns = 0
        self._delay_ns = RETRY_NS
        self._last_ts_ns = last_ts_ns
        self._out: list[Input] = []

    @property
    def settled(self) -> bool:
        """True when all that the venue is known to have, old holes aside, is in the record."""
        return not (self._syncing or self._front or len(self._waiting))

    @property
    def open_holes(self) -> int:
        return len(self._holes) + (self._front is not None)

    def connected(self) -> None:
        """Begin a connection: something may have been missed before it."""
        self._syncing = True
        self._ask_after_ns, self._delay_ns = 0, RETRY_NS

    def live(self, ticks: Ticks, now_ns: int) -> list[Input]:
        """Take ticks from the socket."""
        if self._flows(ticks):
            self._emit(ticks)
        elif len(ticks):
            self._place(ticks, now_ns, live=True)
        return self.tick(now_ns)

    def answered(self, request: Request, ticks: Ticks, now_ns: int) -> list[Input]:
        """Take what REST gave for `request`, sorted by id."""
        self._asked = None
        self._ask_after_ns, self._delay_ns = now_ns, RETRY_NS
        if isinstance(request, Latest):
            self._take_latest(ticks, now_ns)
        elif hole := next((h for h in self._holes if h.next_id == request.from_id), None):
            self._take_old(hole, ticks, now_ns)
        else:
            self._take_page(request, ticks, now_ns)
        return self.tick(now_ns)

    def failed(self, now_ns: int, retry_after_ns: int = 0) -> list[Input]:
        """Note that REST gave nothing; it is asked again later, ever more slowly."""
        self._asked = None
        self._postpone(now_ns, retry_after_ns)
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Input]:
        """Let time pass: past the bounded wait, live goes on without the hole."""
        too_long = now_ns - self._waiting_since_ns > WAIT_NS or len(self._waiting) > WAIT_TICKS
        if len(self._waiting) and too_long:
            self._give_way(now_ns)
        return self._take()

    def drain(self, now_ns: int) -> list[Input]:
        """Let everything that waits into the record; what it waited for stays an open gap."""
        while len(self._waiting):
            self._give_way(now_ns)
        return self._take()

    def request(self, now_ns: int) -> Request | None:
        """Return the one request to make now, if any; it must be answered or failed before the next."""
        if self._asked is not None or now_ns < self._ask_after_ns:
            return None
        if self._front is not None and self.next_id is not None:
            self._asked = Page(self.next_id)
        elif self._syncing:
            self._asked = Latest()
        elif self._holes:
            self._asked = Page(self._holes[0].next_id)
        return self._asked

    def _flows(self, ticks: Ticks) -> bool:
        """Tell the common case: exactly the ids expected next, and nothing waits."""
        if self._front is not None or self.next_id is None or not len(ticks):
            return False
        ids = ticks["trade_id"]
        if int(ids[0]) != self.next_id or int(ids[-1]) != self.next_id + len(ids) - 1:
            return False
        return len(ids) < 3 or bool((np.diff(ids) == 1).all())

    def _emit(self, ticks: Ticks) -> None:
        self.next_id = int(ticks["trade_id"][-1]) + 1
        self._last_ts_ns = int(ticks["ts_ns"][-1])
        self._syncing = False
        self._out.append(TickBatch(ticks))

    def _place(self, ticks: Ticks, now_ns: int, *, live: bool) -> None:
        """Sort arrivals among those that wait, and let go what the ids now reach."""
        if live and not len(self._waiting):
            self._waiting_since_ns = now_ns
        ids, where = np.unique(ticks["trade_id"], return_index=True)
        repeated = len(ticks) - len(ids)
        fresh = ids >= self.next_id if self.next_id is not None else np.ones(len(ids), bool)
        known = sum(not self._in_hole(int(i)) for i in ids[~fresh]) if live else 0
        ticks = ticks[where[fresh]]
        waiting = np.isin(ticks["trade_id"], self._waiting["trade_id"])
        if live:
            self.duplicates += repeated + known + int(waiting.sum())
        both = np.concatenate([self._waiting, ticks[~waiting]])
        self._waiting = both[np.argsort(both["trade_id"], kind="stable")]
        self._release(now_ns)

    def _in_hole(self, trade_id: int) -> bool:
        return any(h.next_id <= trade_id <= h.last_id for h in self._holes)

    def _release(self, now_ns: int) -> None:
        """Move waiting ticks into the record as far as the ids are contiguous; name the hole after them."""
        while self.next_id is not None and len(self._waiting):
            ids = self._waiting["trade_id"]
            run = int((ids == self.next_id + np.arange(len(ids))).sum())
            if run:
                ready, self._waiting = self._waiting[:run], self._waiting[run:]
                self._emit(ready)
                self._close_front(now_ns)
            elif self._front is None:
                self._open_front(int(ids[0]) - 1, int(self._waiting["ts_ns"][0]), now_ns)
            else:
                return

    def _open_front(self, last_id: int, to_ns: int, now_ns: int) -> None:
        first = self.next_id or 0
        reason = "missed while not connected" if self._syncing else "ids jumped"
        self._front = Hole(first, last_id, first, now_ns)
        self._syncing = False
        self._out.append(GapOpened(first, last_id, self._last_ts_ns or to_ns, to_ns, now_ns, reason))

    def _close_front(self, now_ns: int) -> None:
        if self._front is not None and (self.next_id or 0) > self._front.last_id:
            self._close(self._front, now_ns)
            self._front = None

    def _close(self, hole: Hole, now_ns: int) -> None:
        reason = NOT_LISTED if hole.missing else "given back by REST"
        self._out.append(GapClosed(hole.first_id, now_ns, hole.missing, reason))

    def _take_latest(self, ticks: Ticks, now_ns: int) -> None:
        if not len(ticks):  # a market that never traded: the first trade seen begins the record
            self._postpone(now_ns)
            return
        newest = int(ticks["trade_id"][-1])
        if self.next_id is None:
            self._begin(min([newest + 1, *map(int, self._waiting["trade_id"][:1])]), now_ns)
        elif self._front is None and self._syncing and newest >= self.next_id:
            self._open_front(newest, int(ticks["ts_ns"][-1]), now_ns)
        self._syncing = False

    def _begin(self, first_id: int, now_ns: int) -> None:
        self.next_id, self._syncing = first_id, False
        self._out.append(Began(first_id))
        self._release(now_ns)

    def _take_page(self, request: Page, ticks: Ticks, now_ns: int) -> None:
        """Take a page for the hole at the front, or one that came too late for it."""
        self._place(ticks, now_ns, live=False)
        hole = self._front
        if hole is None or self.next_id != request.from_id:
            return
        if not self._believe(hole, ticks, now_ns):
            return
        listed = int(ticks["trade_id"][0])
        hole.missing += min(listed, hole.last_id + 1) - request.from_id
        self.next_id = min(listed, hole.last_id + 1)
        self._close_front(now_ns)
        self._release(now_ns)

    def _take_old(self, hole: Hole, ticks: Ticks, now_ns: int) -> None:
        """Take a page for a hole behind the live edge; its ticks are handed in together."""
        inside = ticks[: int(np.searchsorted(ticks["trade_id"], hole.last_id, side="right"))]
        run = int((inside["trade_id"] == hole.next_id + np.arange(len(inside))).sum())
        if run:
            hole.fetched.append(inside[:run])
            hole.next_id += run
            hole.doubts = 0
        elif self._believe(hole, ticks, now_ns):
            listed = min(int(ticks["trade_id"][0]), hole.last_id + 1)
            hole.missing += listed - hole.next_id
            hole.next_id = listed
        self._hand_in(hole, now_ns)

    def _hand_in(self, hole: Hole, now_ns: int) -> None:
        done = hole.next_id > hole.last_id
        if hole.fetched and (done or sum(map(len, hole.fetched)) > WAIT_TICKS):
            self._out.append(TickBatch(np.concatenate(hole.fetched)))
            hole.fetched.clear()
        if done:
            self._close(hole, now_ns)
            self._holes.remove(hole)

    def _believe(self, hole: Hole, ticks: Ticks, now_ns: int) -> bool:
        """Tell whether an answer that skips the id asked for has been given often enough."""
        self._postpone(now_ns)
        if not len(ticks):  # the venue's database is behind its stream
            return False
        hole.doubts += 1
        if hole.doubts < DOUBTS:
            return False
        hole.doubts, self._ask_after_ns, self._delay_ns = 0, now_ns, RETRY_NS
        return True

    def _postpone(self, now_ns: int, at_least_ns: int = 0) -> None:
        self._ask_after_ns = now_ns + max(at_least_ns, self._delay_ns)
        self._delay_ns = min(2 * self._delay_ns, RETRY_MAX_NS)

    def _give_way(self, now_ns: int) -> None:
        """Leave the hole open behind the live edge and go on."""
        if self.next_id is None:
            self._begin(int(self._waiting["trade_id"][0]), now_ns)
        elif self._front is not None:
            hole, self._front = self._front, None
            hole.next_id, self.next_id = self.next_id, hole.last_id + 1
            self._holes.append(hole)
            self._waiting_since_ns = now_ns
            self._release(now_ns)

    def _take(self) -> list[Input]:
        out, self._out = self._out, []
        return out
