"""How a record begins some time before its first subscription, and what else REST and heartbeats tell."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.requests import Courtesy, Latest, Page
from feeds.splicer import TOLD_NS, WAIT_NS, Splicer
from market.inputs import Began, GapClosed, GapOpened, Input, TickBatch
from market.ticks import EMPTY
from tests.feeds.splicer_support import T0, span, ticks

BACK = Courtesy(back_ns=10_000, page=4)  # ticks are 1,000 ns apart


def ids(inputs: list[Input]) -> list[int]:
    return [int(i) for item in inputs if isinstance(item, TickBatch) for i in item.ticks["trade_id"]]


def began(inputs: list[Input]) -> list[int]:
    return [item.trade_id for item in inputs if isinstance(item, Began)]


class TestTheFirstSubscription:
    def test_pages_backwards_until_the_window_is_full(self) -> None:
        splicer = Splicer(None, courtesy=BACK)
        splicer.connected()
        assert splicer.request(1) == Latest()
        assert splicer.answered(Latest(), span(97, 100), 2) == []
        assert splicer.live(span(101, 102), 3) == []
        assert splicer.request(4) == Page(93)
        assert splicer.answered(Page(93), span(93, 96), 5) == []
        assert splicer.request(6) == Page(89)
        out = splicer.answered(Page(89), span(89, 92), 7)
        assert began(out) == [92]  # 10,000 ns before 102
        assert ids(out) == list(range(92, 103))
        assert splicer.settled
        assert splicer.request(8) is None

    def test_ends_at_the_venues_first_trade(self) -> None:
        splicer = Splicer(None, courtesy=BACK)
        splicer.connected()
        splicer.request(1)
        splicer.answered(Latest(), span(2, 5), 2)
        assert splicer.request(3) == Page(1)
        out = splicer.answered(Page(1), span(1, 4), 4)
        assert (began(out), ids(out)) == ([1], [1, 2, 3, 4, 5])

    def test_what_the_venue_lacks_before_the_subscription_is_no_gap(self) -> None:
        splicer = Splicer(None, courtesy=BACK)
        splicer.connected()
        splicer.request(1)
        splicer.answered(Latest(), span(97, 100), 2)
        splicer.request(3)
        out = splicer.answered(Page(93), ticks(93, 94, 96), 4)
        assert (began(out), ids(out)) == ([], [])
        splicer.request(5)
        out = splicer.answered(Page(89), span(89, 92), 6)
        assert (began(out), ids(out)) == ([96], [96, 97, 98, 99, 100])
        assert not splicer.open_holes

    def test_a_venue_that_has_no_more_is_believed(self) -> None:
        splicer = Splicer(None, courtesy=BACK)
        splicer.connected()
        splicer.request(1)
        splicer.answered(Latest(), span(97, 100), 2)
        splicer.request(3)
        assert began(splicer.answered(Page(93), EMPTY, 4)) == [97]

    def test_a_venue_without_pages_by_id_gives_its_newest(self) -> None:
        splicer = Splicer(None, courtesy=Courtesy(back_ns=10_000))
        splicer.connected()
        splicer.request(1)
        assert began(splicer.answered(Latest(), span(97, 100), 2)) == [97]

    def test_live_does_not_wait_for_ever(self) -> None:
        splicer = Splicer(None, courtesy=BACK)
        splicer.connected()
        splicer.request(1)
        splicer.answered(Latest(), span(97, 100), 2)
        splicer.request(3)
        splicer.failed(4)
        out = splicer.tick(3 + 2 * WAIT_NS)
        assert (began(out), ids(out)) == ([97], [97, 98, 99, 100])

    @settings(max_examples=200, deadline=None)
    @given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 9), st.sets(st.integers(1, 60)))
    def test_no_gap_before_the_first_live_trade(
        self, newest: int, live: int, page: int, lost: set[int]
    ) -> None:
        have = [i for i in range(1, newest + 1) if i not in lost - {newest}]
        splicer = Splicer(None, courtesy=Courtesy(back_ns=7_000, page=page))
        splicer.connected()
        out, now_ns = splicer.live(span(newest + 1, newest + live), 1), 1
        for _ in range(200):
            if splicer.settled:
                break
            now_ns += WAIT_NS // 50
            request = splicer.request(now_ns)
            if isinstance(request, Page):
                out += splicer.answered(
                    request, ticks(*[i for i in have if i >= request.from_id][:page]), now_ns
                )
            elif request:
                out += splicer.answered(request, ticks(*have[-page:]), now_ns)
            out += splicer.tick(now_ns)
        assert splicer.settled
        assert not [item for item in out if isinstance(item, GapOpened) and item.last_id < newest]
        told = ids(out)
        (first,) = began(out)
        assert told[0] >= first
        assert told[-1] == newest + live
        assert set(told) >= set(range(newest + 1, newest + live + 1))


class TestAHeartbeat:
    def test_tells_of_a_trade_that_never_came(self) -> None:
        splicer = Splicer(10, last_ts_ns=T0)
        assert splicer.live(EMPTY, 1, newest_id=12) == []
        assert splicer.tick(TOLD_NS) == []
        (opened,) = splicer.tick(2 + TOLD_NS)
        assert isinstance(opened, GapOpened)
        assert (opened.first_id, opened.last_id) == (10, 12)
        assert splicer.request(2 + TOLD_NS) == Page(10)
        out = splicer.answered(Page(10), span(10, 12), 3 + TOLD_NS)
        assert ids(out) == [10, 11, 12]
        assert isinstance(out[-1], GapClosed)

    def test_of_a_trade_that_comes_a_little_later_opens_nothing(self) -> None:
        splicer = Splicer(10, last_ts_ns=T0)
        splicer.live(EMPTY, 1, newest_id=12)
        assert ids(splicer.live(span(10, 12), TOLD_NS)) == [10, 11, 12]
        assert splicer.tick(2 * TOLD_NS) == []
        assert splicer.settled


class TestACheck:
    def test_of_a_quiet_market_finds_nothing(self) -> None:
        splicer = Splicer(10, last_ts_ns=T0)
        splicer.check()
        assert splicer.request(1) == Latest()
        assert splicer.settled  # nothing waits meanwhile
        assert splicer.answered(Latest(), span(5, 9), 2) == []
        assert not splicer.deaf
        assert splicer.request(3) is None

    def test_of_a_socket_that_went_deaf_fills_what_it_kept_back(self) -> None:
        splicer = Splicer(10, last_ts_ns=T0)
        splicer.check()
        splicer.request(1)
        out = splicer.answered(Latest(), span(8, 12), 2)
        assert splicer.deaf
        assert ids(out) == [10, 11, 12]
        assert [type(item) for item in out] == [GapOpened, TickBatch, GapClosed]


def test_a_hole_remembers_a_time_to_ask_from() -> None:
    splicer = Splicer(30, [(10, 14, 13, T0 + 12_000)], T0 + 29_000)
    splicer.connected()
    splicer.live(ticks(30), 1)
    request = splicer.request(2)
    assert isinstance(request, Page)
    assert (request.from_id, request.from_ns) == (13, T0 + 12_000)
    splicer.answered(request, ticks(13), 3)
    again = splicer.request(2 * WAIT_NS)
    assert isinstance(again, Page)
    assert (again.from_id, again.from_ns) == (14, T0 + 13_000)
