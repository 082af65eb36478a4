"""Silence of every venue: a fault is known from a halt and from a market in which nothing happens."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from market.inputs import FeedRecovered, FeedStale, Rejected
from tests.feeds.dialect import Dialect
from tests.feeds.fake_venue import past, serving
from tests.feeds.venue_listener import PAST, Listener, listening, new_splice, running, with_rules
from tests.feeds.venues_support import DIALECTS, IMPATIENT, all_filled, hurry
from tests.support import eventually

HALTED = {  # what an answer about a symbol says when it is traded, and when it is not
    "binance-spot": (b'"TRADING"', b'"BREAK"'),
    "binance-usdm": (b'"TRADING"', b'"SETTLING"'),
    "bybit-spot": (b'"Trading"', b'"Closed"'),
    "bybit-linear": (b'"Trading"', b'"Closed"'),
    "coinbase": (b'"trading_disabled": false', b'"trading_disabled": true'),
    "coinbase-advanced": (b'"trading_disabled": false', b'"trading_disabled": true'),
    "kraken": (b'"online"', b'"maintenance"'),
    "okx-spot": (b'"live"', b'"suspend"'),
    "okx-futures": (b'"live"', b'"suspend"'),
}


@pytest.fixture(params=DIALECTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dialect(name: str) -> Dialect:
    return DIALECTS[name]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_a_deaf_socket_is_known_by_what_rest_has(dialect: Dialect) -> None:
    async with listening(dialect, rules=IMPATIENT) as seen:
        await seen.fake.trade(5)
        seen.fake.silent = {"trades"}
        seen.fake.tell(seen.fake.happen(10))

        def heard() -> bool:
            seen.fake.happen(1)
            seen.fake.beat()
            seen.fake.quote()
            return seen.feed.connections[0].state.opened_count > 1

        await eventually(heard)
        seen.fake.silent = set()
        await eventually(lambda: seen.intake.subscribed)
        await seen.fake.trade(5)
        await eventually(seen.has_all)
        assert seen.gaps
        assert all_filled(seen)


async def test_a_feed_that_went_silent_is_stale_and_mended(dialect: Dialect) -> None:
    """Nothing comes, and REST cannot say whether something should."""
    async with listening(dialect, rules=IMPATIENT, venue=with_rules(dialect.venue, ping="")) as seen:
        seen.fake.silent = {"trades", "quotes", "heartbeats"}
        seen.fake.rest_dead = True
        seen.fake.tell(seen.fake.happen(10))
        await eventually(lambda: seen.of(FeedStale))
        (stale,) = seen.of(FeedStale)
        assert stale.reason == "connected, but nothing comes"
        assert seen.feed.status()["state"] == "stale"
        seen.fake.silent, seen.fake.rest_dead = set(), False

        async def recovered() -> bool:
            await seen.fake.trade(1)
            return bool(seen.of(FeedRecovered))

        await eventually(recovered)
        await eventually(seen.has_all)
        assert all_filled(seen)


async def test_a_market_in_which_nothing_happens_is_no_fault(dialect: Dialect) -> None:
    """Nothing comes, the other end answers pings, and REST has no trade either."""
    async with listening(dialect, rules=IMPATIENT) as seen:
        asked = len(seen.fake.asked)
        await eventually(lambda: len(seen.fake.asked) >= asked + 2)
        await asyncio.sleep(0.1)
        assert not seen.of(FeedStale)
        assert not seen.gaps
        assert seen.feed.status()["state"] == "streaming"
        assert {x.state.opened_count for x in seen.feed.connections} == {1}
        await seen.fake.trade(5)
        await eventually(seen.has_all)


async def test_a_halt_is_no_fault(name: str, dialect: Dialect) -> None:
    """Nothing comes, not even an answer to a ping, and the venue says that the symbol is not traded."""
    async with listening(dialect, rules=IMPATIENT, venue=with_rules(dialect.venue, ping="")) as seen:
        traded, halted = HALTED[name]
        seen.fake.rest_edit = lambda body: body.replace(traded, halted)
        seen.fake.silent = {"trades", "quotes", "heartbeats"}
        await eventually(lambda: seen.feed.status()["state"] == "halted")
        assert not seen.of(FeedStale)
        seen.fake.silent = set()
        await seen.fake.trade(5)
        await eventually(lambda: seen.has_all() and seen.feed.status()["state"] == "streaming")
        assert all_filled(seen)


async def test_a_symbol_that_is_not_listed_is_said_once(dialect: Dialect) -> None:
    symbol = "NOPE" + dialect.symbol[3:]
    async with serving(dialect, past(PAST)) as fake:
        listener = Listener(fake, new_splice(dialect.venue), symbol=symbol)
        with capture_logs() as logs:
            async with running(listener) as seen:
                await eventually(lambda: seen.feed.status()["state"] == "unlisted")
                await asyncio.sleep(0.3)
        assert [x.reason for x in seen.of(Rejected)] == [f"the venue does not list {symbol}"]
        assert [x["event"] for x in logs].count("symbol_unlisted") == 1
        assert len(fake.asked) <= 3
