"""Put the trades of a venue without contiguous ids into the record, each once, and prove what can be proven.

Pure. No id tells that one is missing, but of the venue's newest trades, which REST gives, none is missing
between the first and the last. They are asked for after every connect, while live ticks wait, and laid over
the record: if they reach from what was stored before to what has come since, whatever lies between is all
there was; if they do not reach back, the time between is named in a gap that nothing can fill. What is lost
inside a living connection shows when they are asked for again: every AUDIT_NS while trades come, and when
none come for long. Only what is traded meanwhile, and more than REST gives at once, nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from feeds.doubt import GIVEN, UNPROVEN, Doubt, Recent, Tick, read
from feeds.pace import Pace
from feeds.requests import Courtesy, Latest, Request
from feeds.splicer import TOLD_NS, WAIT_NS, WAIT_TICKS
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from market.ticks import TICK, Ticks
from market.times import NS_PER_S

AUDIT_NS = 30 * NS_PER_S
TRUST_NS = 10 * NS_PER_S  # REST is not so far behind the stream
MAX_DOUBTS = 64
MISSED = "missed while not connected"
DEAF = "the socket did not bring them"


class _Ahead(NamedTuple):
    """A trade that REST has and the socket has not brought yet; before it was one of `from_ns`, if any."""

    tick: Tick
    from_ns: int
    since_ns: int


class Overlap:
    """Own the order of one pair's trades; `recent` are the ids stored last, in order.

    `number` counts the ticks of the record, and is what the next one gets for its id where ids are text;
    `gaps` are the (key, from_ns, to_ns) of those that the record holds open. While an answer is waited for,
    live ticks wait: at most WAIT_NS or WAIT_TICKS. A new record begins with the venue's newest trades, as far
    back as `courtesy` says; None: with all of them.
    """

    def __init__(
        self,
        number: int,
        recent: Iterable[str] = (),
        last_ts_ns: int = 0,
        *,
        gaps: Iterable[tuple[int, int, int]] = (),
        courtesy: Courtesy | None = None,
    ) -> None:
        self.duplicates = 0
        self.deaf = False  # REST has trades that the socket, silent since, did not bring
        self._number, self._last_ts_ns, self._courtesy = number, last_ts_ns, courtesy
        self._recent = Recent(recent, last_ts_ns)
        self._doubts = [Doubt(from_ns, to_ns=to_ns, key=key) for key, from_ns, to_ns in gaps]
        self._last_key = max((doubt.key or 0 for doubt in self._doubts), default=0)
        self._waiting: dict[str, Tick] = {}
        self._waiting_since_ns = 0
        self._ahead: dict[str, _Ahead] = {}
        self._reconnected = self._checking = False
        self._asked: Request | None = None
        self._pace = Pace()
        self._asked_ns = self._banned_until_ns = 0
        self._laid_ns = self._came_ns = 0  # when an answer was laid over the record, when a tick came
        self._out: list[Input] = []

    @property
    def settled(self) -> bool:
        """True when all that the venue is known to have, open gaps aside, is in the record."""
        return not self._reconnected and not self._blocked

    @property
    def checking(self) -> bool:
        """True until it is known whether the silence of the socket is the market's."""
        return self._checking or bool(self._ahead)

    @property
    def renumbered(self) -> bool:
        """Never: these ids are no numbers."""
        return False

    @property
    def open_holes(self) -> int:
        return sum(doubt.key is not None for doubt in self._doubts)

    def connected(self) -> None:
        """Begin a connection: something may have been missed before it."""
        self._reconnected = True
        self._pace.reset()

    def check(self) -> None:
        """Ask whether the silence of the socket is the market's; see `deaf`."""
        self._checking = True

    def live(
        self,
        ticks: Ticks,
        now_ns: int,
        newest_id: int = 0,  # noqa: ARG002 - the seam's shape
        ids: Sequence[str] = (),
    ) -> list[Input]:
        """Take ticks from the socket."""
        self._begin(now_ns)
        if arrived := read(ticks, ids):
            self._came_ns = now_ns
            self._resume(arrived)
            self._hold(arrived, now_ns)
            if not self._blocked:
                self._emit(self._released())
        return self.tick(now_ns)

    def answered(self, request: Request, ticks: Ticks, now_ns: int, ids: Sequence[str] = ()) -> list[Input]:
        """Take the venue's newest trades, oldest first."""
        assert isinstance(request, Latest)  # noqa: S101 - nothing else is ever asked
        self._begin(now_ns)
        self._asked, self._checking, self._laid_ns = None, False, now_ns
        if page := read(ticks, ids):
            self._lay(page, now_ns)
        if not self._doubts:
            self._pace.reset()
        elif page and all(not doubt.to_ns for doubt in self._doubts):
            self._pace.after_ns = self._doubts[0].since_ns + TRUST_NS
        else:
            self._pace.postpone(now_ns)
        return self.tick(now_ns)

    def failed(self, now_ns: int, retry_after_ns: int = 0, refusal: str = "") -> list[Input]:  # noqa: ARG002
        """Note that REST gave nothing; it is asked again later, ever more slowly."""
        self._asked = None
        self._banned_until_ns = max(self._banned_until_ns, now_ns + retry_after_ns)
        self._pace.postpone(now_ns)
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Input]:
        """Let time pass: past the bounded wait live goes on, and what may lack before it is an open gap."""
        self._begin(now_ns)
        late = now_ns - self._waiting_since_ns > WAIT_NS or len(self._waiting) > WAIT_TICKS
        if self._waiting and late:
            self._give_way(now_ns)
        if overdue := [x for x in self._ahead.values() if now_ns - x.since_ns > TOLD_NS]:
            self.deaf |= self._came_ns <= overdue[0].since_ns
            self._catch_up(overdue, now_ns)
        self._checking |= self._came_ns > self._laid_ns and now_ns - self._laid_ns > AUDIT_NS
        return self._take()

    def drain(self, now_ns: int) -> list[Input]:
        """Let everything that waits into the record; what may lack before it stays an open gap."""
        self._begin(now_ns)
        if self._waiting:
            self._give_way(now_ns)
        return self._take()

    def request(self, now_ns: int) -> Request | None:
        """Return the one request to make now, if any; it must be answered or failed before the next."""
        if self._asked is not None or now_ns < self._banned_until_ns or not self._pace.due(now_ns):
            return None
        if self._reconnected or self._doubts or self._checking:
            self._asked, self._asked_ns = Latest(), now_ns
        return self._asked

    @property
    def _blocked(self) -> bool:
        return any(doubt.key is None for doubt in self._doubts)

    def _begin(self, now_ns: int) -> None:
        """Take note of a new connection: before whatever comes now something may have been missed."""
        if not self._reconnected:
            return
        self._reconnected = False
        self._catch_up(list(self._ahead.values()), now_ns)
        if self._waiting:
            self._give_way(now_ns)
        if self._doubts and not self._doubts[-1].to_ns:  # nothing came since: it is the same hole
            self._doubts[-1].since_ns = now_ns
            return
        self._doubts.append(Doubt(self._last_ts_ns, self._recent.since(self._last_ts_ns), now_ns))
        while len(self._doubts) > MAX_DOUBTS:
            self._out.append(self._doubts.pop(0).closed(now_ns, lost=True))

    def _resume(self, arrived: Sequence[Tick]) -> None:
        """Look where the socket goes on: behind the last answer, or behind what is in doubt."""
        doubt = self._doubts[-1] if self._doubts else None
        if doubt is None or doubt.to_ns:
            return
        for tick in arrived:
            if tick.key in doubt.seen:
                self._doubts.pop()
                self._pace.reset()
                return
            if tick.key not in self._recent and tick.ts_ns >= doubt.from_ns:
                doubt.to_ns, doubt.to_key = tick.ts_ns, tick.key
                self._pace.reset()
                return

    def _hold(self, arrived: Iterable[Tick], now_ns: int) -> None:
        """Let what is new wait."""
        self._waiting_since_ns = self._waiting_since_ns if self._waiting else now_ns
        for tick in arrived:
            expected = self._ahead.pop(tick.key, None)
            if tick.key not in self._recent and tick.key not in self._waiting:
                self._waiting[tick.key] = tick
            elif expected is None:
                self.duplicates += 1

    def _lay(self, page: list[Tick], now_ns: int) -> None:
        """Lay an answer over the record: what it has, and the record lacks, was missed."""
        if self._is_courtesy and not self._begin_record(page):
            return
        new = [i for i in self._recent.strangers(page) if page[i].key not in self._waiting]
        missed, closed = list[int](), list[Input]()
        for doubt in list(self._doubts):
            cover = doubt.cover(page)
            mine = [i for i in new if cover.start <= i < cover.end]
            closed += self._settle(doubt, page, len(mine), now_ns)
            missed, new = missed + mine, [i for i in new if not cover.start <= i < cover.end]
        known = [i for i, tick in enumerate(page) if tick.key in self._recent or tick.key in self._waiting]
        inside = [i for i in new if i < max(known, default=0)]
        closed += self._dropped(page, inside, now_ns)
        for i in new[len(inside) :]:
            ahead = _Ahead(page[i], page[i - 1].ts_ns if i else 0, now_ns)
            self._ahead.setdefault(page[i].key, ahead)
        live = [] if self._blocked else self._released()
        self._emit(_in_order([*(page[i] for i in missed + inside), *live], page))
        self._out += closed

    @property
    def _is_courtesy(self) -> bool:
        return bool(self._doubts) and not self._doubts[0].from_ns

    def _begin_record(self, page: Sequence[Tick]) -> bool:
        """Own of an answer what is not too old; tell whether a record can begin with it."""
        if self._doubts[0].to_ns and not self._doubts[0].cover(page).live:
            return False  # it would begin with a hole
        if self._courtesy is not None:
            self._recent.disown(page[-1].ts_ns - self._courtesy.back_ns)
        return True

    def _settle(self, doubt: Doubt, page: Sequence[Tick], rows: int, now_ns: int) -> list[Input]:
        """Judge what an answer says of a doubt; return the end of its gap, if it has one and it ends."""
        cover, closed = doubt.cover(page), list[Input]()
        if doubt.key is not None:
            doubt.rows, doubt.lost = doubt.rows + rows, doubt.lost or not cover.back
            closed = [doubt.closed(now_ns, lost=doubt.lost)] if cover.live else []
        elif doubt.from_ns and (rows or not cover.back):
            to_ns = doubt.to_ns if cover.live else page[-1].ts_ns
            closed = self._gap(doubt.from_ns, to_ns, now_ns, MISSED, rows, lost=not cover.back)
        trusted = not doubt.to_ns and self._asked_ns - doubt.since_ns >= TRUST_NS
        if cover.live or trusted:
            self._doubts.remove(doubt)
        else:
            doubt.advance(page)
        return closed

    def _dropped(self, page: Sequence[Tick], inside: Sequence[int], now_ns: int) -> list[Input]:
        """Name what the socket left out between trades that it brought."""
        if not inside:
            return []
        first, last = inside[0], inside[-1]
        from_ns, to_ns = page[max(0, first - 1)].ts_ns, page[last + 1].ts_ns
        return self._gap(from_ns, to_ns, now_ns, DEAF, len(inside), lost=not first)

    def _catch_up(self, overdue: Sequence[_Ahead], now_ns: int) -> None:
        """Store what REST has and the socket will not bring."""
        if not overdue:
            return
        from_ns = overdue[0].from_ns or min(self._last_ts_ns, overdue[0].tick.ts_ns)
        lost = not all(x.from_ns for x in overdue)
        ticks = [x.tick for x in overdue]
        closed = self._gap(from_ns, max(x.ts_ns for x in ticks), now_ns, DEAF, len(ticks), lost=lost)
        self._emit(ticks)
        self._out += closed

    def _gap(  # noqa: PLR0913 - a row
        self, from_ns: int, to_ns: int, now_ns: int, reason: str, rows: int, *, lost: bool
    ) -> list[Input]:
        """Open a gap that is closed as soon as its trades are stored; return its end."""
        key = self._open(from_ns, to_ns, now_ns, reason)
        return [GapClosed(key, now_ns, int(lost), UNPROVEN if lost else GIVEN, rows)]

    def _open(self, from_ns: int, to_ns: int, now_ns: int, reason: str) -> int:
        self._last_key = max(self._number, self._last_key + 1)
        self._out.append(
            GapOpened(self._last_key, self._last_key, from_ns, to_ns, now_ns, reason, counted=False)
        )
        return self._last_key

    def _give_way(self, now_ns: int) -> None:
        """Go on with live; what may lack before it stays in doubt, and is told so."""
        doubt = self._doubts[-1]
        if doubt.from_ns:
            doubt.key = self._open(doubt.from_ns, doubt.to_ns, now_ns, MISSED)
        else:  # a record that begins here owes nothing before
            self._doubts.remove(doubt)
        self._emit(self._released())

    def _released(self) -> list[Tick]:
        released, self._waiting = list(self._waiting.values()), {}
        return released

    def _emit(self, ticks: Sequence[Tick]) -> None:
        """Store ticks in order of time and id, if that is a number; those first that are late."""
        ticks = sorted(ticks, key=lambda tick: (tick.ts_ns, tick.row[0]))
        if ticks and not self._last_ts_ns:
            self._recent.disown(ticks[0].ts_ns)  # what is as old as a record's first trade it does not owe
        late = [tick for tick in ticks if tick.ts_ns < self._last_ts_ns]
        for part in (late, [tick for tick in ticks if tick.ts_ns >= self._last_ts_ns]):
            if part:
                self._store(part)

    def _store(self, ticks: Sequence[Tick]) -> None:
        rows = np.array([tick.row for tick in ticks], TICK)
        texts = any(tick.key != str(tick.row[0]) for tick in ticks)
        if texts:
            rows["trade_id"] = np.arange(self._number, self._number + len(rows))
        self._number += len(rows)
        self._last_ts_ns = max(self._last_ts_ns, int(rows["ts_ns"].max()))
        self._out.append(TickBatch(rows, ids=tuple(tick.key for tick in ticks) if texts else ()))
        self._recent.add(ticks)
        for tick in ticks:
            self._ahead.pop(tick.key, None)

    def _take(self) -> list[Input]:
        out, self._out = self._out, []
        return out


def _in_order(ticks: Iterable[Tick], page: Sequence[Tick]) -> list[Tick]:
    """Sort by time, and within one as the venue does; what its answer cut off at its beginning is first."""
    places, first_ns = {tick.key: i for i, tick in enumerate(page)}, page[0].ts_ns
    return sorted(
        ticks,
        key=lambda x: (x.ts_ns, places.get(x.key, -1 if x.ts_ns == first_ns else len(page))),
    )
