"""Any venue on loopback, by its dialect: sockets and REST on one port, a tape of trades, and its faults."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from aiohttp import WSMsgType, web

from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.dialect import Dialect, FakeTrade

UNKNOWN = '{"channel":"novelty","type":"novelty","topic":"novelty","e":"novelty"}'
ERROR_IN_200 = (
    b'{"error":["EService:Unavailable"],"code":"50001","retCode":10016,"msg":"busy","retMsg":"busy",'
    b'"message":"busy","result":{},"data":[]}'
)


class RestFault(NamedTuple):
    """An answer that REST gives once instead of its own; `hang_s`: nothing, and after so long the end."""

    status: int = 0
    retry_after: str = ""
    hang_s: float = 0.0
    body: bytes = b"<html>not now</html>"


@dataclass(eq=False)
class Socket:
    """A client's connection."""

    path: str
    socket: web.WebSocketResponse
    request: web.Request
    requests: int = 0  # of those that subscribe
    outgoing: asyncio.Queue[str] = field(default_factory=asyncio.Queue)


class FakeVenue:
    """Trades happen by `trade`; what the sockets and REST make of them, the attributes say."""

    def __init__(self, dialect: Dialect, tape: Iterable[FakeTrade] = ()) -> None:
        self.dialect = dialect
        self.tape = list(tape)
        self.sockets: list[Socket] = []
        self.opened: Counter[str] = Counter()  # connections so far, by path
        self.asked: list[str] = []  # of REST
        self.refuses: Callable[[str], bool] = lambda _: False  # connections to a path
        self.untold: set[int] = set()  # numbers of trades that the sockets lose
        self.gone: set[int] = set()  # and REST, too
        self.frames: dict[int, list[str]] = {}  # told instead of a trade's own, by its number
        self.silent: set[str] = set()  # "trades", "quotes", "heartbeats"
        self.delay_s = 0.0
        self.life_s = 0.0  # of a connection; 0: for ever
        self.rest_lag = 0  # trades
        self.rest_faults: deque[RestFault] = deque()
        self.rest_dead = False
        self.rest_edit: Callable[[bytes], bytes] = lambda body: body
        self._chance = Random(7)
        self._subscribing = {
            line.path: len(line.requests) for line in dialect.venue.lines(dialect.symbol)
        }  # requests, after which a socket gets its frames
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.drop()
        if self._runner is not None:
            await self._runner.cleanup()

    # What happens

    def happen(self, count: int, ts_ns: int = 0) -> list[FakeTrade]:
        """Let trades happen, some of them in one millisecond, and tell nobody."""
        new = []
        for _ in range(count):
            last = self.tape[-1] if self.tape else FakeTrade(0, 0, 60_000.0, 1.0, 1)
            at_ns = max(last.ts_ns, (ts_ns or time.time_ns()) // NS_PER_MS * NS_PER_MS)
            price = round(last.price + self._chance.choice([-0.5, -0.1, 0.0, 0.1, 0.5]), 1)
            side, size = self._chance.choice([1, -1]), self._chance.randint(1, 5_000)
            self.tape.append(FakeTrade(last.number + 1, at_ns, price, size / 1_000, side))
            new.append(self.tape[-1])
        return new

    async def trade(self, count: int, step: int = 7) -> None:
        """Let trades happen in small portions, so that frames come in several reads."""
        for done in range(0, count, step):
            self.tell(self.happen(min(step, count - done)))
            await asyncio.sleep(0.003)

    def tell(self, trades: Iterable[FakeTrade]) -> None:
        """Tell trades to everybody who has subscribed."""
        for x in trades:
            if x.number in self.untold | self.gone or "trades" in self.silent:
                continue
            for socket in self._subscribed():
                said = self.dialect.trades(socket.path, [x], time.time_ns())
                for text in self.frames.get(x.number, said) if said else []:
                    socket.outgoing.put_nowait(text)

    def quote(self, bid: float = 59_999.5, ask: float = 60_000.5) -> None:
        if "quotes" not in self.silent:
            self._say(lambda path: self.dialect.quote(path, bid, ask, time.time_ns()))

    def beat(self) -> None:
        if "heartbeats" not in self.silent:
            self._say(lambda path: self.dialect.heartbeat(path, self.known, time.time_ns()))

    def say(self, text: str, path: str = "") -> None:
        """Tell anything to everybody who has subscribed, on one path or on all."""
        self._say(lambda at: [text] if path in ("", at) else [])

    def drop(self, path: str = "") -> None:
        """Abort connections without a word."""
        cut = [x for x in self.sockets if x.path.startswith(path)]
        self.sockets = [x for x in self.sockets if x not in cut]
        for socket in cut:
            if socket.request.transport is not None:
                socket.request.transport.abort()

    @property
    def known(self) -> list[FakeTrade]:
        """What the venue itself knows of."""
        return [x for x in self.tape if x.number not in self.gone]

    @property
    def ready(self) -> bool:
        """Whether a client is subscribed to all that it wants, on one socket for each line."""
        return Counter(x.path for x in self._subscribed()) == Counter(list(self._subscribing))

    # How it is served

    def _subscribed(self) -> list[Socket]:
        return [x for x in self.sockets if x.requests >= self._subscribing.get(x.path, 1)]

    def _say(self, said: Callable[[str], list[str]]) -> None:
        for socket in self._subscribed():
            for text in said(socket.path):
                socket.outgoing.put_nowait(text)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await self._rest(request)
        if self.refuses(request.path):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        socket = Socket(request.path, ws, request)
        self.sockets.append(socket)
        self.opened[socket.path] += 1
        talking = [asyncio.create_task(work) for work in (self._send(socket), self._end(socket))]
        try:
            await self._listen(socket)
        finally:
            self.sockets = [x for x in self.sockets if x is not socket]
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
        return ws

    async def _listen(self, socket: Socket) -> None:
        async for message in socket.socket:
            if message.type != WSMsgType.TEXT:
                return
            for text in self.dialect.answers(socket.path, message.data, self.known, time.time_ns()):
                socket.outgoing.put_nowait(text)
            socket.requests += message.data != self.dialect.venue.rules.ping

    async def _send(self, socket: Socket) -> None:
        with suppress(ConnectionError):
            while True:
                text = await socket.outgoing.get()
                await asyncio.sleep(self.delay_s)
                await socket.socket.send_str(text)

    async def _end(self, socket: Socket) -> None:
        if self.life_s:
            await asyncio.sleep(self.life_s)
            await socket.socket.close()

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if self.rest_dead:
            return web.Response(status=502)
        if self.rest_faults:
            return await self._fault(request, self.rest_faults.popleft())
        known = self.known[: -self.rest_lag] if self.rest_lag else self.known
        status, body = self.dialect.rest(request.path, dict(request.query), known, time.time_ns())
        return web.Response(status=status, body=self.rest_edit(body))

    async def _fault(self, request: web.Request, fault: RestFault) -> web.StreamResponse:
        if fault.hang_s:
            await asyncio.sleep(fault.hang_s)
            assert request.transport is not None
            request.transport.abort()
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        return web.Response(status=fault.status or 500, body=fault.body, headers=headers)


def past(count: int, over_s: float = 20.0, until_ns: int = 0) -> list[FakeTrade]:
    """Make trades of the time before a feed begins, evenly over so many seconds."""
    end_ns, venue = until_ns or time.time_ns(), []
    for k in range(count):
        ts_ns = int(end_ns - over_s * NS_PER_S * (count - k) / count) // NS_PER_MS * NS_PER_MS
        venue.append(FakeTrade(k + 1, ts_ns, 60_000.0 + k % 9, (k % 13 + 1) / 10, 1 if k % 3 else -1))
    return venue


@asynccontextmanager
async def serving(dialect: Dialect, tape: Iterable[FakeTrade] = ()) -> AsyncIterator[FakeVenue]:
    venue = FakeVenue(dialect, tape)
    await venue.start()
    try:
        yield venue
    finally:
        await venue.stop()
