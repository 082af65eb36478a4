"""Holes in the stream of every venue: REST fills them, and what it has not is named where it can be known."""

from __future__ import annotations

import time

import pytest

from feeds.doubt import UNPROVEN
from feeds.splicer import NOT_LISTED
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.dialect import Dialect
from tests.feeds.fake_venue import ERROR_IN_200, RestFault, past, serving
from tests.feeds.venue_listener import PAST, Listener, listening, new_splice, running, with_rules
from tests.feeds.venues_support import DIALECTS, SNAPSHOTS, all_filled, hurry, shorten_wait
from tests.support import eventually


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


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_wait(monkeypatch)


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
