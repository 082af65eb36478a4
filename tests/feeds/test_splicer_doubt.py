"""Holes that a venue does not fill: when it is believed, what it is asked meanwhile, and what is given up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.holes import NOTHING_NS
from feeds.pace import RETRY_NS
from feeds.requests import Courtesy, Latest, Page, Request
from feeds.splicer import NOT_LISTED, WAIT_NS, Splicer
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from market.ticks import Ticks
from market.times import NS_PER_S
from tests.feeds.splicer_support import T0, ticks

MINUTE_NS = 60 * NS_PER_S
PAGE = 10
Way = Literal["forward", "backward", "window", "time"]


@dataclass
class Venue:
    """REST as the venues have it: pages from an id on, before an id, of a window's end, from a time on."""

    way: Way
    newest: int = 1_000
    lacks: Callable[[int], bool] = lambda _: False
    kept_from: int = 0  # pages that begin before are empty
    refusal: str = ""  # what it says instead
    lag: int = 0
    pages_lag: int = 0  # of pages alone, which come from another cache
    dead: bool = False
    forbidden: bool = False
    asked: list[Request] = field(default_factory=list)
    step_ns: int = 1_000  # between trades

    def rows(self, ids: list[int]) -> Ticks:
        out = ticks(*ids)
        out["ts_ns"] = [self.time(i) for i in ids]
        return out

    def time(self, trade_id: int) -> int:
        return T0 + trade_id * self.step_ns

    def answer(self, request: Request) -> Ticks | str:
        """Give trades, or say why not: `` for no reason."""
        self.asked.append(request)
        if self.dead or self.forbidden:
            return "HTTP 403: not from here" if self.forbidden else ""
        have = [i for i in range(1, self.newest - self.lag + 1) if not self.lacks(i)]
        if isinstance(request, Latest):
            return self.rows(have[-PAGE:])
        if request.from_id < self.kept_from:
            return self.refusal or self.rows([])
        return self.rows(self.page([i for i in have if i <= self.newest - self.pages_lag], request))

    def page(self, have: list[int], request: Page) -> list[int]:
        if self.way == "forward":
            return [i for i in have if i >= request.from_id][:PAGE]
        if self.way == "backward":
            return [i for i in have if i < request.from_id + PAGE][-PAGE:]
        if self.way == "time":
            return [i for i in have if self.time(i) >= request.from_ns][:PAGE]
        assert request.to_ns
        second = NS_PER_S
        first_ns, last_ns = (request.from_ns // second - 1) * second, (request.to_ns // second + 1) * second
        return [i for i in have if first_ns <= self.time(i) <= last_ns][-PAGE:]


@dataclass
class Life:
    """A record whose live edge is behind a hole, and what it is told."""

    venue: Venue
    splicer: Splicer
    now_ns: int = 0
    told: list[Input] = field(default_factory=list)

    def pass_time(self, until_ns: int) -> None:
        """Let the venue answer whatever is asked."""
        while self.now_ns < until_ns and self.splicer.open_holes:
            if (request := self.splicer.request(self.now_ns)) is None:
                self.now_ns += RETRY_NS
            else:
                self.take(self.venue.answer(request), request)
            self.told += self.splicer.tick(self.now_ns)

    def take(self, answer: Ticks | str, request: Request) -> None:
        if isinstance(answer, str):
            self.told += self.splicer.failed(self.now_ns, refusal=answer)
        else:
            self.told += self.splicer.answered(request, answer, self.now_ns)

    @property
    def ids(self) -> list[int]:
        return [int(i) for x in self.told if isinstance(x, TickBatch) for i in x.ticks["trade_id"]]

    @property
    def closed(self) -> GapClosed:
        (closed,) = [x for x in self.told if isinstance(x, GapClosed)]
        return closed


def life(venue: Venue, first: int, last: int) -> Life:
    """Begin with ids `first` to `last` missing behind the live edge, which is the venue's newest."""
    courtesy = Courtesy(
        page=PAGE if venue.way in ("forward", "backward") else 0, windows=venue.way == "window"
    )
    splicer = Splicer(first, last_ts_ns=venue.time(first - 1), courtesy=courtesy)
    out = Life(venue, splicer)
    out.told += splicer.live(venue.rows(list(range(last + 1, venue.newest + 1))), 0)
    out.told += splicer.tick(WAIT_NS + 1)
    out.now_ns = WAIT_NS + 1
    assert splicer.settled
    assert splicer.open_holes == 1
    return out


WAYS: list[Way] = ["forward", "backward", "window", "time"]


@pytest.mark.parametrize(
    ("way", "step_ns"),
    [*[(way, 20 * NS_PER_S) for way in WAYS], *[(way, 1_000) for way in WAYS if way != "window"]],
)
def test_a_long_hole_is_filled_page_by_page(way: Way, step_ns: int) -> None:
    here = life(Venue(way, step_ns=step_ns), 101, 900)
    here.pass_time(MINUTE_NS)
    assert sorted(here.ids) == list(range(101, 1_001))
    assert here.closed.missing == 0
    assert len(here.venue.asked) < (250 if way == "window" else 100)


def test_windows_that_overflow_however_short_they_are_lose_what_they_do_not_give() -> None:
    here = life(Venue("window", step_ns=NS_PER_S // 50), 101, 900)
    here.pass_time(10 * MINUTE_NS)
    assert here.closed.missing
    assert here.closed.missing == 900 - len(here.ids)
    assert here.closed.reason == NOT_LISTED


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lacking", [3, 3 * PAGE, 500])
def test_a_run_that_the_venue_lacks_is_given_up_and_nothing_else(way: Way, lacking: int) -> None:
    venue = Venue(way, lacks=lambda i: 200 <= i < 200 + lacking, step_ns=20 * NS_PER_S)
    here = life(venue, 101, 900)
    here.pass_time(10 * MINUTE_NS)
    assert sorted(here.ids) == [i for i in range(101, 1_001) if not venue.lacks(i)]
    assert (here.closed.missing, here.closed.reason) == (lacking, NOT_LISTED)
    assert len(venue.asked) < 250


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("said", ["", "HTTP 400: too old"])
def test_of_what_is_too_old_for_the_venue_the_rest_is_kept(way: Way, said: str) -> None:
    """The venue's history begins at 640: before it says nothing, or refuses."""
    venue = Venue(way, lacks=lambda i: i < 640, kept_from=640, refusal=said)
    here = life(venue, 101, 900)
    here.pass_time(10 * MINUTE_NS)
    assert sorted(here.ids) == list(range(640, 1_001))
    assert (here.closed.missing, here.closed.reason) == (539, said or NOT_LISTED)
    assert here.now_ns < 2 * NOTHING_NS
    assert len(venue.asked) < 80


@pytest.mark.parametrize("way", WAYS)
def test_a_database_behind_its_stream_is_waited_for(way: Way) -> None:
    here = life(Venue(way, lag=950, step_ns=20 * NS_PER_S), 101, 900)
    here.pass_time(60 * MINUTE_NS)
    assert here.splicer.open_holes  # as long as it does not even have what came after
    assert len(here.venue.asked) < 300
    here.venue.lag = 0
    here.pass_time(70 * MINUTE_NS)
    assert sorted(here.ids) == list(range(101, 1_001))
    assert here.closed.missing == 0


@pytest.mark.parametrize("way", WAYS)
def test_pages_may_be_behind_the_newest_trades_for_two_minutes(way: Way) -> None:
    """The newest trades and the pages come from different caches."""
    venue = Venue(way, pages_lag=850, step_ns=20 * NS_PER_S)
    here = life(venue, 101, 900)
    here.pass_time(WAIT_NS + 120 * NS_PER_S)
    assert here.splicer.open_holes
    venue.pages_lag = 0
    here.pass_time(10 * MINUTE_NS)
    assert sorted(here.ids) == list(range(101, 1_001))
    assert here.closed.missing == 0


@pytest.mark.parametrize("forbidden", [True, False])
def test_a_venue_that_gives_nothing_at_all_is_not_believed(*, forbidden: bool) -> None:
    venue = Venue("forward", dead=not forbidden, forbidden=forbidden)
    here = life(venue, 101, 900)
    here.pass_time(60 * MINUTE_NS)
    assert here.splicer.open_holes
    assert not [x for x in here.told if isinstance(x, GapClosed)]
    assert len(venue.asked) < 200


def test_a_hole_in_doubt_does_not_hold_up_another() -> None:
    venue = Venue("backward", lacks=lambda i: 101 <= i <= 150)
    splicer = Splicer(400, [(101, 150, 101, T0), (300, 320, 300, T0)], T0, Courtesy(page=PAGE))
    here = Life(venue, splicer)
    here.pass_time(5 * NS_PER_S)
    assert here.ids == list(range(300, 321))
    assert here.closed.first_id == 300
    here.pass_time(10 * MINUTE_NS)
    assert not splicer.open_holes


def test_a_time_before_what_is_already_filled_of_a_hole_is_no_dead_end() -> None:
    """A record tells when a hole began, not when what is still missing of it was."""
    venue = Venue("time")
    here = Life(venue, Splicer(1_001, [(101, 900, 500, venue.time(100))], venue.time(1_000)))
    here.pass_time(MINUTE_NS)
    assert here.ids == list(range(500, 901))
    assert here.closed.missing == 0


def test_a_front_that_live_waits_for_is_asked_for_ever_more_slowly() -> None:
    venue = Venue("forward", lag=950)
    splicer = Splicer(101, last_ts_ns=T0, courtesy=Courtesy(page=PAGE))
    splicer.live(ticks(901), 0)
    here = Life(venue, splicer)
    here.pass_time(WAIT_NS)
    assert 4 <= len(venue.asked) <= 8


def test_a_market_without_trades_is_asked_ever_more_slowly() -> None:
    splicer, asked = Splicer(None), 0
    splicer.connected()
    for now_ns in range(0, 10 * MINUTE_NS, RETRY_NS):
        if request := splicer.request(now_ns):
            splicer.answered(request, ticks(), now_ns)
            asked += 1
    assert asked < 40


@settings(max_examples=100, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    lacking=st.sets(st.integers(110, 150), max_size=41),
    run=st.tuples(st.integers(160, 200), st.integers(0, 50)),
    lag=st.integers(0, 60),
)
def test_every_id_is_stored_or_counted_as_missing(
    way: Way, lacking: set[int], run: tuple[int, int], lag: int
) -> None:
    """Some are lacking here and there, some in one long run; of these alone a search may have to look."""
    venue = Venue(way, 260, lambda i: i in lacking or run[0] <= i < sum(run), lag=lag, step_ns=20 * NS_PER_S)
    here = life(venue, 101, 250)
    here.pass_time(2 * MINUTE_NS)
    venue.lag = 0
    here.pass_time(20 * MINUTE_NS)
    stored = {i for i in here.ids if i <= 250}
    assert len(here.ids) == len(set(here.ids))
    assert here.closed.missing == 150 - len(stored)
    assert not {i for i in stored if venue.lacks(i)}
    shown = "".join("x" if i in lacking else " " for i in range(101, 160))
    if "x" * PAGE not in shown:
        assert stored == {i for i in range(101, 251) if not venue.lacks(i)}
    (opened,) = [x for x in here.told if isinstance(x, GapOpened)]
    assert (opened.first_id, opened.last_id) == (101, 250)
