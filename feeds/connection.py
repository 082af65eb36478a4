"""Keep one socket to a venue open: connect, subscribe, read, and again after whatever ends it."""

from __future__ import annotations

import asyncio
import time

import structlog

from feeds.inbox import Inbox
from feeds.intake import Intake
from feeds.websocket import Socket, open_socket
from market.backoff import delays
from market.errors import Retryable

log = structlog.get_logger()
BACKOFF_S = (0.2, 30.0)


class Connection:
    """Fill the inbox from the venue's stream until cancelled."""

    def __init__(self, url: str, subscribe: str, intake: Intake, inbox: Inbox) -> None:
        self.attempts = 0
        self.opened = 0
        self.last_error = ""
        self._url, self._subscribe = url, subscribe
        self._intake, self._inbox = intake, inbox
        self._socket: Socket | None = None
        self._delays = delays(*BACKOFF_S)

    async def run(self) -> None:
        while True:
            self.attempts += 1
            try:
                await self._once()
            except Retryable as error:
                self.last_error = str(error)
                log.warning("feed_cut", error=self.last_error, attempt=self.attempts)
            self._intake.lost()
            if self._intake.healthy_since_open():
                self._delays = delays(*BACKOFF_S)
            await asyncio.sleep(next(self._delays))

    def check(self, now_ns: int) -> None:
        """Give up a connection that is open and useless."""
        if self._socket is not None and self._intake.hopeless(now_ns):
            log.warning("feed_hopeless", subscribed=self._intake.subscribed)
            self._socket.abort()

    async def _once(self) -> None:
        async with open_socket(self._url) as socket:
            self._socket = socket
            self.opened += 1
            self._intake.opened(time.time_ns())
            try:
                await socket.send(self._subscribe)
                await self._read(socket)
            finally:
                self._socket = None

    async def _read(self, socket: Socket) -> None:
        while True:
            frame = await socket.receive()
            self._inbox.put(frame, time.time_ns())
            await self._inbox.room()
