from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping

from feeds.sim.hub import Hub
from feeds.sim.listing import Listing
from feeds.sim.plan import FaultPlan
from feeds.sim.stream import SymbolStreams
from feeds.sim.tape import Trade
from market.times import NS_PER_MS, NS_PER_S

MIN_PAUSE_S = 0.002
CHUNK = 1_000  # trades told in one go


class Pump:
    """Tells the hub what happens; once begun, lets every trade happen when its time has come."""

    def __init__(
        self,
        listings: Mapping[str, Listing],
        hub: Hub,
        faults: FaultPlan,
        now_ns: Callable[[], int],
        speed: float,
    ) -> None:
        self._listings, self._hub, self._faults = listings, hub, faults
        self._now_ns, self._speed = now_ns, speed
        self._streams = {symbol: SymbolStreams(listing) for symbol, listing in listings.items()}
        self._due: list[tuple[int, str]] = []  # one entry a symbol, and one more for each time it resumed
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Take the past as history, and tell what comes from now on."""
        for listing in self._listings.values():
            listing.catch_up(self._now_ns())
            self._schedule(listing)
        self._tick()

    def resume(self, listing: Listing) -> None:
        """Go on with a symbol that was halted."""
        self.end()
        self._schedule(listing)
        self._tick()

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()

    def tell(self, listing: Listing, trades: list[Trade]) -> None:
        """Tell whoever listens of trades that just happened."""
        streams = self._streams[listing.symbol]
        if any(name in self._hub.listeners for name in streams.names):
            batch = streams.messages(trades, self._now_ns() // NS_PER_MS, self._hub.listeners)
            now_s = asyncio.get_running_loop().time()
            self._hub.publish(listing.symbol, self._faults.apply(listing.symbol, batch, now_s))

    def _schedule(self, listing: Listing) -> None:
        due_ns = listing.next_due_ns()
        if due_ns is not None:
            heapq.heappush(self._due, (due_ns, listing.symbol))

    def _tick(self) -> None:
        """Tell what has become due, and sleep until the next trade, at least 2 ms."""
        now_ns = self._now_ns()
        while self._due and self._due[0][0] <= now_ns:
            listing = self._listings[heapq.heappop(self._due)[1]]
            if trades := listing.take(CHUNK, now_ns):
                self.tell(listing, trades)
                self._schedule(listing)
        if self._due:
            pause_s = (self._due[0][0] - self._now_ns()) / NS_PER_S / self._speed
            self._timer = asyncio.get_running_loop().call_later(max(pause_s, MIN_PAUSE_S), self._tick)
