"""What puts the trades of recorded frames into the record: as from a socket, but nobody is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from feeds.holes import by_id, run
from feeds.replay_runs import NOBODY, Runs
from feeds.requests import Request
from feeds.splicer import WAIT_NS, WAIT_TICKS
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from market.ticks import EMPTY, Ticks
from market.times import NS_PER_S

RECENT = 1_024
DOUBT_NS = 5 * NS_PER_S
CUT = "the recorder was not connected"


class Unasked:
    """The part of a Splice that is about asking."""

    deaf = checking = renumbered = False
    open_holes = 0

    def __init__(self) -> None:
        self.duplicates = 0

    def connected(self) -> None: ...
    def check(self) -> None: ...

    def continued(self) -> None:
        """Note that the connection before the newest one was still there when that was granted."""

    def request(self, now_ns: int) -> Request | None:  # noqa: ARG002 - the seam's shape
        return None

    def answered(
        self,
        request: Request,  # noqa: ARG002 - as above
        ticks: Ticks,  # noqa: ARG002
        now_ns: int,  # noqa: ARG002
        ids: Sequence[str] = (),  # noqa: ARG002
    ) -> list[Input]:
        return []

    def failed(self, now_ns: int, retry_after_ns: int = 0, refusal: str = "") -> list[Input]:  # noqa: ARG002
        return []


class Numbered(Unasked):
    """Ids are contiguous: a jump waits for what may come late, at most WAIT_NS or WAIT_TICKS.

    Then it is a gap that nothing fills.
    """

    def __init__(self, next_id: int | None, last_ts_ns: int) -> None:
        super().__init__()
        self._runs = Runs(next_id, last_ts_ns)
        self._waiting: Ticks = EMPTY
        self._since_ns = 0

    @property
    def settled(self) -> bool:
        return not len(self._waiting)

    def live(self, ticks: Ticks, now_ns: int, newest_id: int = 0, ids: Sequence[str] = ()) -> list[Input]:  # noqa: ARG002
        if len(ticks):
            self._since_ns = self._since_ns if len(self._waiting) else now_ns
            before = len(self._waiting)
            self._waiting = by_id(self._waiting, ticks)
            self.duplicates += before + len(ticks) - len(self._waiting)
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Input]:
        """Let go what follows the record, and past the bounded wait what does not."""
        out = list[Input]()
        while count := self._ready(now_ns):
            out += self._let_go(count, now_ns)
            self._since_ns = now_ns
        return out

    def drain(self, now_ns: int) -> list[Input]:
        return self._let_go(len(self._waiting), now_ns)

    def _ready(self, now_ns: int) -> int:
        """Count the ticks that need not wait; those that the record has go, and are dropped, with them."""
        if not len(self._waiting):
            return 0
        first = int(self._waiting["trade_id"][0])
        next_id = first if self._runs.next_id is None else self._runs.next_id
        late = now_ns - self._since_ns > WAIT_NS or len(self._waiting) > WAIT_TICKS
        known = int(np.searchsorted(self._waiting["trade_id"], next_id))
        return known + run(self._waiting, next_id) or (run(self._waiting, first) if late else 0)

    def _let_go(self, count: int, now_ns: int) -> list[Input]:
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        before = self._runs.duplicates
        out = self._runs.cut(ready, now_ns)
        self.duplicates += self._runs.duplicates - before
        return out


class _Doubt(NamedTuple):
    """From and to when trades may lack, and when the first after came; 0: none has come yet."""

    from_ns: int
    to_ns: int = 0
    since_ns: int = 0

    @property
    def open(self) -> bool:
        return not self.to_ns


class Named(Unasked):
    """Ids only name: trades stay as they came. A connection that began with none that was known is a gap.

    `number` counts the ticks of the record, `recent` are the ids stored last; what is older than `last_ts_ns`
    is in the record.
    """

    def __init__(self, number: int, recent: Iterable[str], last_ts_ns: int) -> None:
        super().__init__()
        self._number, self._last_ts_ns = number, last_ts_ns
        self._recent = dict.fromkeys(recent)
        self._edge_ns = last_ts_ns if self._recent else 0
        self._doubts: list[_Doubt] = []  # the newest last; only that may lack its end

    settled = True

    def connected(self) -> None:
        """Doubt what was traded since the newest trade, until one is told that was told before."""
        if self._last_ts_ns and not (self._doubts and self._doubts[-1].open):
            self._doubts.append(_Doubt(self._last_ts_ns))

    def continued(self) -> None:
        del self._doubts[-1:]

    def live(self, ticks: Ticks, now_ns: int, newest_id: int = 0, ids: Sequence[str] = ()) -> list[Input]:  # noqa: ARG002
        names = ids or list(map(str, ticks["trade_id"].tolist()))
        times = ticks["ts_ns"].tolist()
        fresh = [k for k, name in enumerate(names) if times[k] >= self._edge_ns and self._is_new(name)]
        self.duplicates += len(names) - len(fresh)
        if len(fresh) < len(names):
            self.continued()
        elif fresh and self._doubts and self._doubts[-1].open:
            self._doubts[-1] = self._doubts[-1]._replace(to_ns=times[0], since_ns=now_ns)
        out = self.tick(now_ns)
        if fresh:
            self._number += len(fresh)
            self._last_ts_ns = max(self._last_ts_ns, *(times[k] for k in fresh))
            out.append(TickBatch(ticks[fresh], ids=tuple(names[k] for k in fresh) if ids else ()))
        return out

    def tick(self, now_ns: int) -> list[Input]:
        return self._gaps([x for x in self._doubts if not x.open and now_ns - x.since_ns > DOUBT_NS], now_ns)

    def drain(self, now_ns: int) -> list[Input]:
        return self._gaps([x for x in self._doubts if not x.open], now_ns)

    def _is_new(self, name: str) -> bool:
        if name in self._recent:
            return False
        self._recent[name] = None
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        return True

    def _gaps(self, proven: Sequence[_Doubt], now_ns: int) -> list[Input]:
        out, key = list[Input](), self._number
        for doubt in proven:
            self._doubts.remove(doubt)
            out.append(GapOpened(key, key, doubt.from_ns, doubt.to_ns, now_ns, CUT, counted=False))
            out.append(GapClosed(key, now_ns, 1, NOBODY))
        return out
