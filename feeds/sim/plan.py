"""The faults in force, and what they make of the frames. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from feeds.sim.faults import (
    Cut24h,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Halt,
    Lose,
    Malformed,
    Refuse,
    RestHang,
    RestLag,
    RestStatus,
    Silence,
    Skip,
    StreamFault,
    Swap,
    kind,
    spoiled,
)
from feeds.sim.stream import Message


class Abort(NamedTuple):
    """In a batch of messages: abort the symbol's connections here."""

    symbol: str


Sent: TypeAlias = Message | Abort


class FaultPlan:
    """The faults in force. `now_s` is any clock that only rises; `done` counts what really went wrong."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.delay_s = 0.0
        self.rest_lag_s = 0.0
        self.rest_hangs_until_s = 0.0
        self._refused_until_s = 0.0
        self._rest_answers: list[RestStatus] = []
        self._silent_until_s: dict[str | None, float] = {}
        self._stream: dict[str, list[StreamFault]] = {}
        self._lost: dict[str, list[Lose]] = {}
        self._held: dict[str, Message] = {}

    def add(self, fault: Fault, now_s: float) -> None:
        """Plan a fault; those that only a shell can do at once (drop now, halt, cut) are not for the plan."""
        match fault:
            case Refuse():
                self._refused_until_s = now_s + fault.seconds
            case Delay():
                self.delay_s = fault.ms / 1_000
            case Silence():
                self._silent_until_s[fault.stream] = now_s + fault.seconds
            case RestStatus():
                self._rest_answers += [fault] * fault.count
            case RestHang():
                self.rest_hangs_until_s = now_s + fault.seconds
            case RestLag():
                self.rest_lag_s = fault.seconds
            case Halt() | Cut24h() | Drop(at_id=None) | Drop(symbol=None):
                raise ValueError(f"{fault!r} cannot be planned")
            case _:
                self._add_to_stream(fault)

    def _add_to_stream(self, fault: StreamFault) -> None:
        symbol = str(fault.symbol)
        self._stream.setdefault(symbol, []).append(fault)
        if isinstance(fault, Lose):
            self._lost.setdefault(symbol, []).append(fault)

    def refuses(self, now_s: float) -> bool:
        """Say whether a new connection is refused, and count it."""
        if now_s >= self._refused_until_s:
            return False
        self.done["refuse"] += 1
        return True

    def rest_answer(self) -> RestStatus | None:
        """Take the error that the next REST request is answered with."""
        if not self._rest_answers:
            return None
        self.done["rest_status"] += 1
        return self._rest_answers.pop(0)

    def is_lost(self, symbol: str, first_id: int, last_id: int | None = None) -> bool:
        """Say whether any of the ids was lost for good."""
        last = first_id if last_id is None else last_id
        return any(lost.first_id <= last and first_id <= lost.last_id for lost in self._lost.get(symbol, ()))

    def apply(self, symbol: str, batch: list[Message], now_s: float) -> list[Sent]:
        """Give what is really sent in place of the batch."""
        out: list[Sent] = list(batch)
        for fault in list(self._stream.get(symbol, ())):
            out = self._applied(fault, out)
        if self._silent_until_s:
            out = [item for item in out if not self._is_silent(item, now_s)]
        return out

    def _is_silent(self, item: Sent, now_s: float) -> bool:
        if isinstance(item, Abort):
            return False
        if all(now_s >= self._silent_until_s.get(key, 0.0) for key in (None, item.stream)):
            return False
        self.done["silence"] += 1
        return True

    def _applied(self, fault: StreamFault, items: Iterable[Sent]) -> list[Sent]:
        out: list[Sent] = []
        for item in items:
            out += [item] if isinstance(item, Abort) or not item.trade_id else self._of_one(fault, item)
        return out

    def _of_one(self, fault: StreamFault, item: Message) -> list[Sent]:
        match fault:
            case Skip() | Lose():
                return self._skip(fault, item)
            case Swap():
                return self._swap(fault, item)
            case Duplicate(trade_id=at) if _is_trade(item, at):
                return self._once(fault, [item, item])
            case Drop(at_id=int(at)) if _is_trade(item, at):
                return self._once(fault, [Abort(str(fault.symbol))])
            case Malformed(at_id=at) if _is_trade(item, at) and fault in self._stream[fault.symbol]:
                bad = item._replace(payload=spoiled(item.payload, fault.flaw))
                return self._once(fault, [bad, item] if fault.extra else [bad])
        return [item]

    def _skip(self, fault: Skip | Lose, item: Message) -> list[Sent]:
        if not fault.first_id <= item.trade_id <= fault.last_id:
            return [item]
        self.done[kind(fault)] += 1
        return []

    def _swap(self, fault: Swap, item: Message) -> list[Sent]:
        if _is_trade(item, fault.trade_id):
            self._held[fault.symbol] = item
            return []
        if _is_trade(item, None) and fault.symbol in self._held and item.trade_id > fault.trade_id:
            return self._once(fault, [item, self._held.pop(fault.symbol)])
        return [item]

    def _once(self, fault: StreamFault, out: list[Sent]) -> list[Sent]:
        """Strike a fault that has happened from the plan."""
        self._stream[str(fault.symbol)].remove(fault)
        self.done[kind(fault)] += 1
        return out


def _is_trade(item: Message, trade_id: int | None) -> bool:
    return item.stream.endswith("@trade") and trade_id in {None, item.trade_id}
