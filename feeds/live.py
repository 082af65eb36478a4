"""A pair's live feed: its sockets, one REST request at a time, one intake between them and the journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

from feeds import clock, rest
from feeds.connection import Connection
from feeds.intake import Intake
from feeds.pace import Pace
from feeds.requests import Latest, Page
from feeds.turns import Turns
from feeds.venue import Ask, Listing, Trades, Venue
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.inputs import Input, Instrument, Rejected
from market.times import NS_PER_S

log = structlog.get_logger()
UNLISTED_RETRY_S = 60.0
ABOUT_THE_QUESTION = {400, 404, 410, 422}
"""HTTP statuses that refuse what was asked, not who asks, or when."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a market of a venue answers, and the folder where its limits are shared; None: with nobody."""

    ws_url: str
    rest_url: str
    shared: Path | None = None


@dataclass(frozen=True, slots=True)
class _Listed:
    """Ask what the symbol is; `silence` says that, and how, nothing comes."""

    silence: str = ""


Question: TypeAlias = Latest | Page | _Listed


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Retryable | BadFrame
    retry_after_s: float

    @property
    def refusal(self) -> str:
        """Say why the venue does not give just what was asked for, if that is so."""
        of_it = isinstance(self.error, rest.Refused) and self.error.status in ABOUT_THE_QUESTION
        return str(self.error)[:200] if of_it else ""


