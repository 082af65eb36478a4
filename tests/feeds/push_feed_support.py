"""An engine's end of a push feed, and a collector's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from feeds.frames import Trade
from feeds.push import PushFeed, PushRules, Start
from feeds.push_order import Counted, Order, Texts
from feeds.push_stream import PushStream
from market.inputs import FeedRecovered, FeedStale, Input, Position, TickBatch
from tests.push_support import STREAM, trade

T = TypeVar("T")
RULES = PushRules(counted=False, trim=True, stale_after_s=0.3, quotes_interval_ms=50)


class Journal:
    """Take what a feed hands out as an engine does, and know it after a restart."""

    def __init__(self, url: str, rules: PushRules = RULES) -> None:
        self.url, self.rules = url, rules
        self.inputs: list[Input] = []
        self.asked: list[list[str]] = []
        self.next_close_ns: int | None = None
        self.feed = self._feed()

    @property
    def ids(self) -> list[str]:
        return [
            name
            for batch in self.of(TickBatch)
            for name in batch.ids or map(str, batch.ticks["trade_id"].tolist())
        ]

    def beyond(self, count: int) -> bool:
        return len(self.ids) > count

    def of(self, kind: type[T]) -> list[T]:
        return [one for one in self.inputs if isinstance(one, kind)]

    @asynccontextmanager
    async def living(self, pause_s: float = 0.0) -> AsyncIterator[PushFeed]:
        """Begin where the journal ends; at the end what was not taken is forgotten."""
        self.feed = self._feed()
        feeding, taking = asyncio.create_task(self.feed.run()), asyncio.create_task(self._take(pause_s))
        try:
            yield self.feed
        finally:
            for task in (feeding, taking):
                task.cancel()
            await asyncio.gather(feeding, taking, return_exceptions=True)

    async def _take(self, pause_s: float) -> None:
        while True:
            await self.feed.wait(0.05)
            self.inputs += self.feed.take(time.time_ns(), self.next_close_ns)
            await asyncio.sleep(pause_s)

    def _feed(self) -> PushFeed:
        positions, stale = self.of(Position), len(self.of(FeedStale)) > len(self.of(FeedRecovered))
        start = Start(positions[-1].text if positions else "", stale)
        return PushFeed(PushStream(self.url, STREAM), self._order(), self._known, self.rules, start)

    def _order(self) -> Order:
        newest = max((int(batch.ticks["ts_ns"].max()) for batch in self.of(TickBatch)), default=0)
        if not self.rules.counted:
            return Texts(len(self.ids) + 1, self.ids[-10:], newest)
        return Counted(max(map(int, self.ids)) + 1 if self.ids else None, last_ts_ns=newest)

    async def _known(self, trades: Sequence[Trade]) -> set[str]:
        self.asked.append([str(one.id) for one in trades])
        return {str(one.id) for one in trades} & set(self.ids)


async def push(client: Any, *entries: dict[str, str]) -> None:
    async with client.pipeline(transaction=False) as pipe:
        for fields in entries:
            pipe.xadd(STREAM, fields)
        await pipe.execute()


def names(*numbers: int) -> list[str]:
    return [trade(number)["id"] for number in numbers]
