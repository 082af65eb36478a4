"""Put the trades of a venue with contiguous ids into the record in order, each once, holes found and named.

Pure: arrivals in, journal inputs and REST requests out. While the hole at the front is being fetched the live
ticks wait behind it; past WAIT_NS or WAIT_TICKS it is left open, live goes on, and its trades are handed in
when REST has them (the core then restates).
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
    """Ids from `next_id` to `last_id` are still missing of a gap that began at `first_id`.

    `held` are ticks of a hole that was left open, by id: those before `next_id` wait to be handed in, at most
    WAIT_TICKS and a page; those after it came from the socket.
    """

    first_id: int
    last_id: int
    next_id: int
    missing: int = 0  # ids that the venue says it does not have
    doubts: int = 0
    held: Ticks = field(default_factory=EMPTY.copy)

    def hold(self, ticks: Ticks) -> int:
        """Keep those of `ticks` that are missing, and step over what is there; return how many are new."""
        missing = (ticks["trade_id"] >= self.next_id) & (ticks["trade_id"] <= self.last_id)
        before, self.held = len(self.held), _by_id(self.held, ticks[missing])
        if run := _run(self.held, self.next_id):
            self.next_id, self.doubts = self.next_id + run, 0
        return len(self.held) - before

    def skip(self) -> None:
        """Believe that the ids before the next tick held are not to be had."""
        ahead = self.held["trade_id"][np.searchsorted(self.held["trade_id"], self.next_id) :]
        reached = int(ahead[0]) if len(ahead) else self.last_id + 1
        self.missing += reached - self.next_id
        self.next_id, self.doubts = reached, 0
        self.hold(EMPTY)

    def ready(self) -> Ticks:
        """Take the ticks before which nothing is to come."""
        count = int(np.searchsorted(self.held["trade_id"], self.next_id))
        ready, self.held = self.held[:count], self.held[count:]
        return ready


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
        self._waiting_since_ns = 0  # when the first of them came
        self._syncing = False  # connected, and not yet known whether something was missed
        self._asked: Request | None = None
        self._asked_before = False  # what is asked was asked before this connection
        self._ask_after_ns = self._banned_until_ns = 0
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
        self._syncing, self._asked_before = True, self._asked is not None
        self._ask_after_ns, self._delay_ns = 0, RETRY_NS

    def live(self, ticks: Ticks, now_ns: int) -> list[Input]:
        """Take ticks from the socket."""
        if self._flows(ticks):
            self._emit(ticks)
        elif len(ticks):
            self.duplicates += len(ticks) - self._place(ticks, now_ns)
        if self.next_id is not None and len(ticks) and int(ticks["trade_id"].max()) >= self.next_id - 1:
            self._syncing = False  # whatever was missed before these has shown as a jump
        return self.tick(now_ns)

    def answered(self, request: Request, ticks: Ticks, now_ns: int) -> list[Input]:
        """Take what REST gave for `request`, sorted by id."""
        self._asked = None
        self._ask_after_ns, self._delay_ns = now_ns, RETRY_NS
        if isinstance(request, Latest):
            self._take_latest(ticks, now_ns)
        else:
            self._take_page(request, ticks[ticks["trade_id"] >= request.from_id], now_ns)
        return self.tick(now_ns)

    def failed(self, now_ns: int, retry_after_ns: int = 0) -> list[Input]:
        """Note that REST gave nothing; it is asked again later, ever more slowly."""
        self._asked = None
        self._banned_until_ns = now_ns + retry_after_ns
        self._postpone(now_ns)
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Input]:
        """Let time pass: past the bounded wait, live goes on without the hole."""
        while len(self._waiting) and (
            now_ns - self._waiting_since_ns > WAIT_NS or len(self._waiting) > WAIT_TICKS
        ):
            self._give_way(now_ns)
        return self._take()

    def drain(self, now_ns: int) -> list[Input]:
        """Let everything that waits into the record; what it waited for stays an open gap."""
        while len(self._waiting):
            self._give_way(now_ns)
        for hole in self._holes:
            if len(ready := hole.ready()):
                self._out.append(TickBatch(ready))
        return self._take()

    def request(self, now_ns: int) -> Request | None:
        """Return the one request to make now, if any; it must be answered or failed before the next."""
        if self._asked is not None or now_ns < max(self._ask_after_ns, self._banned_until_ns):
            return None
        if self._front is not None and self.next_id is not None:
            self._asked = Page(self.next_id)
        elif self._syncing:
            self._asked = Latest()
        elif self._holes:
            self._asked = Page(self._holes[0].next_id)
        self._asked_before = False
        return self._asked

    def _flows(self, ticks: Ticks) -> bool:
        """Tell the common case: exactly the ids expected next, and nothing waits."""
        if self._front is not None or self.next_id is None or not len(ticks):
            return False
        expected = np.arange(self.next_id, self.next_id + len(ticks))
        return bool(ticks["trade_id"].tobytes() == expected.tobytes())  # 3 µs less than comparing arrays

    def _emit(self, ticks: Ticks) -> None:
        self.next_id = int(ticks["trade_id"][-1]) + 1
        self._last_ts_ns = int(ticks["ts_ns"][-1])
        self._out.append(TickBatch(ticks))

    def _place(self, ticks: Ticks, now_ns: int) -> int:
        """Put arrivals where they are missed, let go what the ids now reach; return how many are new."""
        early = ticks["trade_id"] < (self.next_id or 0)
        new = sum(hole.hold(ticks[early]) for hole in self._holes)
        for hole in list(self._holes):
            self._hand_in(hole, now_ns)
        before, self._waiting = len(self._waiting), _by_id(self._waiting, ticks[~early])
        new += len(self._waiting) - before
        self._waiting_since_ns = self._waiting_since_ns if before else now_ns
        self._release(now_ns)
        return new

    def _release(self, now_ns: int) -> None:
        """Move waiting ticks into the record as far as the ids are contiguous; name the hole after them."""
        while self.next_id is not None and len(self._waiting):
            if run := _run(self._waiting, self.next_id):
                ready, self._waiting = self._waiting[:run], self._waiting[run:]
                self._emit(ready)
                self._front_advanced(now_ns)
            elif self._front is None:
                first = self._waiting[0]
                self._open_front(int(first["trade_id"]) - 1, int(first["ts_ns"]), now_ns)
            else:
                return

    def _open_front(self, last_id: int, to_ns: int, now_ns: int) -> None:
        first = self.next_id or 0
        reason = "missed while not connected" if self._syncing else "ids jumped"
        self._front = Hole(first, last_id, first)
        self._out.append(GapOpened(first, last_id, self._last_ts_ns or to_ns, to_ns, now_ns, reason))

    def _front_advanced(self, now_ns: int) -> None:
        if self._front is None or self.next_id is None:
            return
        self._front.doubts = 0
        if self.next_id > self._front.last_id:
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
        elif self._front is None and newest >= self.next_id:
            self._open_front(newest, int(ticks["ts_ns"][-1]), now_ns)
        self._syncing = self._syncing and self._asked_before

    def _begin(self, first_id: int, now_ns: int) -> None:
        self.next_id = first_id
        self._out.append(Began(first_id))
        self._release(now_ns)

    def _take_page(self, request: Page, ticks: Ticks, now_ns: int) -> None:
        """Take a page; that it lacks the id asked for is doubted at first, and believed in the end."""
        self._place(ticks, now_ns)
        hole = next((h for h in self._holes if h.next_id == request.from_id), None)
        if hole is None and self.next_id == request.from_id:
            hole = self._front
        if hole is None:
            return
        self._postpone(now_ns)
        if not len(ticks):  # the venue's database is behind its stream
            return
        hole.doubts += 1
        if hole.doubts == DOUBTS:
            self._ask_after_ns, self._delay_ns = now_ns, RETRY_NS
            self._skip(hole, now_ns)

    def _skip(self, hole: Hole, now_ns: int) -> None:
        """Go on behind ids that the venue does not have."""
        if hole is not self._front:
            hole.skip()
            self._hand_in(hole, now_ns)
            return
        reached = min([hole.last_id + 1, *map(int, self._waiting["trade_id"][:1])])
        hole.missing += reached - (self.next_id or 0)
        self.next_id = reached
        self._front_advanced(now_ns)
        self._release(now_ns)

    def _hand_in(self, hole: Hole, now_ns: int) -> None:
        """Give the core what has come for a hole behind the live edge, all together if it is not too much."""
        done = hole.next_id > hole.last_id
        if (done or len(hole.held) > WAIT_TICKS) and len(ready := hole.ready()):
            self._out.append(TickBatch(ready))
        if done:
            self._close(hole, now_ns)
            self._holes.remove(hole)

    def _postpone(self, now_ns: int) -> None:
        self._ask_after_ns = now_ns + self._delay_ns
        self._delay_ns = min(2 * self._delay_ns, RETRY_MAX_NS)

    def _give_way(self, now_ns: int) -> None:
        """Leave the hole open behind the live edge and go on."""
        if self.next_id is None:
            self._begin(int(self._waiting["trade_id"][0]), now_ns)
        elif (hole := self._front) is not None:
            hole.next_id, self.next_id, self._front = self.next_id, hole.last_id + 1, None
            inside = int(np.searchsorted(self._waiting["trade_id"], self.next_id))
            hole.hold(self._waiting[:inside])
            self._waiting = self._waiting[inside:]
            self._holes.append(hole)
            self._release(now_ns)

    def _take(self) -> list[Input]:
        out, self._out = self._out, []
        return out


def _by_id(a: Ticks, b: Ticks) -> Ticks:
    """Merge ticks, sorted by id, each id once; of two the one in `a`."""
    both = np.concatenate([a, b])
    return both[np.unique(both["trade_id"], return_index=True)[1]]


def _run(ticks: Ticks, first_id: int) -> int:
    """Count the ticks that follow each other from `first_id` on, in ticks sorted by id."""
    ids = ticks["trade_id"][np.searchsorted(ticks["trade_id"], first_id) :]
    return int((ids == first_id + np.arange(len(ids))).sum())
