"""A pair's sockets for their own sake: whatever a venue says of it, as it came, without a record."""

from __future__ import annotations

import asyncio
import json
from itertools import groupby

import structlog

from feeds import clock, rest
from feeds.connection import Connection
from feeds.inbox import Arrivals
from feeds.lines import LineState
from feeds.live import Address
from feeds.recording_format import Kept
from feeds.turns import Turns
from feeds.venue import Venue
from market.errors import BadFrame, RateLimited, Retryable, Unlisted, UsageError

log = structlog.get_logger()
LISTING_RETRY_S = 30.0


class Tap:
    """Hand out frames as a recording keeps them.

    Those of connection 0 came over no socket: under the path "" stands where a tap begins, under another one
    what the venue's REST answered to it, which is what it says of the symbol.
    """

    def __init__(self, venue: Venue, address: Address, symbol: str, stale_after_s: float) -> None:
        self.refused = ""  # what the venue last said no to
        self._venue, self._symbol = venue, symbol
        self._rest_url = address.rest_url.rstrip("/")
        self._turns = Turns(address.shared, address.ws_url, address.rest_url, venue.rules)
        self._lines = venue.lines(symbol)
        life_s = venue.rules.max_life_s
        self._connections = [
            Connection(
                address.ws_url, line, venue.rules, LineState(line.acks, stale_after_s, life_s), self._turns
            )
            for line in self._lines
        ]
        began = json.dumps({"tap": "began", "symbol": symbol}).encode()
        self._aside = [Kept(clock.now_ns(), 0, "", began)]
        self._listed, self._unlisted = asyncio.Event(), ""  # why nothing is known of the symbol

    @property
    def opened(self) -> int:
        """How often a connection was opened."""
        return sum(one.state.opened_count for one in self._connections)

    @property
    def subscribed(self) -> bool:
        """Whether everything that was asked for is being told."""
        return all(one.state.subscribed for one in self._connections)

    @property
    def last_error(self) -> str:
        return next((one.last_error for one in self._connections if one.last_error), self._unlisted)

    async def run(self) -> None:
        """Listen until cancelled; raises UsageError for a symbol that the venue does not have."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask_listing())
            for one in self._connections:
                tasks.create_task(self._connect(one))

    def take(self, now_ns: int) -> list[Kept]:
        """Return what has come since, by the time of its arrival; give up sockets that are of no use."""
        out, self._aside = self._aside, []
        for line, connection in zip(self._lines, self._connections, strict=True):
            arrivals = connection.inbox.take()
            self._hear(arrivals, connection.state, now_ns)
            out += [Kept(at, epoch, line.path, x) for x, at, epoch in zip(*arrivals, strict=True)]
            connection.check(now_ns)
        return sorted(out, key=lambda kept: kept.received_ns)

    def _hear(self, arrivals: Arrivals, state: LineState, now_ns: int) -> None:
        """Learn from frames what keeps a connection: that it was granted, is fed, and will end."""
        by_epoch = groupby(zip(*arrivals, strict=True), key=lambda arrival: arrival[2])
        for epoch, group in by_epoch:
            frames, received_ns, _ = zip(*group, strict=True)
            parsed = self._venue.parse(frames, received_ns, self._symbol)
            state.heard(epoch, now_ns, fed=bool(len(parsed.ticks) or parsed.quote))
            state.acknowledged(epoch, sum(notice.subscribed for notice in parsed.notices))
            for notice in parsed.notices:
                if notice.kind == "shutdown":
                    state.closing(epoch)
                elif notice.kind == "refused":
                    self.refused = f"{notice.code}: {notice.text}"

    async def _connect(self, connection: Connection) -> None:
        """Where sizes are contracts, no trade can be read without what comes first: their size."""
        if self._venue.rules.contracts:
            await self._listed.wait()
        await connection.run()

    async def _ask_listing(self) -> None:
        """Ask until there is an answer; nothing but contracts waits for it."""
        while not self._listed.is_set():
            wait_s = LISTING_RETRY_S
            try:
                await self._list()
            except Unlisted as error:
                raise UsageError(f"the venue does not list {self._symbol}") from error
            except (Retryable, BadFrame) as error:
                if isinstance(error, RateLimited):
                    wait_s = max(wait_s, error.retry_after_s)
                    self._turns.refused(error.retry_after_s)
                self._unlisted = str(error)
                log.warning("listing_unknown", error=str(error))
                await asyncio.sleep(wait_s)

    async def _list(self) -> None:
        ask = self._venue.listing(self._symbol)
        await self._turns.ask(ask.weight)
        try:
            body = await rest.get(self._rest_url + ask.path, self._venue.rules.too_many)
        except rest.Refused as refused:
            if self._venue.is_unlisted(refused.status, refused.body):
                raise Unlisted(str(refused)) from refused
            raise
        self._venue.parse_listing(body, self._symbol)
        self._aside.append(Kept(clock.now_ns(), 0, ask.path, body))
        self._listed.set()
