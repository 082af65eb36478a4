from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from feeds.sim.history import History
from feeds.sim.tape import Aggregate, Trade

FAR_NS = 2**62
"""A time in 2116, as good as never."""
LOOK_AHEAD = 256

Status: TypeAlias = Literal["TRADING", "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY"]


class _Resumed(NamedTuple):
    """From `from_ns` on, trades after `after_id` happen `shift_ns` later than the history says."""

    from_ns: int
    after_id: int
    shift_ns: int


@dataclass(slots=True)
class _Halt:
    status: Status
    since_ns: int


class Listing:
    """One symbol as the venue lists it: its history, how much of it has happened, its status.

    A halt moves all later trades by its length, so that nothing is traded meanwhile and no id is lost.
    """

    def __init__(self, symbol: str, history: History) -> None:
        self.symbol = symbol
        self.history = history
        self.last_id = history.first_id - 1
        self._ahead: deque[Trade] = deque()  # at most LOOK_AHEAD
        self._halt: _Halt | None = None
        self._resumed = [_Resumed(-(2**63), history.first_id - 1, 0)]

    @property
    def status(self) -> Status:
        return self._halt.status if self._halt else "TRADING"

    def set_status(self, status: Status, now_ns: int) -> None:
        halt = self._halt
        if status == "TRADING":
            if halt:
                shift_ns = self._resumed[-1].shift_ns + now_ns - halt.since_ns
                self._resumed.append(_Resumed(now_ns, self.last_id, shift_ns))
            self._halt = None
        elif halt:
            halt.status = status
        else:
            self._halt = _Halt(status, now_ns)

    def catch_up(self, now_ns: int) -> None:
        """Take all that was due as having happened."""
        if not self._halt:
            self.last_id = self.history.last_id_at(now_ns - self._resumed[-1].shift_ns)
            self._ahead.clear()

    def next_due_ns(self) -> int | None:
        """Give the time of the next trade; None while halted and after the last."""
        if self._halt:
            return None
        if not self._ahead:
            self._ahead.extend(self.history.trades(self.last_id + 1, self.last_id + LOOK_AHEAD))
        return self._ahead[0].ts_ns + self._resumed[-1].shift_ns if self._ahead else None

    def take(self, most: int, until_ns: int = FAR_NS) -> list[Trade]:
        """Let the next trades up to a time happen."""
        taken: list[Trade] = []
        shift_ns = self._resumed[-1].shift_ns
        while len(taken) < most and (due_ns := self.next_due_ns()) is not None and due_ns <= until_ns:
            trade = self._ahead.popleft()
            self.last_id = trade.id
            taken.append(trade._replace(ts_ns=due_ns) if shift_ns else trade)
        return taken

    def last_id_at(self, ts_ns: int) -> int:
        """Give the newest id that had happened at the time."""
        ts_ns = min(ts_ns, FAR_NS)
        for index in range(len(self._resumed) - 1, -1, -1):
            from_ns, _, shift_ns = self._resumed[index]
            if ts_ns >= from_ns:
                later = self._resumed[index + 1 :]
                newest = later[0].after_id if later else self.last_id
                return min(self.history.last_id_at(ts_ns - shift_ns), newest)
        raise AssertionError("the first entry holds from the beginning of time")

    def trades(self, first_id: int, last_id: int) -> list[Trade]:
        rows = self.history.trades(first_id, last_id)
        if len(self._resumed) == 1:
            return rows
        return [row._replace(ts_ns=row.ts_ns + self._shift_ns(row.id)) for row in rows]

    def aggregates(self, first: int, last: int) -> list[Aggregate]:
        """Give those of the aggregates whose trades have all happened."""
        rows = (row for row in self.history.aggregates(first, last) if row.last_id <= self.last_id)
        return [row._replace(ts_ns=row.ts_ns + self._shift_ns(row.first_id)) for row in rows]

    def _shift_ns(self, trade_id: int) -> int:
        return next(r.shift_ns for r in reversed(self._resumed) if trade_id > r.after_id)
