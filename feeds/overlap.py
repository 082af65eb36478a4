"""Put the trades of a venue without contiguous ids into the record, each once, and prove what can be proven.

Pure. No id tells that one is missing, so after every connect the venue's newest trades are asked for and laid
over what the record holds: if they reach back to it, whatever lies between is all there was; if they do not,
the time between is named in a gap that nothing can fill. What is lost inside a living connection shows only
when its silence is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from feeds.splicer import RETRY_MAX_NS, RETRY_NS, WAIT_NS, WAIT_TICKS, Latest, Request
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from market.ticks import TICK, Ticks

RECENT = 1_024
MISSED = "missed while not connected"
DEAF = "the socket did not bring them"
UNPROVEN = "the venue gives only its newest trades, and they do not reach back"


class _Tick(NamedTuple):
    key: str
    row: tuple[int | float, ...]  # a TICK

    @property
    def ts_ns(self) -> int:
        return int(self.row[1])


@dataclass(slots=True)
class _Doubt:
    """Since `from_ns` trades may be missing; `before` are the newest ids from before that.

    `key` is that of the gap which the record holds open for it, if live went on without an answer.
    """

    from_ns: int
    before: frozenset[str] = field(default_factory=frozenset)
    key: int | None = None


class Overlap:
    """Own the order of one pair's trades; `recent` are the ids stored last, in order.

    `number` counts the ticks of the record, and is what the next one gets for its id where ids are text;
    `open_gap` is (key, from_ns) of the gap that the record holds open. While an answer is waited for, live
    ticks wait: at most WAIT_NS or WAIT_TICKS.
    """

    def __init__(
        self,
        number: int,
        recent: Iterable[str] = (),
        last_ts_ns: int = 0,
        open_gap: tuple[int, int] | None = None,
    ) -> None:
        self.duplicates = 0
        self.deaf = False  # a check found trades that the socket did not bring
        self._number = number
        self._recent = dict.fromkeys(recent)
        self._last_ts_ns = last_ts_ns
        self._doubt = _Doubt(open_gap[1], key=open_gap[0]) if open_gap else None
        self._waiting: dict[str, _Tick] = {}
        self._waiting_since_ns = 0
        self._checking = False
        self._asked: Request | None = None
        self._asked_before = False  # what is asked was asked before this connection
        self._ask_after_ns = self._banned_until_ns = 0
        self._delay_ns = RETRY_NS
        self._out: list[Input] = []

    @property
    def settled(self) -> bool:
        """True when all that the venue is known to have, an open gap aside, is in the record."""
        return not self._waiting and (self._doubt is None or self._doubt.key is not None)

    @property
    def open_holes(self) -> int:
        return int(self._doubt is not None and self._doubt.key is not None)

    def connected(self) -> None:
        """Begin a connection: something may have been missed before it."""
        self._doubt = self._doubt or _Doubt(self._last_ts_ns, frozenset(self._recent))
        self._asked_before = self._asked is not None
        self._ask_after_ns, self._delay_ns = 0, RETRY_NS

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
        new = self._new(_ticks(ticks, ids))
        self.duplicates += len(ticks) - len(new)
        if self.settled:
            self._emit(new)
        elif new:
            self._waiting_since_ns = self._waiting_since_ns if self._waiting else now_ns
            self._waiting.update((tick.key, tick) for tick in new)
        return self.tick(now_ns)

    def answered(self, request: Request, ticks: Ticks, now_ns: int, ids: Sequence[str] = ()) -> list[Input]:
        """Take the venue's newest trades, oldest first."""
        assert isinstance(request, Latest)  # noqa: S101 - nothing else is ever asked
        self._asked, self._ask_after_ns, self._delay_ns = None, now_ns, RETRY_NS
        page = _ticks(ticks, ids)
        if self._asked_before:
            return self.tick(now_ns)  # it may be of before this connection
        if page and self._reaches_live(page):
            self._lay(page, now_ns)
        else:
            self._postpone(now_ns)
        return self.tick(now_ns)

    def failed(self, now_ns: int, retry_after_ns: int = 0) -> list[Input]:
        """Note that REST gave nothing; it is asked again later, ever more slowly."""
        self._asked = None
        self._banned_until_ns = now_ns + retry_after_ns
        self._postpone(now_ns)
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Input]:
        """Let time pass: past the bounded wait live goes on, and what may lack before it is an open gap."""
        late = now_ns - self._waiting_since_ns > WAIT_NS or len(self._waiting) > WAIT_TICKS
        if self._waiting and late:
            self._give_way(now_ns)
        return self._take()

    def drain(self, now_ns: int) -> list[Input]:
        """Let everything that waits into the record; what may lack before it stays an open gap."""
        if self._waiting:
            self._give_way(now_ns)
        return self._take()

    def request(self, now_ns: int) -> Request | None:
        """Return the one request to make now, if any; it must be answered or failed before the next."""
        if self._asked is not None or now_ns < max(self._ask_after_ns, self._banned_until_ns):
            return None
        if self._doubt is not None or self._checking:
            self._asked = Latest()
        self._asked_before = False
        return self._asked

    def _new(self, ticks: Iterable[_Tick]) -> list[_Tick]:
        """Leave out what is known, and what comes twice."""
        known = self._recent.keys() | self._waiting.keys()
        fresh = {tick.key: tick for tick in ticks if tick.key not in known}
        return list(fresh.values())

    def _reaches_live(self, page: list[_Tick]) -> bool:
        """Tell whether the venue's database is as far as its stream, behind which it may be."""
        if not self._waiting:
            return True
        first = next(iter(self._waiting.values()))
        return page[-1].ts_ns > first.ts_ns or any(tick.key in self._waiting for tick in page)

    def _lay(self, page: list[_Tick], now_ns: int) -> None:
        """Lay an answer over the record: what it has, and the record lacks, was missed."""
        doubt = self._doubt or _Doubt(self._last_ts_ns, frozenset(self._recent))
        reached = max((i for i, tick in enumerate(page) if tick.key in doubt.before), default=-1)
        later = page[reached + 1 :] if reached >= 0 else [t for t in page if t.ts_ns >= doubt.from_ns]
        missed = self._new(later)
        waiting, self._waiting = self._waiting, {}
        ahead = [waiting.pop(tick.key, tick) for tick in later if tick.key not in self._recent]
        proven = reached >= 0 or not doubt.from_ns or page[0].ts_ns < doubt.from_ns
        if doubt.from_ns and (missed or not proven or doubt.key is not None):
            self._open(doubt, missed[-1].ts_ns if proven and missed else page[0].ts_ns, now_ns)
        self.deaf = bool(missed) and self._checking and self._doubt is None
        self._emit([*ahead, *waiting.values()])
        if doubt.key is not None:
            reason = "given back by REST" if proven else UNPROVEN
            self._out.append(GapClosed(doubt.key, now_ns, int(not proven), reason, len(missed)))
        self._doubt, self._checking = None, False

    def _open(self, doubt: _Doubt, to_ns: int, now_ns: int) -> None:
        if doubt.key is None:
            doubt.key = self._number
            reason = DEAF if self._doubt is None else MISSED
            self._out.append(
                GapOpened(doubt.key, doubt.key, doubt.from_ns, to_ns, now_ns, reason, counted=False)
            )

    def _give_way(self, now_ns: int) -> None:
        """Go on with live; what may lack before it stays in doubt, and is told so."""
        waiting, self._waiting = list(self._waiting.values()), {}
        doubt = self._doubt
        if doubt is not None and doubt.from_ns:
            self._open(doubt, waiting[0].ts_ns, now_ns)
        else:  # a record that begins here owes nothing before
            self._doubt = None
        self._emit(waiting)

    def _postpone(self, now_ns: int) -> None:
        self._ask_after_ns = now_ns + self._delay_ns
        self._delay_ns = min(2 * self._delay_ns, RETRY_MAX_NS)

    def _emit(self, ticks: Sequence[_Tick]) -> None:
        if not ticks:
            return
        rows = np.array([tick.row for tick in ticks], TICK)
        texts = not rows["trade_id"].all()
        if texts:
            rows["trade_id"] = np.arange(self._number, self._number + len(rows))
        self._number += len(rows)
        self._last_ts_ns = max(self._last_ts_ns, int(rows["ts_ns"].max()))
        self._out.append(TickBatch(rows, ids=tuple(tick.key for tick in ticks) if texts else ()))
        self._recent.update(dict.fromkeys(tick.key for tick in ticks))
        for key in list(self._recent)[: max(0, len(self._recent) - RECENT)]:
            del self._recent[key]

    def _take(self) -> list[Input]:
        out, self._out = self._out, []
        return out


def _ticks(ticks: Ticks, ids: Sequence[str]) -> list[_Tick]:
    keys = ids or [str(i) for i in ticks["trade_id"].tolist()]
    return [_Tick(key, row) for key, row in zip(keys, ticks.tolist(), strict=True)]
