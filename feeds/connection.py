"""Keep one line to a venue open: connect, subscribe, read, and again after whatever ends it.

Where the venue will end a connection, a successor is opened and granted first, so that nothing is missed.
"""

from __future__ import annotations

import asyncio

import structlog

from feeds import clock
from feeds.inbox import Inbox
from feeds.lines import LineState
from feeds.turns import Turns
from feeds.venue import Line, Rules
from feeds.websocket import Socket, open_socket
from market.backoff import delays
from market.errors import RateLimited, Retryable
from market.times import NS_PER_S

log = structlog.get_logger()
BACKOFF_S = (0.2, 30.0)
HANDOVER_S = 30.0  # a successor that is not granted by then is given up, and another is tried
LINGER_S = 1.0  # what was told before the successor was granted may still be on its way
HEALTHY_NS = 10 * NS_PER_S  # a socket that brought something for so long was a good one


class Connection:
    """Fill the inbox from one line until cancelled."""

    def __init__(self, ws_url: str, line: Line, rules: Rules, state: LineState, turns: Turns) -> None:
        self.state = state
        self.attempts = 0
        self.last_error = ""
        self.inbox = Inbox()
        self._url = ws_url.rstrip("/") + line.path
        self._line, self._rules, self._turns = line, rules, turns
        self._sockets: dict[int, Socket] = {}
        self._given_up: set[int] = set()
        self._due, self._granted = asyncio.Event(), asyncio.Event()
        self._before = 0  # the newest epoch that is to be succeeded
        self._delays = delays(*BACKOFF_S)

    async def run(self) -> None:
        life = asyncio.create_task(self._live())
        try:
            while True:
                due = asyncio.create_task(self._due.wait())
                await asyncio.wait({life, due}, return_when=asyncio.FIRST_COMPLETED)
                due.cancel()
                if life.done():
                    life.result()
                    await asyncio.sleep(next(self._delays))
                    self._due.clear()
                    life = asyncio.create_task(self._live())
                else:
                    life = await self._succeeded(life)
        finally:
            await _end(life)

    def check(self, now_ns: int, *, deaf: bool = False) -> None:
        """Give up sockets that are open and useless; have one that will be ended succeeded by another."""
        for epoch, socket in self._sockets.items():
            if epoch not in self._given_up and (deaf or self.state.hopeless(epoch, now_ns)):
                self._given_up.add(epoch)
                log.warning("feed_hopeless", url=self._url, granted=self.state.granted(epoch), deaf=deaf)
                socket.abort()
        if self.state.due(now_ns):
            self._due.set()
        if any(self.state.granted(epoch) for epoch in self._sockets if epoch > self._before):
            self._granted.set()

    async def _succeeded(self, life: asyncio.Task[None]) -> asyncio.Task[None]:
        """Open another socket; when it is granted close the old one. Return the one that goes on."""
        log.info("feed_handover", url=self._url)
        self._before = max(self.state.epochs, default=0)
        self._granted.clear()
        successor = asyncio.create_task(self._live())
        granted = asyncio.create_task(self._granted.wait())
        await asyncio.wait({successor, granted}, timeout=HANDOVER_S, return_when=asyncio.FIRST_COMPLETED)
        granted.cancel()
        if self._granted.is_set():
            await asyncio.sleep(LINGER_S)
            life, successor = successor, life
        else:
            await asyncio.sleep(next(self._delays))  # before the next try; the old one goes on meanwhile
        await _end(successor)
        self._due.clear()
        return life

    async def _live(self) -> None:
        """Use one socket until it ends."""
        self.attempts += 1
        try:
            await self._turns.connect()
            async with open_socket(self._url) as socket:
                await self._use(socket)
        except Retryable as error:
            if isinstance(error, RateLimited):
                self._turns.shut_out(error.retry_after_s)
            self.last_error = str(error)
            log.warning("feed_cut", url=self._url, error=self.last_error, attempt=self.attempts)

    async def _use(self, socket: Socket) -> None:
        opened_ns = clock.now_ns()
        epoch = self.state.opened(opened_ns)
        self._sockets[epoch] = socket
        pinging = asyncio.create_task(self._ping(socket, epoch))
        try:
            for request in self._line.requests:
                await socket.send(request)
            await self._read(socket, epoch)
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
            del self._sockets[epoch]
            self._given_up.discard(epoch)
            if self.state.fed(epoch) and clock.now_ns() - opened_ns > HEALTHY_NS:
                self._delays = delays(*BACKOFF_S)
            self.state.lost(epoch)

    async def _read(self, socket: Socket, epoch: int) -> None:
        while True:
            frame = await socket.receive()
            self.inbox.put(frame, clock.now_ns(), epoch)
            await self.inbox.room()

    async def _ping(self, socket: Socket, epoch: int) -> None:
        """Say what the venue wants to hear of a living client, or else ask whether it lives itself.

        A lost socket shows when it is read.
        """
        while True:
            await asyncio.sleep(min(self._rules.ping_every_s, self.state.stale_after_s / 3))
            if self._rules.ping:
                await socket.send(self._rules.ping)
            else:
                await socket.ping()
                self.state.heard(epoch, clock.now_ns())


async def _end(life: asyncio.Task[None]) -> None:
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
