"""A venue that is told what time it is: its frames, its REST, and what goes wrong with them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from feeds.inbox import Arrivals
from feeds.requests import Latest, Request
from feeds.sim.history import GeneratedHistory
from feeds.sim.tape import Trade
from feeds.sim.wire import trade_json
from market.ticks import TICK, Ticks
from market.times import NS_PER_MS, NS_PER_S

SYMBOL = "BTCUSDT"
RATE = 6.0
PAGE = 40
START_NS = 1_766_318_400 * NS_PER_S - 400 * NS_PER_S  # before noon
ACK = b'{"result":null,"id":1}'


class Venue:
    """Trade by the clock; `frames` hands out what a socket would bring, `answer` what REST would."""

    def __init__(self, seed: int) -> None:
        self.now_ns = START_NS + 60 * NS_PER_S
        self.history = GeneratedHistory(SYMBOL, seed, RATE, START_NS)
        self.lag_ns = 0
        self.refuses = 0  # of the next requests
        self._told = 0  # the last trade that was sent, or lost
        self._queue: list[bytes] = []
        self._held = 0  # steps for which frames wait

    def connect(self) -> None:
        self._queue = [ACK]
        self._told, self._held = self.last_id(), 0

    def cut(self) -> None:
        self._queue = []

    def last_id(self, lag_ns: int = 0) -> int:
        return self.history.last_id_at(self.now_ns - lag_ns)

    def trade(self) -> None:
        """Put what was traded since on its way."""
        self._queue += [self._frame(t) for t in self.history.trades(self._told + 1, self.last_id())]
        self._told = self.last_id()

    def spoil(self, kind: str, rng: random.Random, pause_ns: int) -> bool:
        """Do something to the frames of a while; tell whether there were enough of them."""
        self.now_ns += pause_ns
        self.trade()
        at, queue = rng.randrange(max(1, len(self._queue))), self._queue
        if kind == "delay":
            self._held = rng.randint(1, 4)
        elif len(queue) < 2 or ACK in queue:
            return False
        elif kind == "duplicate":
            queue.insert(rng.randint(at, len(queue)), queue[at])
        elif kind == "swap":
            rng.shuffle(queue)
        elif kind == "lose":
            del queue[at : at + rng.randint(1, 9)]
        elif kind == "malformed":
            queue[at] = queue[at][: len(queue[at]) // 2]
        return True

    def frames(self, received_ns: int) -> Arrivals:
        if self._held:
            self._held -= 1
            return Arrivals([], [], [])
        queue, self._queue = self._queue, []
        return Arrivals(queue, [received_ns] * len(queue), [1] * len(queue))

    def answer(self, request: Request, received_ns: int) -> Ticks | None:
        """Answer as REST does, a page at a time; None: it is refused."""
        if self.refuses:
            self.refuses -= 1
            return None
        last = self.last_id(self.lag_ns)
        first = last - PAGE + 1 if isinstance(request, Latest) else request.from_id
        return self.ticks(max(1, first), min(last, first + PAGE - 1), received_ns)

    def ticks(self, first: int, last: int, received_ns: int = 0) -> Ticks:
        return np.array([_tick(t, received_ns) for t in self.history.trades(first, last)], TICK)

    def _frame(self, trade: Trade) -> bytes:
        return trade_json(SYMBOL, trade, self.now_ns // NS_PER_MS).encode()


def _tick(t: Trade, received_ns: int) -> tuple[int | float, ...]:
    side = -1 if t.buyer_is_maker else 1
    return t.id, t.ts_ns // NS_PER_MS * NS_PER_MS, float(t.price), float(t.size), received_ns, side


def steps(rng: random.Random) -> Iterator[int]:
    """Yield pauses: mostly short, now and then a quiet while."""
    while True:
        yield int(NS_PER_S * (rng.uniform(0.02, 1.2) if rng.random() < 0.9 else rng.uniform(2, 15)))
