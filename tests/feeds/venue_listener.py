"""An engine's end of a live feed of any venue: what it hands out, held against the tape of the fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from actors.pair import splice_of
from actors.state import Ledger
from feeds.intake import Intake, IntakeRules
from feeds.live import Address, LiveFeed
from feeds.splice import Splice
from feeds.venue import Venue
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from tests.actors.core_support import Life
from tests.feeds.dialect import Dialect, FakeTrade
from tests.feeds.fake_venue import FakeVenue, past, serving
from tests.support import eventually

PAST = 20  # trades before the feed begins
BACK_S = 3_600
RULES = IntakeRules(stale_after_s=30.0, close_grace_ms=200, quotes_interval_ms=50)
T = TypeVar("T")


class Row(NamedTuple):
    """A trade, as the tape has it and as the feed told it."""

    id: str
    ts_ns: int
    price: float
    size: float
    side: int


class Gap(NamedTuple):
    opened: GapOpened
    closed: GapClosed | None


class Listener:
    """Take what a feed hands out, as its engine does."""

    def __init__(
        self,
        fake: FakeVenue,
        splice: Splice,
        *,
        venue: Venue | None = None,
        rules: IntakeRules = RULES,
        symbol: str = "",
        shared: Path | None = None,
    ) -> None:
        self.fake, self.splice = fake, splice
        self.venue, symbol = venue or fake.dialect.venue, symbol or fake.dialect.symbol
        self.intake = Intake(self.venue, symbol, splice, rules)
        self.feed = LiveFeed(self.venue, Address(fake.ws_url, fake.rest_url, shared), symbol, self.intake)
        self.inputs: list[Input] = []
        self.next_close_ns: int | None = None

    async def run(self) -> None:
        feeding = asyncio.create_task(self.feed.run())
        try:
            while not feeding.done():
                await self.feed.wait(0.02)
                self.inputs += self.feed.take(time.time_ns(), self.next_close_ns)
                await asyncio.sleep(0.002)
            feeding.result()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    def of(self, kind: type[T]) -> list[T]:
        return [x for x in self.inputs if isinstance(x, kind)]

    @property
    def rows(self) -> list[Row]:
        out = []
        for batch in self.of(TickBatch):
            ids = batch.ids or batch.ticks["trade_id"].astype(str).tolist()
            told = batch.ticks[["ts_ns", "price", "size", "side"]].tolist()
            out += [Row(i, *x) for i, x in zip(ids, told, strict=True)]
        return out

    @property
    def gaps(self) -> list[Gap]:
        closed = {x.first_id: x for x in self.of(GapClosed)}
        return [Gap(x, closed.get(x.first_id)) for x in self.of(GapOpened)]

    def has(self, trades: Iterable[FakeTrade]) -> bool:
        """Tell whether just these were handed out, each once, and nothing is waited for."""
        return sorted(self.rows) == sorted(self.row(x) for x in trades) and (
            self.splice.settled and not self.splice.open_holes
        )

    def has_all(self, missing: Iterable[int] = ()) -> bool:
        return self.has(x for x in self.fake.tape if x.number not in set(missing))

    def row(self, x: FakeTrade) -> Row:
        """Write a trade as the record is owed it; the fake's contracts are a hundredth of the base."""
        size = x.size * (0.01 if self.venue.rules.contracts else 1.0)
        return Row(str(self.fake.dialect.trade_id(x.number)), x.ts_ns, x.price, size, x.side)

    def assert_order(self) -> None:
        """Ticks come in order of time and id; those before that come late are of a gap."""
        numbers = {str(self.fake.dialect.trade_id(x.number)): x.number for x in self.fake.tape}
        newest_ns = 0
        for batch in self.of(TickBatch):
            ids = batch.ids or batch.ticks["trade_id"].astype(str).tolist()
            told = [numbers[i] for i in ids]
            assert batch.ticks["ts_ns"].tolist() == sorted(batch.ticks["ts_ns"].tolist())
            assert batch.ids or told == sorted(told)  # of one time, texts come as they came
            for tick in batch.ticks[batch.ticks["ts_ns"] < newest_ns]:
                assert any(self._excuses(gap.opened, tick) for gap in self.gaps), tick
            newest_ns = max(newest_ns, int(batch.ticks["ts_ns"].max()))

    def _excuses(self, gap: GapOpened, tick: Any) -> bool:
        if gap.counted:
            return bool(gap.first_id <= tick["trade_id"] <= gap.last_id)
        return bool(gap.from_ns <= tick["ts_ns"] <= gap.to_ns)

    def again(self) -> Splice:
        """Go on with what the record tells, as after a kill."""
        life = Life(contiguous=self.venue.rules.contiguous)
        life.take(*self.inputs)
        return splice_of(life.core.state.ledger, self.venue, BACK_S)


def new_splice(venue: Venue, back_s: int = BACK_S) -> Splice:
    """Begin a record, as a pair does."""
    return splice_of(Ledger(), venue, back_s)


def with_rules(venue: Venue, **rules: Any) -> Venue:
    """Give a venue other rules."""
    return cast("Venue", replace(cast("Any", venue), rules=replace(venue.rules, **rules)))


@asynccontextmanager
async def running(listener: Listener) -> AsyncIterator[Listener]:
    task = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def listening(
    dialect: Dialect, *, life_s: float = 0.0, tape: Iterable[FakeTrade] = (), **options: Any
) -> AsyncIterator[Listener]:
    """Begin after PAST trades, and wait until these are in the record."""
    async with serving(dialect, tape or past(PAST)) as fake:
        fake.life_s = life_s
        venue = options.get("venue") or dialect.venue
        async with running(Listener(fake, new_splice(venue), **options)) as seen:
            await eventually(lambda: seen.has_all() and all(x.subscribed for x in seen.intake.lines))
            yield seen
            seen.assert_order()