class LiveFeed:
    """Hand out journal inputs as the venue's trades and the clock make them."""

    finished = False

    def __init__(self, venue: Venue, address: Address, symbol: str, intake: Intake) -> None:
        self.intake = intake
        self.unlisted = False
        self.listing: Listing | None = None
        self._venue, self._symbol = venue, symbol
        self._rest_url = address.rest_url.rstrip("/")
        self._turns = Turns(address.shared, address.ws_url, address.rest_url, venue.rules)
        lines = zip(venue.lines(symbol), intake.lines, strict=True)
        self.connections = [
            Connection(address.ws_url, line, venue.rules, state, self._turns) for line, state in lines
        ]
        self._wake, self._listed = asyncio.Event(), asyncio.Event()
        for one in self.connections:
            one.inbox.wake = self._wake.set
        self._asking: asyncio.Task[None] | None = None
        self._answer: tuple[Question, Trades | Listing | _Failure] | None = None
        self._list_pace = Pace()
        self._told: set[str] = set()  # unknown kinds of messages, at most MAX_UNKNOWN and the others
        self._told_engine, self._told_failure = "online", ""
        self._told_renumbered = False

    async def run(self) -> None:
        """Keep the connections until cancelled."""
        tasks = [asyncio.create_task(self._connect(one)) for one in self.connections]
        try:
            await asyncio.gather(*tasks)
        finally:
            tasks += [self._asking] if self._asking else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, connection: Connection) -> None:
        """Where sizes are contracts, no trade can be read before their size is known."""
        if self._venue.rules.contracts:
            await self._listed.wait()
        await connection.run()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is something to look at, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Return what has come and what the time says; start the next REST request if one is due."""
        if self._asking is not None and self._asking.done():
            self._asking.result()
        out = self._arrived(now_ns)
        out += self._take_answer(now_ns)
        out += self.intake.tick(now_ns, next_close_ns)
        for i, connection in enumerate(self.connections):
            connection.check(now_ns, deaf=i == 0 and self.intake.splicer.deaf)
        self.intake.splicer.deaf = False
        self._ask_next(now_ns)
        return out

    def drain(self, now_ns: int) -> list[Input]:
        """Return everything that was received; what it waits for stays an open gap."""
        return self._arrived(now_ns) + self.intake.splicer.drain(now_ns)

    def status(self) -> dict[str, object]:
        """Say what a person asks first: is it connected, is anything missing."""
        opened = sum(one.state.opened_count for one in self.connections)
        return {
            "state": self._state(),
            "connects": opened,
            "reconnects": max(0, opened - len(self.connections)),
            "last_error": next((one.last_error for one in self.connections if one.last_error), ""),
            "refused": self.intake.refused,
            "listing": self.listing.status if self.listing else "",
            "rejected": self.intake.rejected,
            "unknown": dict(self.intake.unknown),
            "engine": self.intake.engine,
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
        if self.intake.silence.halted:
            return "halted"
        return "streaming" if self.intake.splicer.settled else "catching up"

    def _arrived(self, now_ns: int) -> list[Input]:
        self._wake.clear()
        out: list[Input] = []
        for line, connection in enumerate(self.connections):
            if arrivals := connection.inbox.take():
                out += self.intake.frames(line, arrivals, now_ns)
        self._tell()
        return out

    def _tell(self) -> None:
        """Log what is new of the venue's messages, once."""
        for kind in self.intake.unknown.keys() - self._told:
            self._told.add(kind)
            log.warning("message_unknown", symbol=self._symbol, kind=kind)
        if (renumbered := self.intake.splicer.renumbered) != self._told_renumbered:
            self._told_renumbered = renumbered
            log.error("ids_began_anew" if renumbered else "ids_go_on", symbol=self._symbol)
        if (engine := self.intake.engine or "online") != self._told_engine:
            self._told_engine = engine
            log.warning("venue_engine", symbol=self._symbol, state=engine)

    def _ask_next(self, now_ns: int) -> None:
        if self._asking is not None and not self._asking.done():
            return
        question = self._question(now_ns)
        if question is not None:
            self._asking = asyncio.create_task(self._ask(question))

    def _question(self, now_ns: int) -> Question | None:
        if self.intake.silence.wonders(now_ns):
            return _Listed(self.intake.silent)
        to_list = self.listing is None and self._list_pace.due(now_ns)
        if to_list and self._venue.rules.contracts:
            return _Listed()
        if request := self.intake.splicer.request(now_ns):
            return request
        return _Listed() if to_list else None

    def _take_answer(self, now_ns: int) -> list[Input]:
        if self._answer is None:
            return []
        (question, answer), self._answer = self._answer, None
        if isinstance(question, _Listed):
            return self._take_listing(question, answer, now_ns)
        if not isinstance(answer, _Failure):
            self._told_failure = ""
        if isinstance(answer, Trades):
            self.unlisted = False
            ticks = self.intake.in_base_units(answer.ticks)
            return self.intake.splicer.answered(question, ticks, now_ns, answer.ids)
        assert isinstance(answer, _Failure)  # noqa: S101 - a listing answers no other question
        wait_ns = int(answer.retry_after_s * NS_PER_S)
        out = self.intake.splicer.failed(now_ns, wait_ns, answer.refusal)
        return out + self._failed(answer.error, now_ns)

    def _take_listing(
        self, question: _Listed, answer: Trades | Listing | _Failure, now_ns: int
    ) -> list[Input]:
        out: list[Input] = []
        if isinstance(answer, Listing):
            self.unlisted, self.listing = False, answer
            self.intake.contract_size = answer.contract_size
            self._listed.set()
            out += [Instrument(answer.tick_size)] if answer.tick_size else []
        elif isinstance(answer, _Failure):
            self._list_pace.postpone(now_ns)
            after_ns = now_ns + int(answer.retry_after_s * NS_PER_S)
            self._list_pace.after_ns = max(self._list_pace.after_ns, after_ns)
            out += self._failed(answer.error, now_ns)
        if question.silence:
            trading = answer.trading if isinstance(answer, Listing) else None
            out += self.intake.judged(now_ns, question.silence, trading=trading)
        return out

    def _failed(self, error: Retryable | BadFrame, now_ns: int) -> list[Input]:
        if isinstance(error, BadFrame):
            return [Rejected(now_ns, error.reason, error.raw)]
        if not isinstance(error, Unlisted) or self.unlisted:
            return []
        self.unlisted = True
        reason = f"the venue does not list {self._symbol}"
        log.error("symbol_unlisted", symbol=self._symbol)
        return [Rejected(now_ns, reason, str(error).encode()[:1024])]

    async def _ask(self, question: Question) -> None:
        try:
            self._answer = question, await self._get(question)
        except (Retryable, BadFrame) as error:
            wait_s = UNLISTED_RETRY_S if isinstance(error, Unlisted) else 0.0
            if isinstance(error, RateLimited):
                wait_s = error.retry_after_s
                self._turns.refused(wait_s)
            if str(error) != self._told_failure:
                self._told_failure = str(error)
                log.info("request_failed", symbol=self._symbol, error=str(error), retry_after_s=wait_s)
            self._answer = question, _Failure(error, wait_s)
        self._wake.set()

    async def _get(self, question: Question) -> Trades | Listing:
        ask = self._asked(question)
        await self._turns.ask(ask.weight)
        try:
            body = await rest.get(self._rest_url + ask.path, self._venue.rules.too_many)
        except rest.Refused as refused:
            if self._venue.is_unlisted(refused.status, refused.body):
                raise Unlisted(str(refused)) from refused
            raise
        if isinstance(question, _Listed):
            return self._venue.parse_listing(body, self._symbol)
        return self._venue.parse_trades(body, clock.now_ns(), self._symbol)

    def _asked(self, question: Question) -> Ask:
        if isinstance(question, _Listed):
            return self._venue.listing(self._symbol)
        if isinstance(question, Latest):
            return self._venue.latest(self._symbol)
        return self._venue.page(self._symbol, question.from_id, question.from_ns, question.to_ns)
