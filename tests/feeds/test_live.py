"""The live feed against a simulated venue at its worst: what it hands out is what was traded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar, get_args

import pytest

from feeds import rest
from feeds import splicer as splicing
from feeds.binance_spot import VENUE
from feeds.intake import Intake, IntakeRules
from feeds.live import Address, LiveFeed
from feeds.sim.exchange import SimExchange
from feeds.sim.faults import (
    Cut24h,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Flaw,
    Halt,
    Lose,
    Malformed,
    Refuse,
    RestHang,
    RestLag,
    RestStatus,
    Silence,
    Skip,
    Swap,
)
from feeds.splicer import NOT_LISTED, Splicer
from market.errors import RateLimited, Retryable
from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Quote,
    Rejected,
    TickBatch,
)
from market.times import NS_PER_S
from tests.feeds.sim_support import START_NS, get, manual_sim
from tests.support import eventually

BTC = "BTCUSDT"
PAST = 20  # trades before the feed begins
T = TypeVar("T")
RULES = IntakeRules(stale_after_s=30.0, close_grace_ms=200, quotes_interval_ms=50)


class Listener:
    """Take what a feed hands out, as its engine does."""

    def __init__(self, sim: SimExchange, symbol: str, rules: IntakeRules) -> None:
        self.sim = sim
        self.splicer = Splicer(None)
        self.intake = Intake(VENUE, symbol, self.splicer, rules)
        self.feed = LiveFeed(VENUE, Address(sim.ws_url, sim.rest_url), symbol, self.intake)
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

    @property
    def ids(self) -> list[int]:
        return [int(i) for batch in self.of(TickBatch) for i in batch.ticks["trade_id"]]

    @property
    def last_id(self) -> int:
        return self.sim.listings[BTC].last_id

    def of(self, kind: type[T]) -> list[T]:
        return [x for x in self.inputs if isinstance(x, kind)]

    def has_all(self, *missing: int) -> bool:
        """Tell whether every trade since the beginning is there, and no hole is open."""
        return Counter(self.ids) == Counter(set(range(PAST + 1, self.last_id + 1)) - set(missing)) and (
            self.intake.splicer.settled and not self.intake.splicer.open_holes
        )


@asynccontextmanager
async def listening(
    sim: SimExchange, symbol: str = BTC, rules: IntakeRules = RULES
) -> AsyncIterator[Listener]:
    """Begin after PAST trades."""
    await sim.emit(PAST)
    listener = Listener(sim, symbol, rules)
    running = asyncio.create_task(listener.run())
    try:
        if symbol == BTC:
            await eventually(lambda: listener.of(Began) and listener.feed.listing)
        yield listener
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def emit(sim: SimExchange, count: int, step: int = 7) -> None:
    """Let trades happen in small portions, so that frames come in several reads."""
    for start in range(0, count, step):
        await sim.emit(min(step, count - start))
        await asyncio.sleep(0.003)


@pytest.fixture
def short_wait() -> Iterator[None]:
    """Let live ticks wait for a hole for a fifth of a second."""
    before, splicing.WAIT_NS = splicing.WAIT_NS, NS_PER_S // 5
    yield
    splicing.WAIT_NS = before


async def test_what_was_traded_is_handed_out_to_the_last_digit() -> None:
    async with manual_sim() as sim, listening(sim) as seen:
        await emit(sim, 300)
        await eventually(seen.has_all)
        rows = await get(sim, "/sim/trades", symbol=BTC, fromId=PAST + 1, limit=1_000)
        told = [
            t
            for b in seen.of(TickBatch)
            for t in b.ticks[["trade_id", "ts_ns", "price", "size", "side"]].tolist()
        ]
        assert told == [
            (
                r["id"],
                r["time"] * 1_000_000,
                float(r["price"]),
                float(r["qty"]),
                -1 if r["isBuyerMaker"] else 1,
            )
            for r in rows
        ]
        assert not seen.of(GapOpened)
        await eventually(lambda: seen.of(Quote))
        assert seen.feed.status()["state"] == "streaming"
        assert all(b.ticks["received_ns"].min() > START_NS for b in seen.of(TickBatch))


@pytest.mark.parametrize(
    ("fault", "gaps", "missing"),
    [
        (Drop(BTC, at_id=50), 1, ()),
        (Delay(ms=100), 0, ()),
        (Duplicate(BTC, 50), 0, ()),
        (Skip(BTC, 50, 55), 1, ()),
        (Lose(BTC, 50, 55), 1, range(50, 56)),
        (Swap(BTC, 50), None, ()),
        *[(Malformed(BTC, flaw, at_id=50), 1, ()) for flaw in get_args(Flaw)],
        *[(Malformed(BTC, flaw, at_id=50, extra=True), 0, ()) for flaw in get_args(Flaw)],
        (Cut24h(warn_s=0.01), None, ()),
        (Drop(), None, ()),
    ],
    ids=str,
)
async def test_a_fault_of_the_stream_costs_nothing(
    fault: Fault, gaps: int | None, missing: list[int]
) -> None:
    async with manual_sim() as sim, listening(sim) as seen:
        await emit(sim, 20)
        sim.inject(fault)
        await emit(sim, 60)
        await eventually(lambda: seen.has_all(*missing))
        assert sum(sim.faults.done.values())
        if gaps is not None:
            assert len(seen.of(GapOpened)) == gaps
        assert [c.missing for c in seen.of(GapClosed)] == [len(missing)] * len(seen.of(GapOpened))
        assert {c.reason for c in seen.of(GapClosed) if c.missing} <= {NOT_LISTED}
        if not isinstance(fault, Cut24h):  # of a handover each socket brings its own
            assert seen.feed.status()["duplicates"] == (1 if isinstance(fault, Duplicate) else 0)
        spoiled = (
            isinstance(fault, Malformed) and fault.flaw != "event"
        )  # an event of another kind is no fault
        assert len(seen.of(Rejected)) == seen.feed.status()["rejected"] == int(spoiled)


async def test_refused_connections_are_tried_again() -> None:
    async with manual_sim() as sim:
        sim.inject(Refuse(seconds=0.5))
        async with listening(sim) as seen:
            await emit(sim, 20)
            await eventually(seen.has_all)
            assert seen.feed.connections[0].attempts > 1
            assert seen.feed.status()["connects"] == 1
            assert seen.feed.status()["last_error"]


async def test_trades_of_a_cut_before_a_silence_are_fetched_without_a_live_tick() -> None:
    async with manual_sim() as sim, listening(sim) as seen:
        sim.inject(Refuse(seconds=0.3))
        sim.inject(Drop())
        await sim.emit(30)
        await eventually(seen.has_all)
        (gap,) = seen.of(GapOpened)
        assert gap.reason == "missed while not connected"
        assert seen.feed.status()["connects"] == 2


async def test_silence_is_stale_and_mended() -> None:
    rules = IntakeRules(stale_after_s=0.4, close_grace_ms=200, quotes_interval_ms=50)
    async with manual_sim() as sim, listening(sim, rules=rules) as seen:
        await emit(sim, 20)
        await eventually(seen.has_all)
        sim.inject(Silence(seconds=1.0))
        await emit(sim, 20)
        await eventually(lambda: seen.of(FeedStale))
        await eventually(seen.has_all)  # the new connection asks what was missed
        (stale,) = seen.of(FeedStale)
        assert 0.4 <= stale.silent_s < 5
        assert stale.reason == "connected, but nothing comes"
        assert seen.feed.status()["state"] == "stale"
        await asyncio.sleep(0.7)
        await eventually(lambda: seen.intake.subscribed)
        await emit(sim, 5)
        await eventually(lambda: seen.of(FeedRecovered))
        await eventually(seen.has_all)
        assert len(seen.of(FeedStale)) == 1
        assert seen.intake.lines[0].opened_count > 1


@pytest.mark.parametrize("status", [429, 418, 502])
async def test_rest_errors_delay_a_hole_and_nothing_else(status: int, short_wait: None) -> None:  # noqa: ARG001 - shortens the wait
    async with manual_sim() as sim, listening(sim) as seen:
        sim.inject(RestStatus(status, retry_after_s=1))  # type: ignore[arg-type]  # one of those it takes
        sim.inject(Skip(BTC, 30, 35))
        began = time.monotonic()
        await emit(sim, 40)
        await eventually(lambda: PAST + 40 in seen.ids)
        assert 30 not in seen.ids  # live went on without
        await eventually(seen.has_all)
        if status != 502:
            assert time.monotonic() - began >= 1.0  # as the venue asked
        assert sim.faults.done["rest_status"] == 1


async def test_a_hanging_rest_does_not_hold_the_stream(short_wait: None) -> None:  # noqa: ARG001 - shortens the wait
    async with manual_sim() as sim, listening(sim) as seen:
        sim.inject(RestHang(seconds=1.0))
        sim.inject(Skip(BTC, 30, 35))
        began = time.monotonic()
        await emit(sim, 40)
        await eventually(lambda: PAST + 40 in seen.ids)
        assert time.monotonic() - began < 0.9
        await eventually(seen.has_all)


async def test_a_rest_that_never_answers_is_given_up() -> None:
    async with manual_sim() as sim:
        sim.inject(RestHang(seconds=1.0))
        with pytest.raises(Retryable):
            await asyncio.to_thread(rest.get_now, sim.rest_url + "/api/v3/ping", 0.2)
        with pytest.raises(Retryable):
            await rest.get("http://127.0.0.1:1/nobody/listens")
        with pytest.raises(Retryable):
            await rest.get("no address at all")


async def test_rest_says_how_long_to_wait() -> None:
    async with manual_sim() as sim:
        sim.inject(RestStatus(418, retry_after_s=120))
        with pytest.raises(RateLimited) as limited:
            await rest.get(sim.rest_url + "/api/v3/ping")
        assert limited.value.retry_after_s == 120
        with pytest.raises(rest.Refused, match="HTTP 400"):
            await rest.get(sim.rest_url + "/api/v3/trades?symbol=NOPE")


async def test_a_rest_behind_its_stream_is_waited_for(short_wait: None) -> None:  # noqa: ARG001 - shortens the wait
    async with manual_sim() as sim, listening(sim) as seen:
        sim.inject(RestLag(seconds=3_600))
        sim.inject(Skip(BTC, 30, 35))
        await emit(sim, 40)
        await eventually(lambda: PAST + 40 in seen.ids)
        assert not seen.of(GapClosed)
        sim.inject(RestLag(seconds=0))
        await eventually(seen.has_all)
        assert [c.missing for c in seen.of(GapClosed)] == [0]


async def test_a_halt_is_no_hole() -> None:
    async with manual_sim() as sim, listening(sim) as seen:
        await emit(sim, 10)
        sim.inject(Halt(BTC))
        assert await sim.emit(10) == 0
        sim.inject(Halt(BTC, "TRADING"))
        await emit(sim, 10)
        await eventually(seen.has_all)
        assert not seen.of(GapOpened)


async def test_an_unknown_symbol_is_said_once_and_asked_for_seldom() -> None:
    async with manual_sim() as sim, listening(sim, "NOPEUSDT") as seen:
        await eventually(lambda: seen.feed.status()["state"] == "unlisted")
        (rejected,) = seen.of(Rejected)
        assert rejected.reason == "the venue does not list NOPEUSDT"
        await asyncio.sleep(0.5)
        assert len(seen.of(Rejected)) == 1
        assert seen.intake.splicer.request(time.time_ns() + 50 * NS_PER_S) is None


async def test_drain_hands_out_all_that_was_received() -> None:
    async with manual_sim() as sim:
        async with listening(sim) as seen:
            sim.inject(RestHang(seconds=2))
            sim.inject(Skip(BTC, 30, 35))
            await emit(sim, 40)
            await eventually(lambda: len(seen.splicer._waiting) == 25)
        left = seen.feed.drain(time.time_ns())
        (batch,) = [x for x in left if isinstance(x, TickBatch)]
        assert batch.ticks["trade_id"].tolist() == list(range(36, PAST + 41))


async def test_bars_are_closed_by_the_clock_of_a_healthy_and_whole_feed() -> None:
    async with manual_sim() as sim, listening(sim) as seen:
        await emit(sim, 10)
        await eventually(seen.has_all)
        said_ns = sim.now_ns
        seen.next_close_ns = said_ns + NS_PER_S // 2
        began = time.monotonic()
        await eventually(lambda: seen.of(Clock))
        assert time.monotonic() - began > 0.5  # and the grace
        assert said_ns <= seen.of(Clock)[0].ts_ns <= said_ns + 2 * NS_PER_S
        seen.next_close_ns = None
        seen.inputs.clear()
        sim.inject(Refuse(seconds=0.4))
        sim.inject(Drop())
        await eventually(lambda: not seen.intake.subscribed)
        seen.next_close_ns = said_ns  # long over, but nobody knows what was missed
        await asyncio.sleep(0.2)
        assert not seen.of(Clock)
        await eventually(lambda: seen.of(Clock))
