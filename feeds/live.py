"""A pair's live feed: one socket, one REST request at a time, one intake between them and the journal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog

from feeds import binance_spot as venue
from feeds import rest
from feeds.connection import Connection
from feeds.inbox import Inbox
from feeds.intake import Intake
from feeds.splicer import Latest, Request
from market.errors import BadFrame, RateLimited, Retryable
from market.inputs import Input, Rejected
from market.ticks import Ticks
from market.times import NS_PER_S

log = structlog.get_logger()
UNLISTED = -1121  # the venue's code for a symbol it does not have
UNLISTED_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Retryable | BadFrame
    retry_after_s: float


class LiveFeed:
    """Hand out journal inputs as the venue's trades and the clock make them."""

    finished = False

    def __init__(self, ws_url: str, rest_url: str, symbol: str, intake: Intake) -> None:
        self.intake = intake
        self.unlisted = False
        self._symbol, self._rest_url = symbol, rest_url.rstrip("/")
        self._inbox = Inbox()
        url = ws_url.rstrip("/") + venue.RULES.ws_path
        self.connection = Connection(url, venue.subscribe(symbol, 1), intake, self._inbox)
        self._asking: asyncio.Task[None] | None = None
        self._answer: tuple[Request, Ticks | _Failure] | None = None

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        try:
            await self.connection.run()
        finally:
            if self._asking is not None:
                self._asking.cancel()

    async def wait(self, timeout_s: float) -> None:
        await self._inbox.wait(timeout_s)

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Return what has come and what the time says; start the next REST request if one is due."""
        if self._asking is not None and self._asking.done():
            self._asking.result()
        frames, received_ns = self._inbox.take()
        out = self.intake.frames(frames, received_ns, now_ns) if frames else []
        out += self._take_answer(now_ns)
        out += self.intake.tick(now_ns, next_close_ns)
        self.connection.check(now_ns)
        if request := self.intake.splicer.request(now_ns):
            self._asking = asyncio.create_task(self._ask(request))
        return out

    def drain(self, now_ns: int) -> list[Input]:
        """Return everything that was received; what it waits for stays an open gap."""
        frames, received_ns = self._inbox.take()
        out = self.intake.frames(frames, received_ns, now_ns) if frames else []
        return out + self.intake.splicer.drain(now_ns)

    def status(self) -> dict[str, object]:
        """Say what a person asks first: is it connected, is anything missing."""
        return {
            "state": self._state(),
            "connects": self.connection.opened,
            "reconnects": max(0, self.connection.opened - 1),
            "last_error": self.connection.last_error,
            "rejected": self.intake.rejected,
            "duplicates": self.intake.splicer.duplicates,
            "holes": self.intake.splicer.open_holes,
        }

    def _state(self) -> str:
        if self.unlisted:
            return "unlisted"
        if self.intake.stale:
            return "stale"
        if not self.intake.subscribed:
            return "connecting"
        return "streaming" if self.intake.splicer.settled else "catching up"

    def _take_answer(self, now_ns: int) -> list[Input]:
        if self._answer is None:
            return []
        (request, answer), self._answer = self._answer, None
        if not isinstance(answer, _Failure):
            self.unlisted = False
            return self.intake.splicer.answered(request, answer, now_ns)
        out = self.intake.splicer.failed(now_ns, int(answer.retry_after_s * NS_PER_S))
        if isinstance(answer.error, BadFrame):
            out.append(Rejected(now_ns, answer.error.reason, answer.error.raw))
        if _is_unlisted(answer.error) and not self.unlisted:
            self.unlisted = True
            reason = f"the venue does not list {self._symbol}"
            log.error("symbol_unlisted", symbol=self._symbol)
            out.append(Rejected(now_ns, reason, str(answer.error).encode()[:1024]))
        return out

    async def _ask(self, request: Request) -> None:
        try:
            self._answer = request, await self._get(request)
        except (Retryable, BadFrame) as error:
            wait_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
            if _is_unlisted(error):
                wait_s = UNLISTED_RETRY_S
            log.info("backfill_failed", error=str(error), retry_after_s=wait_s)
            self._answer = request, _Failure(error, wait_s)
        self._inbox.wake()

    async def _get(self, request: Request) -> Ticks:
        if isinstance(request, Latest):
            path = venue.latest_request(self._symbol)
        else:
            path = venue.trades_request(self._symbol, request.from_id)
        return venue.parse_trades(await rest.get(self._rest_url + path), time.time_ns())


def _is_unlisted(error: Exception) -> bool:
    return isinstance(error, rest.Refused) and venue.parse_error(error.body)[0] == UNLISTED
