from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

from aiohttp import WSCloseCode, web

from feeds.sim.connection import Connection, Limits
from feeds.sim.control import Session
from feeds.sim.faults import Cut24h, Drop, Fault, Halt
from feeds.sim.history import History
from feeds.sim.hub import Hub
from feeds.sim.listing import Listing
from feeds.sim.plan import FaultPlan
from feeds.sim.pump import CHUNK, MIN_PAUSE_S, Pump
from feeds.sim.rest import Rest
from feeds.sim.steering import Steering
from feeds.sim.tape import Trade
from market.times import NS_PER_MS

FULL_BYTES = 1024 * 1024


class SimExchange:
    """A venue on loopback that speaks Binance spot's public protocol: websocket and REST on one port.

    With `auto`, every trade is told when its time has come by `clock_ns`, of whose seconds `speed` pass in
    one; what happened before `start` is history. Without, nothing happens but by `emit` and `emit_until`.
    """

    def __init__(
        self,
        histories: Mapping[str, History],
        clock_ns: Callable[[], int] = time.time_ns,
        *,
        auto: bool = True,
        speed: float = 1.0,
        limits: Limits | None = None,
    ) -> None:
        self.listings = {symbol: Listing(symbol, history) for symbol, history in histories.items()}
        self.faults = FaultPlan()
        self.hub = Hub(self.faults)
        self.stats: Counter[str] = Counter()
        self._clock_ns, self._auto = clock_ns, auto
        self._limits = limits or Limits()
        self._manual_ns = 0 if auto else self._first_ns()
        self._pump = Pump(self.listings, self.hub, self.faults, lambda: self.now_ns, speed)
        self._cutting: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._address = ("", 0)

    @property
    def ws_url(self) -> str:
        return "ws://{}:{}".format(*self._address)

    @property
    def rest_url(self) -> str:
        return "http://{}:{}".format(*self._address)

    @property
    def now_ns(self) -> int:
        """The venue's time; settable where it is not `auto`."""
        return self._clock_ns() if self._auto else self._manual_ns

    @now_ns.setter
    def now_ns(self, value: int) -> None:
        if self._auto:
            raise ValueError("now_ns: the clock decides; make the exchange with auto=False")
        self._manual_ns = value

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        app = web.Application(client_max_size=64 * 1024)
        app.add_routes([web.get("/ws", self._raw), web.get("/ws/{stream}", self._raw)])
        app.add_routes([web.get("/stream", self._combined)])
        Rest(self.listings, self.faults, lambda: self.now_ns, self._limits.weight_per_minute).register(app)
        Steering(self.listings, self.inject, self.statistics).register(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self._address = (host, site.port)
        if self._auto:
            self._pump.begin()

    async def stop(self) -> None:
        """Stop as a killed process would: connections end without a close frame."""
        self._pump.end()
        self.hub.abort(None)
        for task in self._cutting:
            task.cancel()
        if self._runner:
            await self._runner.cleanup()

    def inject(self, fault: Fault) -> None:
        """Let something go wrong, now or when its trade comes; raises ValueError if it cannot."""
        symbol = getattr(fault, "symbol", None)
        if symbol is not None and symbol not in self.listings:
            raise ValueError(f"symbol {symbol!r}: not listed")
        match fault:
            case Drop(at_id=None):
                self.hub.abort(fault.symbol)
                self.faults.done["drop"] += 1
            case Halt():
                self._set_status(fault)
            case Cut24h():
                task = asyncio.get_running_loop().create_task(self.cut_24h(fault.warn_s))
                self._cutting.add(task)
                task.add_done_callback(self._cutting.discard)
            case _:
                self.faults.add(fault, asyncio.get_running_loop().time())

    async def cut_24h(self, warn_s: float = 0.0) -> None:
        """Announce `serverShutdown` to all, and close them with a close frame `warn_s` later."""
        leaving = list(self.hub.connections)
        event = f'{{"e":"serverShutdown","E":{self.now_ns // NS_PER_MS}}}'
        for connection in leaving:
            connection.announce("!serverShutdown", event)
        await asyncio.sleep(warn_s)
        await asyncio.gather(*(connection.close(WSCloseCode.GOING_AWAY) for connection in leaving))
        self.faults.done["cut_24h"] += 1

    async def emit(self, count: int, symbol: str | None = None) -> int:
        """Let the next trades happen, of one symbol or of all in order of time; return their count."""
        listings = [self.listings[symbol]] if symbol else list(self.listings.values())
        step = CHUNK if len(listings) == 1 else 1
        emitted = 0
        while emitted < count and (listing := _earliest(listings)):
            emitted += await self._happen(listing, listing.take(min(step, count - emitted)))
        return emitted

    async def emit_until(self, ts_ns: int) -> int:
        """Let everything up to the time happen, symbol by symbol; return how many trades.

        The time becomes now.
        """
        emitted = 0
        while listing := _earliest(list(self.listings.values()), ts_ns):
            emitted += await self._happen(listing, listing.take(CHUNK, ts_ns))
        self.now_ns = max(ts_ns, self.now_ns)
        return emitted

    def statistics(self) -> dict[str, object]:
        symbols = {
            symbol: {
                "status": listing.status,
                "first_id": listing.history.first_id,
                "last_id": listing.last_id,
            }
            for symbol, listing in self.listings.items()
        }
        open_now = len(self.hub.connections)
        return {**self.stats, "connections_open": open_now, "faults": self.faults.done, "symbols": symbols}

    async def _happen(self, listing: Listing, trades: list[Trade]) -> int:
        """Tell of trades as fast as the clients read; return how many there were."""
        self.now_ns = max(trades[-1].ts_ns, self.now_ns)
        self._pump.tell(listing, trades)
        await asyncio.sleep(0)
        # a transport has no event for "drained"
        while any(c.unsent_bytes > FULL_BYTES for c in self.hub.connections):  # noqa: ASYNC110
            await asyncio.sleep(MIN_PAUSE_S)
        return len(trades)

    def _set_status(self, fault: Halt) -> None:
        listing = self.listings[fault.symbol]
        listing.set_status(fault.status, self.now_ns)
        self.faults.done["halt"] += 1
        if self._auto and fault.status == "TRADING":
            self._pump.resume(listing)

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        stream = request.match_info.get("stream")
        return await self._serve(request, Session(combined=False, streams={stream: None} if stream else {}))

    async def _combined(self, request: web.Request) -> web.StreamResponse:
        streams = request.query.get("streams", "").split("/")
        return await self._serve(
            request, Session(combined=True, streams=dict.fromkeys(filter(None, streams)))
        )

    async def _serve(self, request: web.Request, session: Session) -> web.StreamResponse:
        if self.faults.refuses(asyncio.get_running_loop().time()) and request.transport:
            request.transport.abort()
            return web.Response(status=503)
        ws = web.WebSocketResponse(timeout=1.0, autoping=False, compress=False)
        await ws.prepare(request)
        if request.transport is None:
            return ws
        connection = Connection(ws, request.transport, session, self._limits, self.stats)
        self.stats["connections"] += 1
        self.hub.update(connection)
        try:
            await connection.run(lambda: self.hub.update(connection))
        finally:
            self.hub.remove(connection)
        return ws

    def _first_ns(self) -> int:
        first = (listing.next_due_ns() for listing in self.listings.values())
        return min(ts_ns for ts_ns in first if ts_ns is not None)


def _earliest(listings: list[Listing], until_ns: int | None = None) -> Listing | None:
    """Find the listing whose next trade comes first, if it comes in time."""
    due = [(due_ns, listing) for listing in listings if (due_ns := listing.next_due_ns()) is not None]
    if not due:
        return None
    due_ns, listing = min(due, key=lambda item: item[0])
    return listing if until_ns is None or due_ns <= until_ns else None
