"""The live feed against every venue's own protocol at its worst: what it hands out is what was traded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from market.inputs import Began, Instrument, Quote, Rejected, TickBatch
from tests.feeds.dialect import Dialect
from tests.feeds.dialects import kraken, okx
from tests.feeds.fake_venue import UNKNOWN, RestFault, past, serving
from tests.feeds.venue_listener import PAST, Listener, listening, new_splice, running, with_rules
from tests.feeds.venues_support import DIALECTS, all_filled, hurry
from tests.support import eventually

NOTICES = {  # that a server will close soon: path, message
    "binance-spot": ("/ws", '{"e":"serverShutdown","E":1770123456789}'),
    "okx-spot": (
        "/ws/v5/public",
        '{"event":"notice","code":"64008","msg":"soon closed","connId":"a4d3ae55"}',
    ),
    "okx-futures": (
        "/ws/v5/public",
        '{"event":"notice","code":"64008","msg":"soon closed","connId":"a4d3ae55"}',
    ),
}


@pytest.fixture(params=DIALECTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dialect(name: str) -> Dialect:
    return DIALECTS[name]


@pytest.fixture
def counts(dialect: Dialect) -> bool:
    """Whether the venue's ids tell that one is missing."""
    return dialect.venue.rules.contiguous


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_what_was_traded_is_handed_out_to_the_last_digit(dialect: Dialect, *, counts: bool) -> None:
    async with listening(dialect) as seen:
        await seen.fake.trade(100)
        seen.fake.quote(59_999.5, 60_000.5)
        await eventually(seen.has_all)
        assert not seen.gaps
        assert len(seen.of(Began)) == counts
        await eventually(lambda: (59_999.5, 60_000.5) in [(x.bid_price, x.ask_price) for x in seen.of(Quote)])
        assert len(seen.of(Instrument)) == 1
        assert seen.feed.status()["state"] == "streaming"
        assert not seen.feed.status()["unknown"]
        assert not seen.of(Rejected)
        assert all(batch.ticks["received_ns"].min() > seen.fake.tape[0].ts_ns for batch in seen.of(TickBatch))


async def test_cuts_of_a_market_without_trades_leave_no_gap(dialect: Dialect) -> None:
    async with listening(dialect) as seen:
        for _ in range(3):
            seen.fake.drop()
            await eventually(lambda: seen.fake.ready)
            await eventually(lambda: seen.intake.subscribed and seen.has_all())
        assert {x.state.opened_count for x in seen.feed.connections} == {4}
        assert not seen.gaps
        await seen.fake.trade(5)
        await eventually(seen.has_all)
        assert not seen.gaps


async def test_refused_connections_are_tried_again(dialect: Dialect) -> None:
    async with serving(dialect, past(PAST)) as fake:
        fake.refuses = lambda _: True
        async with running(Listener(fake, new_splice(dialect.venue))) as seen:
            await eventually(lambda: seen.feed.connections[0].attempts > 2)
            assert seen.feed.status()["state"] == "connecting"
            fake.refuses = lambda _: False
            await eventually(lambda: seen.intake.subscribed)
            await fake.trade(10)
            await eventually(seen.has_all)
            assert not seen.gaps


async def test_noise_on_the_stream_costs_nothing(dialect: Dialect) -> None:
    """Frames come twice, swapped, late, spoiled, or are of a kind that nobody knows."""
    async with listening(dialect) as seen:
        fake, now_ns = seen.fake, time.time_ns()
        path = dialect.venue.lines(dialect.symbol)[0].path
        await fake.trade(5)
        twice, first, second, spoiled, extra = fake.happen(5)

        def own(x: Any) -> list[str]:
            return dialect.trades(path, [x], now_ns)

        fake.frames = {
            twice.number: own(twice) * 2,
            first.number: own(second),
            second.number: own(first),
            spoiled.number: [own(spoiled)[0][:-9]],
            extra.number: ['{"', "{}", UNKNOWN, UNKNOWN, *own(extra)],
        }
        with capture_logs() as logs:
            fake.tell([twice, first, second, spoiled, extra])
            await fake.trade(10)
            fake.delay_s = 0.05
            fake.tell(fake.happen(3))
            await eventually(seen.has_all)
        assert all_filled(seen)
        assert seen.splice.duplicates in {1, 2}  # REST may be faster than the later one of two swapped
        assert len(seen.of(Rejected)) >= 1
        told = [x["kind"] for x in logs if x["event"] == "message_unknown"]
        assert len(told) == len(set(told))
        assert [kind for kind in told if "novelty" in kind or "channel" in kind]


