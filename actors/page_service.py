"""From the pairs' lanes of pages to a store of history: what gathers during one write is the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog

from actors.lane_frames import Page, PageHello
from actors.lane_server import LaneServer
from actors.page_lane import PageLane
from market.backoff import delays
from market.errors import MarketdError, Retryable

IDLE_PING_S = 5.0
WRITE_BYTES = 4 * 1024 * 1024
"""Pages of so many bytes go in one write; memory is bounded by the window of each lane."""

log = structlog.get_logger(__name__)


class Delivery(NamedTuple):
    """A page, and whose it is."""

    hello: PageHello
    page: Page


class Store(Protocol):
    """A store of history; every call blocks, and raises Retryable for what waiting may cure."""

    def prepare(self) -> None: ...
    def write(self, deliveries: Sequence[Delivery]) -> int: ...
    def ping(self) -> None: ...
    def status(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


class PageService:
    """Takes pages from every pair on the node and acknowledges them when the store has them.

    A store that refuses is asked again, whatever it says: its pages stay where they are, the rest with the
    pairs. `write` gives the count of rows.
    """

    def __init__(self, name: str, path: Path, store: Store) -> None:
        self._name, self._store = name, store
        self._server = LaneServer[PageLane](path, lambda server: PageLane(server, self))
        self._waiting: deque[tuple[PageLane, Page]] = deque()
        self._work = asyncio.Event()
        self._error, self._reached, self._prepared = "", True, False
        self._rows = 0

    def status(self) -> dict[str, Any]:
        return {
            "ok": self._prepared and not self._error,
            "reached": self._reached,  # with an error: it answers, and refuses
            "error": self._error,
            "lanes": len(self._server.lanes),
            "waiting": len(self._waiting),
            "rows": self._rows,
            **self._store.status(),
        }

    async def run(self) -> None:
        """Serve until cancelled."""
        waits = delays(0.2, 10.0)
        try:
            await self._server.start()
            while True:
                try:
                    await asyncio.to_thread(self._store.prepare)
                    self._note_ok()
                    waits = delays(0.2, 10.0)
                    await self._serve()
                except MarketdError as error:
                    self._note_lost(error)
                    await asyncio.sleep(next(waits))
        finally:
            self._server.close()
            await asyncio.to_thread(self._store.close)

    def joined(self, lane: PageLane) -> None:
        for other in list(self._server.lanes):
            if other is not lane and other.greeted and _same(other.hello, lane.hello):
                other.close()  # the pair has restarted; its old socket may not have noticed
        lane.resume(lane.hello.cursor)

    def page(self, lane: PageLane, page: Page) -> None:
        self._waiting.append((lane, page))
        self._work.set()

    def left(self, lane: PageLane) -> None:
        self._waiting = deque(one for one in self._waiting if one[0] is not lane)

    async def _serve(self) -> None:
        while True:
            if batch := self._batch():
                await self._write(batch)
                continue
            self._work.clear()
            try:
                async with asyncio.timeout(IDLE_PING_S):
                    await self._work.wait()
            except TimeoutError:
                await asyncio.to_thread(self._store.ping)

    def _batch(self) -> list[tuple[PageLane, Page]]:
        """Look at the next pages; they wait on until they are acknowledged."""
        batch, size = list[tuple[PageLane, Page]](), 0
        for lane, page in self._waiting:
            size += len(page.body)
            if batch and size > WRITE_BYTES:
                break
            batch.append((lane, page))
        return batch

    async def _write(self, batch: Sequence[tuple[PageLane, Page]]) -> None:
        rows = await asyncio.to_thread(
            self._store.write, [Delivery(lane.hello, page) for lane, page in batch]
        )
        self._rows += rows
        written = {id(page) for _, page in batch}
        self._waiting = deque(one for one in self._waiting if id(one[1]) not in written)
        for lane, page in batch:
            lane.ack(page.last_seq)

    def _note_ok(self) -> None:
        if self._error or not self._prepared:
            log.info("store_ready", store=self._name)
        self._error, self._reached, self._prepared = "", True, True

    def _note_lost(self, error: MarketdError) -> None:
        if not self._error or (not isinstance(error, Retryable) and self._error != str(error)):
            log.warning("store_lost", store=self._name, reason=str(error))
        self._error, self._reached = str(error), not isinstance(error, Retryable)


def _same(one: PageHello, other: PageHello) -> bool:
    return (one.pair_key, one.stream) == (other.pair_key, other.stream)
