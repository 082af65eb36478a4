"""A pair as far as its lane is concerned: a record in memory, and the lane's client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from actors.lane_client import LaneClient
from actors.lane_frames import Hello, Outgoing
from actors.signals import SignalService
from market.events import Event


class Record:
    """`cursor` is what a restarted pair would know to be acknowledged."""

    def __init__(self, path: Path, symbol: str = "s", cursor: int = 0) -> None:
        self.symbol = symbol
        self.events: list[Outgoing] = []
        self.cursor = cursor
        self.acks: list[int] = []
        self.pages = 0
        self.lane = LaneClient(path, self.hello, self.read_after, self.on_ack)

    def hello(self) -> Hello:
        return Hello(f"x:spot:{self.symbol}", self.symbol, len(self.events), self.cursor)

    async def read_after(self, after_seq: int, limit: int) -> list[Outgoing]:
        self.pages += 1
        await asyncio.sleep(0)  # others may push while a real record is read
        return self.events[after_seq : after_seq + limit]

    def on_ack(self, seq: int) -> None:
        self.acks.append(seq)
        self.cursor = seq

    def add(self, count: int, filling: bytes = b"{}") -> list[Outgoing]:
        """Put new events on record, not on the lane."""
        new = []
        for seq in range(len(self.events) + 1, len(self.events) + 1 + count):
            event = Event(seq, 1_766_318_460_000_000_000 + seq, "TEST", filling)
            new.append(Outgoing(seq, time.time_ns(), event.message(self.symbol)))
        self.events += new
        return new

    def tell(self, count: int = 1, filling: bytes = b"{}") -> None:
        self.lane.push(self.add(count, filling))

    @property
    def messages(self) -> list[bytes]:
        return [event.message for event in self.events]


@asynccontextmanager
async def running(*services: Record | SignalService) -> AsyncIterator[None]:
    """Run them, a record by its lane, and cancel them at the end."""
    tasks = [
        asyncio.create_task(service.lane.run() if isinstance(service, Record) else service.run())
        for service in services
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