@pytest.mark.parametrize("name", [x for x, d in DIALECTS.items() if len(d.venue.lines(d.symbol)) > 1])
async def test_a_lost_socket_for_quotes_leaves_the_trades_alone(dialect: Dialect) -> None:
    async with listening(dialect) as seen:
        path = dialect.venue.lines(dialect.symbol)[1].path
        seen.fake.refuses = lambda at: at == path
        seen.fake.drop(path)
        await seen.fake.trade(20)
        await eventually(seen.has_all)
        assert not seen.gaps
        assert seen.feed.connections[0].state.opened_count == 1
        seen.fake.refuses = lambda _: False
        await eventually(lambda: seen.intake.lines[1].subscribed)
        seen.fake.quote(1.5, 2.5)
        await eventually(lambda: seen.of(Quote))


@pytest.mark.parametrize("name", NOTICES)
async def test_a_shutdown_notice_is_answered_by_a_successor(name: str, dialect: Dialect) -> None:
    async with listening(dialect) as seen:
        path, text = NOTICES[name]
        seen.fake.say(text, path)
        await seen.fake.trade(20)
        await eventually(lambda: seen.fake.opened[path] == 2)
        await eventually(lambda: len(seen.fake.sockets) == len(seen.feed.connections))
        await seen.fake.trade(20)
        await eventually(seen.has_all)
        assert not seen.gaps
        assert seen.fake.opened[path] == 2


async def test_before_its_end_a_connection_has_a_successor(dialect: Dialect) -> None:
    venue = with_rules(dialect.venue, max_life_s=0.4)
    async with listening(dialect, venue=venue, life_s=1.0) as seen:
        at_once, began_s = 0, time.monotonic()
        while time.monotonic() - began_s < 0.9:
            await seen.fake.trade(3)
            at_once = max(at_once, *Counter(x.path for x in seen.fake.sockets).values())
            await asyncio.sleep(0.02)
        await eventually(seen.has_all)
        assert all(2 <= n <= 5 for n in seen.fake.opened.values())
        assert at_once == 2  # the old one and its successor
        assert not seen.gaps
        assert not seen.feed.status()["last_error"]  # none was cut by the venue


async def test_a_successor_that_is_refused_does_not_cost_the_old_one(dialect: Dialect) -> None:
    async with listening(dialect) as seen:
        first = seen.feed.connections[0]
        seen.fake.refuses = lambda _: True
        first.state.closing(1)  # as a notice does
        await eventually(lambda: first.attempts > 3)
        await seen.fake.trade(20)
        await eventually(seen.has_all)
        assert first.state.epochs == (1,)
        seen.fake.refuses = lambda _: False
        await eventually(lambda: first.state.epochs == (2,))
        await seen.fake.trade(20)
        await eventually(seen.has_all)
        assert not seen.gaps


async def test_sizes_in_contracts_are_not_guessed() -> None:
    async with serving(okx.FUTURES, past(PAST)) as fake:
        fake.rest_faults.extend([RestFault(502)] * 3)
        async with running(Listener(fake, new_splice(okx.FUTURES.venue))) as seen:
            await eventually(lambda: len(fake.asked) >= 3)
            assert not fake.opened
            await eventually(seen.has_all)
            await fake.trade(5)
            await eventually(seen.has_all)


async def test_the_state_of_the_venues_engine_is_said_once() -> None:
    status = '{"channel":"status","data":[{"api_version":"v2","system":"%s"}],"type":"update"}'
    async with listening(kraken.DIALECT) as seen:

        def said(state: str) -> bool:
            return seen.feed.status()["engine"] == state

        with capture_logs() as logs:
            for state in ("online", "maintenance", "maintenance", "online"):
                seen.fake.say(status % state)
                await eventually(partial(said, state))
        assert [x["state"] for x in logs if x["event"] == "venue_engine"] == ["maintenance", "online"]
