"""Put the trades of a venue with contiguous ids into the record in order, each once, holes found and named.

Pure: arrivals in, journal inputs and REST requests out. While the hole at the front is being fetched the live
ticks wait behind it; past WAIT_NS or WAIT_TICKS it is left open, live goes on, and its trades are handed in
when REST has them (the core then restates).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from feeds import holes, pace
from feeds.far import Far
from feeds.holes import Hole, Wanted, by_id, last_run, run
from feeds.requests import Courtesy, Latest, Page, Request
from market.inputs import Began, GapClosed, GapOpened, Input, Rejected, TickBatch
from market.ticks import EMPTY, Ticks
from market.times import NS_PER_S

WAIT_NS = 10 * NS_PER_S
WAIT_TICKS = 65_536
RETRY_NS = pace.RETRY_NS
RETRY_MAX_NS = pace.RETRY_MAX_NS
DOUBTS = holes.DOUBTS
NOT_LISTED = "the venue does not list them"
TOLD_NS = 2 * NS_PER_S  # a trade that the venue says there is may still be on its way
STRANGERS = 3  # trades later than all others, under ids that were used: the venue began its ids anew


class Splicer:
    """Own the id sequence of one pair; `next_id` None means that nothing was ever owed.

    `gaps` are the (first, last, next missing) ids and the times before the gaps that the record holds open.
    """

    def __init__(
        self,
        next_id: int | None,
        gaps: Iterable[tuple[int, int, int, int]] = (),
        last_ts_ns: int = 0,
        courtesy: Courtesy | None = None,
    ) -> None:
        self.next_id = next_id
        self.duplicates = 0
        self.deaf = False  # there are trades that the socket, silent since, did not bring
        self._courtesy = courtesy or Courtesy()
        self._back_id: int | None = None  # a new record is being begun from here on
        self._newest_id = -1  # of the first answer, with which a new record begins
        self._told = 0, 0  # the newest trade that the venue told of, and when it first did
        self._untold = 0  # how often in a row such a one did not come
        self._checking = False  # asking whether silence is really silence
        opened = [Hole(*gap) for gap in gaps]
        # A gap beyond the last stored trade is one that live ticks were waiting for.
        self._front = next((h for h in opened if next_id is not None and h.last_id >= next_id), None)
        if self._front is not None and next_id is not None:
            self._front.advance(next_id, last_ts_ns or self._front.from_ns)
        self._holes = [h for h in opened if h is not self._front]
        self._waiting: Ticks = EMPTY
        self._waiting_since_ns = 0  # when the first of them came
        self._syncing = False  # connected, and not yet known whether something was missed
        self._asked: Request | None = None
        self._asked_of: tuple[Hole, Wanted] | None = None
        self._asked_before = False  # what is asked was asked before this connection
        self._pace = pace.Pace()
        self._banned_until_ns = 0
        self._shown_id = -1  # the newest that REST has shown
        self._last_ts_ns = last_ts_ns
        self._far = Far()
        self._strangers = 0
        self._out: list[Input] = []

    @property
    def settled(self) -> bool:
        """True when all that the venue is known to have, old holes aside, is in the record."""
        return not (self._syncing or self._front or len(self._waiting))

    @property
    def renumbered(self) -> bool:
        """True while trades come under ids that the record has used: which is which nobody can tell."""
        return self._strangers >= STRANGERS

    @property
    def checking(self) -> bool:
        """True until it is known whether the silence of the socket is the market's."""
        return self._checking

    @property
    def open_holes(self) -> int:
        return len(self._holes) + (self._front is not None)

    def connected(self) -> None:
        """Begin a connection: something may have been missed before it."""
        self._syncing, self._asked_before = True, self._asked is not None
        self._pace.reset()

    def check(self) -> None:
        """Ask whether the silence of the socket is the market's; see `deaf`."""
        self._checking = True

    def live(
        self,
        ticks: Ticks,
        now_ns: int,
        newest_id: int = 0,
        ids: Sequence[str] = (),  # noqa: ARG002 - the seam's shape
    ) -> list[Input]:
        """Take ticks from the socket, and the newest id that the venue says there is."""
        ticks, refused = self._far.sift(ticks, self.next_id)
        self._out += [Rejected(now_ns, f"id {i} is far ahead of all others", b"") for i in refused]
        if self._flows(ticks):
            self._emit(ticks)
        elif len(ticks):
            self.duplicates += len(ticks) - self._place(ticks, now_ns)
        self._untold = 0 if len(ticks) else self._untold
        if newest_id > self._told[0]:
            self._told = newest_id, now_ns
        if self.next_id is not None and len(ticks) and int(ticks["trade_id"].max()) >= self.next_id - 1:
            self._syncing = False  # whatever was missed before these has shown as a jump
        return self.tick(now_ns)

    def answered(
        self,
        request: Request,
        ticks: Ticks,
        now_ns: int,
        ids: Sequence[str] = (),  # noqa: ARG002 - as in live
    ) -> list[Input]:
        """Take what REST gave for `request`, sorted by id."""
        of, self._asked, self._asked_of = self._asked_of, None, None
        if len(ticks):
            self._pace.reset()
            self._shown_id = max(self._shown_id, int(ticks["trade_id"][-1]))
        if isinstance(request, Latest):
            self._take_latest(ticks, now_ns)
        elif self.next_id is None:
            self._reach_back(ticks[ticks["trade_id"] >= request.from_id], now_ns)
        elif of is not None:
            self._take_page(*of, ticks, now_ns)
        else:
            self._place(ticks, now_ns)
        return self.tick(now_ns)

    def failed(self, now_ns: int, retry_after_ns: int = 0, refusal: str = "") -> list[Input]:
        """Note that REST gave nothing; it is asked again later, ever more slowly.

        `refusal` is why it does not give just what was asked for.
        """
        of, self._asked, self._asked_of = self._asked_of, None, None
        self._banned_until_ns = max(self._banned_until_ns, now_ns + retry_after_ns)
        if of is not None and refusal:
            of[0].refusal = refusal
            self._take_page(*of, EMPTY, now_ns)
        else:
            self._pace.postpone(now_ns)
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Input]:
        """Let time pass: past the bounded wait, live goes on without the hole."""
        while len(self._waiting) and (
            now_ns - self._waiting_since_ns > WAIT_NS or len(self._waiting) > WAIT_TICKS
        ):
            self._give_way(now_ns)
        told_id, told_ns = self._told
        if told_id >= (self.next_id or told_id + 1) and now_ns - told_ns > TOLD_NS and not self._front:
            self._open_front(told_id, now_ns, now_ns)
            self._untold += 1
            self.deaf |= self._untold > 1
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
        if self._asked is None and self._pace.due(now_ns) and now_ns >= self._banned_until_ns:
            self._asked = self._question(now_ns)
            self._asked_before = False
            return self._asked
        return None

    def _question(self, now_ns: int) -> Request | None:
        if self._front is not None and self.next_id is not None:
            return self._page(self._front, now_ns) if self._front.pace.due(now_ns) else None
        if self._back_id is not None:
            return Page(self._back_id)
        if self._syncing or self._checking:
            return Latest()
        due = min(self._holes, key=lambda hole: hole.pace.after_ns, default=None)
        if due is None or not due.pace.due(now_ns):
            return None
        if due.hopeless(now_ns) and self._shown_id < due.next_id:
            due.pace.postpone(now_ns)
            return Latest()  # is its database behind, or does it lack them?
        return self._page(due, now_ns)

    def _page(self, hole: Hole, now_ns: int) -> Page:
        wanted = hole.wanted(now_ns, self._behind(hole), windows=self._courtesy.windows)
        self._asked_of = hole, wanted
        return Page(*wanted)

    def _behind(self, hole: Hole) -> Ticks:
        """Give the first tick behind what a hole lacks, if one is known."""
        return self._waiting[:1] if hole is self._front else hole.next_held()

    def _flows(self, ticks: Ticks) -> bool:
        """Tell the common case: exactly the ids expected next, and nothing waits."""
        if self._front is not None or self.next_id is None or not len(ticks):
            return False
        expected = np.arange(self.next_id, self.next_id + len(ticks))
        return bool(ticks["trade_id"].tobytes() == expected.tobytes())  # 3 µs less than comparing arrays

    def _emit(self, ticks: Ticks) -> None:
        self.next_id, self._strangers = int(ticks["trade_id"][-1]) + 1, 0
        self._last_ts_ns = int(ticks["ts_ns"][-1])
        self._out.append(TickBatch(ticks))

    def _place(self, ticks: Ticks, now_ns: int) -> int:
        """Put arrivals where they are missed, let go what the ids now reach; return how many are new."""
        early = ticks["trade_id"] < (self.next_id or 0)
        new = sum(hole.hold(ticks[early]) for hole in self._holes)
        later = early & (ticks["ts_ns"] > self._last_ts_ns + NS_PER_S)
        self._strangers += max(0, int(later.sum()) - new)
        for hole in list(self._holes):
            self._hand_in(hole, now_ns)
        before, self._waiting = len(self._waiting), by_id(self._waiting, ticks[~early])
        new += len(self._waiting) - before
        self._waiting_since_ns = self._waiting_since_ns if before else now_ns
        self._release(now_ns)
        return new

    def _release(self, now_ns: int) -> None:
        """Move waiting ticks into the record as far as the ids are contiguous; name the hole after them."""
        while self.next_id is not None and len(self._waiting):
            if count := run(self._waiting, self.next_id):
                ready, self._waiting = self._waiting[:count], self._waiting[count:]
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
        self._front = Hole(first, last_id, first, self._last_ts_ns, to_ns)
        self._out.append(GapOpened(first, last_id, self._last_ts_ns or to_ns, to_ns, now_ns, reason))

    def _front_advanced(self, now_ns: int) -> None:
        if self._front is None or self.next_id is None:
            return
        self._front.advance(self.next_id, self._last_ts_ns)
        if self.next_id > self._front.last_id:
            self._close(self._front, now_ns)
            self._front = None

    def _close(self, hole: Hole, now_ns: int) -> None:
        reason = hole.refusal or NOT_LISTED if hole.missing else "given back by REST"
        self._out.append(GapClosed(hole.first_id, now_ns, hole.missing, reason))

    def _take_latest(self, ticks: Ticks, now_ns: int) -> None:
        if not len(ticks):  # a market that never traded: the first trade seen begins the record
            self._pace.postpone(now_ns)
            return
        newest = int(ticks["trade_id"][-1])
        if self.next_id is None:
            self._newest_id = newest
            self._reach_back(ticks, now_ns)
        elif (self._syncing or self._checking) and self._front is None and newest >= self.next_id:
            self.deaf = self._checking and not self._syncing
            self._open_front(newest, int(ticks["ts_ns"][-1]), now_ns)
            first = int(np.searchsorted(ticks["trade_id"], self.next_id))
            self._place(ticks[first : first + run(ticks, self.next_id)], now_ns)
        self._syncing, self._checking = self._syncing and self._asked_before, False

    def _reach_back(self, ticks: Ticks, now_ns: int) -> None:
        """Begin a record some time ago, for as long as the venue gives older trades."""
        courtesy, newest_id = self._courtesy, self._newest_id
        if not courtesy.back_ns:
            self._begin(min([newest_id + 1, *map(int, self._waiting["trade_id"][:1])]), now_ns)
            return
        before = int(self._waiting["trade_id"][0]) if len(self._waiting) else newest_id + 1
        self._place(ticks, now_ns)
        oldest, newest = self._waiting[0], self._waiting[-1]
        enough = int(newest["ts_ns"]) - int(oldest["ts_ns"]) >= courtesy.back_ns
        oldest_id = int(oldest["trade_id"])
        if enough or not courtesy.page or not 1 < oldest_id < before:
            self._begin(self._courteous_id(), now_ns)
        else:
            self._back_id = max(1, oldest_id - courtesy.page)

    def _courteous_id(self) -> int:
        """Tell from where on a new record is whole."""
        if not self._courtesy.back_ns or self._newest_id < 0:
            return int(self._waiting["trade_id"][0])
        first = last_run(self._waiting, self._newest_id)
        newest_ns = int(self._waiting["ts_ns"][-1])
        recent = self._waiting["trade_id"][
            np.searchsorted(self._waiting["ts_ns"], newest_ns - self._courtesy.back_ns) :
        ]
        return min(max(first, int(recent[0])), self._newest_id + 1)

    def _begin(self, first_id: int, now_ns: int) -> None:
        self.next_id, self._back_id = first_id, None
        self._waiting = self._waiting[self._waiting["trade_id"] >= first_id]
        self._out.append(Began(first_id))
        self._release(now_ns)

    def _take_page(self, hole: Hole, asked: Wanted, ticks: Ticks, now_ns: int) -> None:
        """Take a page; that it lacks the id asked for is doubted at first, and believed in the end."""
        wanted, behind = hole.next_id, self._behind(hole)
        self._place(ticks, now_ns)
        if hole.next_id != wanted:
            return
        if hole.lacks(asked, ticks, now_ns, behind):
            self._skip(hole, now_ns)
        elif hole.search is None and hole.hopeless(now_ns) and self._shown_id >= hole.next_id:
            end = self._end(hole)
            if self._courtesy.page and end - hole.next_id > 1:
                hole.search = holes.Search(hole.next_id, end)
                hole.pace.reset()
            else:
                self._skip(hole, now_ns)

    def _end(self, hole: Hole) -> int:
        """Tell the first id behind what a hole lacks that is there, or is none of its own."""
        return min([hole.last_id + 1, *map(int, self._behind(hole)["trade_id"])])

    def _skip(self, hole: Hole, now_ns: int) -> None:
        """Go on behind ids that the venue does not have."""
        reached = hole.search.high if hole.search is not None else self._end(hole)
        hole.missing += reached - hole.next_id
        if hole is self._front:
            self.next_id = reached
            self._front_advanced(now_ns)
            self._release(now_ns)
        else:
            hole.advance(reached, hole.from_ns)
            hole.hold(EMPTY)
            self._hand_in(hole, now_ns)

    def _hand_in(self, hole: Hole, now_ns: int) -> None:
        """Give the core what has come for a hole behind the live edge, all together if it is not too much."""
        done = hole.next_id > hole.last_id
        if (done or hole.overflows(now_ns, WAIT_NS, WAIT_TICKS)) and len(ready := hole.ready()):
            self._out.append(TickBatch(ready))
        if done:
            self._close(hole, now_ns)
            self._holes.remove(hole)

    def _give_way(self, now_ns: int) -> None:
        """Leave the hole open behind the live edge and go on."""
        if self.next_id is None:
            self._begin(self._courteous_id(), now_ns)
        elif (hole := self._front) is not None:
            self.next_id, self._front = hole.last_id + 1, None
            inside = int(np.searchsorted(self._waiting["trade_id"], self.next_id))
            hole.hold(self._waiting[:inside])
            self._waiting = self._waiting[inside:]
            self._holes.append(hole)
            self._release(now_ns)

    def _take(self) -> list[Input]:
        out, self._out = self._out, []
        return out
