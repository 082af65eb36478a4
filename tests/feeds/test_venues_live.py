"""The live feed against every venue's own protocol at its worst: what it hands out is what was traded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from feeds import connection, overlap, pace, silence, splicer
from feeds.doubt import UNPROVEN
from feeds.intake import IntakeRules
from feeds.splicer import NOT_LISTED
from market.inputs import (
    Began,
    FeedRecovered,
    FeedStale,
    Instrument,
    Quote,
    Rejected,
    TickBatch,
)
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.dialect import Dialect
from tests.feeds.dialects import binance_spot, binance_usdm, bybit, kraken, okx
from tests.feeds.dialects.coinbase import CoinbaseDialect
from tests.feeds.dialects.coinbase_advanced import CoinbaseAdvancedDialect
from tests.feeds.fake_venue import ERROR_IN_200, UNKNOWN, RestFault, past, serving
from tests.feeds.venue_listener import (
    PAST,
    Listener,
    listening,
    new_splice,
    running,
    with_rules,
)
from tests.support import eventually

DIALECTS: dict[str, Dialect] = {
    "binance-spot": binance_spot.DIALECT,
    "binance-usdm": binance_usdm.DIALECT,
    "bybit-spot": bybit.SPOT,
    "bybit-linear": bybit.LINEAR,
    "coinbase": CoinbaseDialect(),
    "coinbase-advanced": CoinbaseAdvancedDialect(),
    "kraken": kraken.DIALECT,
    "okx-spot": okx.SPOT,
    "okx-futures": okx.FUTURES,
}
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
SNAPSHOTS = {"coinbase-advanced", "kraken"}  # begin with the newest trades, so that a short cut is no jump
IMPATIENT = IntakeRules(stale_after_s=0.4, close_grace_ms=200, quotes_interval_ms=50)


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
    """Let what takes seconds take a tenth."""
    monkeypatch.setattr(connection, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    monkeypatch.setattr(pace, "RETRY_NS", NS_PER_S // 50)
    monkeypatch.setattr(pace, "RETRY_MAX_NS", NS_PER_S // 10)
    for module in (splicer, overlap):
        monkeypatch.setattr(module, "TOLD_NS", NS_PER_S // 5)
    monkeypatch.setattr(silence, "VERDICT_NS", NS_PER_S // 5)
    monkeypatch.setattr(overlap, "AUDIT_NS", NS_PER_S // 5)
    monkeypatch.setattr(overlap, "TRUST_NS", NS_PER_S // 5)


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let live ticks wait for a hole for a fifth of a second."""
    for module in (splicer, overlap):
        monkeypatch.setattr(module, "WAIT_NS", NS_PER_S // 5)


def all_filled(seen: Listener) -> bool:
    return all(gap.closed is not None and not gap.closed.missing for gap in seen.gaps)


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


async def test_a_cut_while_trades_happen_costs_nothing(name: str, dialect: Dialect, *, counts: bool) -> None:
    async with listening(dialect) as seen:
        await seen.fake.trade(10)
        seen.fake.refuses = lambda _: True
        seen.fake.drop()
        await seen.fake.trade(25)
        seen.fake.refuses = lambda _: False
        await seen.fake.trade(10)
        await eventually(seen.has_all)
        assert bool(seen.gaps) != (name in SNAPSHOTS)
        assert all_filled(seen)
        assert len(seen.gaps) <= 1 or not counts
        assert {gap.opened.reason for gap in seen.gaps} <= {"missed while not connected"}
        assert seen.feed.connections[0].state.opened_count == 2


async def test_trades_of_a_cut_before_a_silence_are_fetched_without_a_live_tick(
    name: str, dialect: Dialect
) -> None:
    async with listening(dialect) as seen:
        seen.fake.refuses = lambda _: True
        seen.fake.drop()
        seen.fake.tell(seen.fake.happen(25))
        seen.fake.refuses = lambda _: False
        await eventually(seen.has_all)
        assert bool(seen.gaps) != (name in SNAPSHOTS)
        assert all_filled(seen)


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


async def test_what_the_socket_loses_is_fetched(dialect: Dialect) -> None:
    async with listening(dialect) as seen:
        await seen.fake.trade(10)
        first = len(seen.fake.tape) + 4
        seen.fake.untold = set(range(first, first + 6))
        await seen.fake.trade(25)
        await eventually(seen.has_all)
        assert len(seen.gaps) == 1
        assert all_filled(seen)


async def test_what_is_lost_for_ever_is_named_where_ids_count(dialect: Dialect, *, counts: bool) -> None:
    async with listening(dialect) as seen:
        first = len(seen.fake.tape) + 4
        seen.fake.gone = set(range(first, first + 6))
        await seen.fake.trade(25)
        await eventually(lambda: seen.has_all(missing=seen.fake.gone))
        if not counts:  # neither the socket nor REST has them: nobody can know
            assert not seen.gaps
            return
        ((opened, closed),) = seen.gaps
        assert (opened.first_id, opened.last_id) == (
            dialect.trade_id(first),
            dialect.trade_id(first + 5),
        )
        assert closed is not None
        assert (closed.missing, closed.reason) == (6, NOT_LISTED)


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


@pytest.mark.usefixtures("short_wait")
async def test_whatever_rest_answers_first_the_hole_is_filled(dialect: Dialect, *, counts: bool) -> None:
    too_many = dict.fromkeys(dialect.venue.rules.too_many, 0.05)
    async with listening(dialect, venue=with_rules(dialect.venue, too_many=too_many)) as seen:
        seen.fake.rest_faults.extend(
            [
                RestFault(429, retry_after="0.2"),
                RestFault(429),
                RestFault(418),
                RestFault(403),
                RestFault(502),
                RestFault(200, body=ERROR_IN_200),
                RestFault(200),
                RestFault(hang_s=0.05),
            ]
        )
        first = len(seen.fake.tape) + 4
        seen.fake.untold = set(range(first, first + 6))
        began_s = time.monotonic()
        await seen.fake.trade(25)
        if not counts:
            seen.fake.drop()  # nothing else tells
            await eventually(lambda: seen.feed.connections[0].state.opened_count == 2 and seen.fake.ready)
            await seen.fake.trade(5)
        newest = seen.fake.tape[-1]
        await eventually(lambda: seen.row(newest) in seen.rows)
        assert seen.fake.rest_faults or not counts  # live went on without
        await eventually(seen.has_all)
        assert time.monotonic() - began_s > 0.2
        assert not seen.fake.rest_faults
        assert all_filled(seen)


@pytest.mark.usefixtures("short_wait")
async def test_a_rest_behind_its_stream_is_waited_for(name: str, dialect: Dialect) -> None:
    async with listening(dialect) as seen:
        seen.fake.rest_lag = 200
        seen.fake.refuses = lambda _: True
        seen.fake.drop()
        seen.fake.tell(seen.fake.happen(120 if name in SNAPSHOTS else 10))
        seen.fake.refuses = lambda _: False
        await eventually(lambda: seen.fake.ready)
        await seen.fake.trade(10)
        newest = seen.fake.tape[-1]
        await eventually(lambda: seen.row(newest) in seen.rows)
        assert [gap for gap in seen.gaps if gap.closed is None]
        seen.fake.rest_lag = 0
        await eventually(seen.has_all)
        assert all_filled(seen)


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


async def test_a_gap_longer_than_an_answer(dialect: Dialect, *, counts: bool) -> None:
    """Where REST can be asked for older trades all are there; else the gap says that they are not."""
    now_ns = time.time_ns() // NS_PER_MS * NS_PER_MS
    async with listening(dialect, tape=past(PAST, until_ns=now_ns - 60 * NS_PER_S)) as seen:
        seen.fake.refuses = lambda _: True
        seen.fake.drop()
        count = 2 * dialect.venue.rules.page_limit + 30
        for k in range(count):
            seen.fake.happen(1, now_ns - (count - k) * 20 * NS_PER_MS)
        seen.fake.refuses = lambda _: False
        await eventually(lambda: seen.fake.ready)
        await seen.fake.trade(10)
        if counts:
            await eventually(seen.has_all)
            assert all_filled(seen)
            return
        await eventually(lambda: seen.gaps and seen.splice.settled and not seen.splice.open_holes)
        await eventually(lambda: seen.row(seen.fake.tape[-1]) in seen.rows)
        lost = [gap for gap in seen.gaps if gap.closed is not None and gap.closed.missing]
        ((opened, closed),) = lost
        assert closed is not None
        assert closed.reason == UNPROVEN
        told = {row.id for row in seen.rows}
        absent = [x for x in seen.fake.tape if str(dialect.trade_id(x.number)) not in told]
        assert absent
        assert all(opened.from_ns <= x.ts_ns <= opened.to_ns for x in absent)


async def test_a_record_begins_some_time_before_its_first_subscription(dialect: Dialect) -> None:
    back_s = 60
    async with serving(dialect, past(300, over_s=100.0)) as fake:
        listener = Listener(fake, new_splice(dialect.venue, back_s))
        async with running(listener) as seen:
            await eventually(lambda: seen.intake.subscribed and seen.rows)
            await fake.trade(5)
            page = dialect.venue.rules.page_limit if not dialect.venue.rules.pages_by_id else 1_000
            newest = len(fake.tape)

            def whole() -> bool:
                oldest = int(min(row.ts_ns for row in seen.rows))
                return seen.has([x for x in fake.tape if x.ts_ns >= oldest])

            await eventually(whole)
            began_ns = min(row.ts_ns for row in seen.rows)
            back_ns = fake.tape[-1].ts_ns - began_ns
            if page > newest:
                assert 0.95 * back_s * NS_PER_S <= back_ns <= (back_s + 1) * NS_PER_S
            else:
                assert len(seen.rows) >= page
            assert not seen.gaps


@pytest.mark.usefixtures("short_wait")
@pytest.mark.parametrize("while_open", [False, True], ids=["settled", "gap-open"])
async def test_a_restart_goes_on_where_the_record_is(
    name: str, dialect: Dialect, *, while_open: bool
) -> None:
    async with listening(dialect) as seen:
        await seen.fake.trade(5)
        await eventually(seen.has_all)
        if while_open:
            seen.fake.rest_lag = 200
            seen.fake.refuses = lambda _: True
            seen.fake.drop()
            seen.fake.tell(seen.fake.happen(120 if name in SNAPSHOTS else 5))
            seen.fake.refuses = lambda _: False
            await eventually(lambda: seen.fake.ready)
            await seen.fake.trade(5)
            await eventually(lambda: [gap for gap in seen.gaps if gap.closed is None] and seen.splice.settled)
        before = seen
    fake = before.fake
    await fake.start()
    try:
        fake.happen(10)
        fake.rest_lag = 0
        again = Listener(fake, before.again())
        again.inputs = list(before.inputs)
        async with running(again):
            await eventually(lambda: again.intake.subscribed)
            await fake.trade(5)
            await eventually(again.has_all)
            assert all_filled(again)
    finally:
        await fake.stop()


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
