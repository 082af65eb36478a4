"""The splicer: stories of what a venue does."""

from __future__ import annotations

import pytest

from feeds import splicer as module
from feeds.requests import Latest, Page, Request
from feeds.splicer import DOUBTS, RETRY_MAX_NS, RETRY_NS, WAIT_NS, Splicer
from market.inputs import Began, GapClosed, GapOpened, Input, TickBatch
from market.ticks import EMPTY
from market.times import NS_PER_S
from tests.feeds.splicer_support import T0, span, ticks


def told(inputs: list[Input]) -> list[object]:
    """Write inputs briefly: runs of ids, and what is said of gaps."""
    out: list[object] = []
    for item in inputs:
        match item:
            case TickBatch():
                out.append(item.ticks["trade_id"].tolist())
            case Began():
                out.append(f"began {item.trade_id}")
            case GapOpened():
                out.append(f"open {item.first_id}-{item.last_id}")
            case GapClosed():
                out.append(f"close {item.first_id} missing {item.missing}")
    return out


def asked_ns(splicer: Splicer, request: Request, now_ns: int) -> int:
    """Let time pass until the splicer asks, as expected."""
    while (asked := splicer.request(now_ns)) is None:
        now_ns += RETRY_NS
    assert asked == request
    return now_ns


@pytest.fixture
def splicer() -> Splicer:
    """Stand at id 10, connected and settled."""
    return Splicer(10, last_ts_ns=T0)


def test_contiguous_ticks_flow_as_they_come(splicer: Splicer) -> None:
    assert told(splicer.live(span(10, 12), 1)) == [[10, 11, 12]]
    assert told(splicer.live(ticks(13), 2)) == [[13]]
    assert splicer.request(3) is None
    assert splicer.settled


class TestTheFirstSubscription:
    def test_the_record_begins_after_the_newest_trade(self) -> None:
        splicer = Splicer(None)
        splicer.connected()
        assert splicer.request(1) == Latest()
        assert told(splicer.answered(Latest(), ticks(41), 2)) == ["began 42"]
        assert splicer.settled
        assert told(splicer.live(span(42, 43), 3)) == [[42, 43]]

    def test_the_record_begins_with_the_first_live_trade_if_that_is_older(self) -> None:
        splicer = Splicer(None)
        splicer.connected()
        assert splicer.request(1) == Latest()
        assert told(splicer.live(span(40, 42), 2)) == []
        assert told(splicer.answered(Latest(), ticks(41), 3)) == ["began 40", [40, 41, 42]]

    def test_without_rest_it_begins_with_the_first_live_trade_after_the_bounded_wait(self) -> None:
        splicer = Splicer(None)
        splicer.connected()
        assert splicer.request(1) == Latest()
        assert told(splicer.failed(2)) == []
        assert told(splicer.live(span(40, 42), 3)) == []
        assert told(splicer.tick(3 + WAIT_NS)) == []
        assert told(splicer.tick(4 + WAIT_NS)) == ["began 40", [40, 41, 42]]

    def test_a_market_that_never_traded_is_asked_again(self) -> None:
        splicer = Splicer(None)
        splicer.connected()
        assert splicer.request(0) == Latest()
        assert told(splicer.answered(Latest(), EMPTY, 0)) == []
        assert splicer.request(RETRY_NS - 1) is None
        assert splicer.request(RETRY_NS) == Latest()
        assert told(splicer.live(ticks(1), RETRY_NS)) == []
        assert told(splicer.answered(Latest(), ticks(1), RETRY_NS)) == ["began 1", [1]]


class TestAJump:
    def test_live_waits_for_the_page_and_order_is_by_id(self, splicer: Splicer) -> None:
        assert told(splicer.live(span(15, 16), 1)) == ["open 10-14"]
        assert splicer.request(1) == Page(10)
        assert splicer.request(1) is None
        assert told(splicer.live(ticks(17), 2)) == []
        assert splicer.open_holes == 1
        assert told(splicer.answered(Page(10), span(10, 17), 3)) == [
            [10, 11, 12, 13, 14, 15, 16, 17],
            "close 10 missing 0",
        ]
        assert splicer.settled
        assert told(splicer.live(ticks(18), 4)) == [[18]]

    def test_the_gap_tells_its_times_and_reason(self, splicer: Splicer) -> None:
        (opened,) = splicer.live(ticks(15), 7)
        assert opened == GapOpened(10, 14, T0, T0 + 15_000, 7, "ids jumped")
        (_, closed) = splicer.answered(Page(10), span(10, 14), 9)
        assert closed == GapClosed(10, 9, 0, "given back by REST")

    def test_several_pages(self, splicer: Splicer) -> None:
        splicer.live(ticks(100), 1)
        for first in (10, 40, 70):
            assert splicer.request(1) == Page(first)
            splicer.answered(Page(first), span(first, first + 29), 1)
        assert splicer.settled
        assert splicer.next_id == 101

    def test_rest_that_lags_is_asked_again_and_not_believed(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 0)
        now_ns = 0
        for _ in range(DOUBTS + 1):
            now_ns = asked_ns(splicer, Page(10), now_ns)
            assert told(splicer.answered(Page(10), EMPTY, now_ns)) == []
        now_ns = asked_ns(splicer, Page(10), now_ns)
        assert told(splicer.answered(Page(10), span(10, 12), now_ns)) == [[10, 11, 12]]
        assert asked_ns(splicer, Page(13), now_ns) == now_ns
        assert told(splicer.answered(Page(13), span(13, 20), now_ns)) == [
            list(range(13, 21)),
            "close 10 missing 0",
        ]

    def test_ids_that_the_venue_never_gives_back_are_doubted_then_believed(self, splicer: Splicer) -> None:
        splicer.live(ticks(20), 0)
        now_ns, out = 0, []
        for first, page in ((10, ticks(13, 14, 18, 19)), (15, ticks(18, 19))):
            for _ in range(DOUBTS):
                now_ns = asked_ns(splicer, Page(first), now_ns)
                out.append(told(splicer.answered(Page(first), page, now_ns)))
        assert out == [[], [], [[13, 14]], [], [], [[18, 19, 20], "close 10 missing 6"]]
        assert splicer.settled
        assert now_ns < WAIT_NS

    def test_a_hole_that_is_missing_to_its_end(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 0)
        for now_ns in range(DOUBTS):
            assert splicer.request(now_ns * NS_PER_S) == Page(10)
            out = splicer.answered(Page(10), span(15, 30), now_ns * NS_PER_S)
        assert told(out) == ["close 10 missing 5", list(range(15, 31))]
        assert splicer.duplicates == 0

    def test_a_live_tick_fills_the_hole(self, splicer: Splicer) -> None:
        assert told(splicer.live(ticks(11), 1)) == ["open 10-10"]
        assert told(splicer.live(ticks(10), 2)) == [[10, 11], "close 10 missing 0"]
        assert splicer.request(2) is None
        assert splicer.duplicates == 0

    def test_swapped_ticks_of_one_batch_need_no_gap(self, splicer: Splicer) -> None:
        assert told(splicer.live(ticks(11, 10, 12), 1)) == [[10, 11, 12]]

    def test_duplicates_are_counted_and_never_repeated(self, splicer: Splicer) -> None:
        assert told(splicer.live(ticks(10, 10, 11), 1)) == [[10, 11]]
        assert told(splicer.live(ticks(11, 12), 2)) == [[12]]
        assert told(splicer.live(ticks(5), 3)) == []
        assert told(splicer.live(ticks(15, 15), 3)) == ["open 13-14"]
        assert told(splicer.live(ticks(15), 4)) == []
        assert splicer.duplicates == 5

    def test_two_holes_are_filled_one_after_the_other(self, splicer: Splicer) -> None:
        assert told(splicer.live(ticks(12, 15), 1)) == ["open 10-11"]
        assert splicer.request(1) == Page(10)
        assert told(splicer.answered(Page(10), span(10, 11), 1)) == [
            [10, 11, 12],
            "close 10 missing 0",
            "open 13-14",
        ]
        assert splicer.request(1) == Page(13)
        assert told(splicer.answered(Page(13), span(13, 16), 1)) == [[13, 14, 15, 16], "close 13 missing 0"]


class TestPastTheBoundedWait:
    @pytest.fixture
    def late(self, splicer: Splicer) -> Splicer:
        """Leave 10-14 open behind a live edge at 18."""
        splicer.live(span(15, 16), 0)
        assert splicer.request(0) == Page(10)
        splicer.failed(0)
        assert told(splicer.tick(WAIT_NS)) == []
        assert told(splicer.tick(WAIT_NS + 1)) == [[15, 16]]
        assert told(splicer.live(ticks(17), WAIT_NS + 2)) == [[17]]
        return splicer

    def test_live_goes_on_and_the_hole_is_filled_later(self, late: Splicer) -> None:
        assert (late.settled, late.open_holes) == (True, 1)
        assert late.request(2 * WAIT_NS) == Page(10)
        assert told(late.answered(Page(10), span(10, 16), 2 * WAIT_NS)) == [
            [10, 11, 12, 13, 14],
            "close 10 missing 0",
        ]
        assert late.open_holes == 0

    def test_an_answer_asked_for_before_live_went_on_still_counts(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 0)
        assert splicer.request(0) == Page(10)
        assert told(splicer.tick(WAIT_NS + 1)) == [[15]]
        assert told(splicer.answered(Page(10), span(10, 14), WAIT_NS + 2)) == [
            [10, 11, 12, 13, 14],
            "close 10 missing 0",
        ]

    def test_rest_may_know_more_than_the_stream(self, late: Splicer) -> None:
        assert late.request(2 * WAIT_NS) == Page(10)
        assert told(late.answered(Page(10), span(10, 19), 2 * WAIT_NS)) == [
            [10, 11, 12, 13, 14],
            "close 10 missing 0",
            [18, 19],
        ]
        assert told(late.live(span(18, 20), 2 * WAIT_NS)) == [[20]]

    def test_live_ticks_of_the_hole_are_kept(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 0)
        splicer.live(ticks(12), 1)
        assert told(splicer.tick(WAIT_NS + 1)) == [[15]]
        assert told(splicer.live(ticks(11, 12), WAIT_NS + 2)) == []
        assert splicer.duplicates == 1
        assert told(splicer.live(ticks(14, 13), WAIT_NS + 3)) == []
        assert told(splicer.live(ticks(10), WAIT_NS + 4)) == [[10, 11, 12, 13, 14], "close 10 missing 0"]

    def test_what_is_missing_between_them_is_believed_missing(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 0)
        splicer.live(ticks(12), 1)
        splicer.tick(WAIT_NS + 1)
        now_ns, out = WAIT_NS + 1, []
        while splicer.open_holes:
            if request := splicer.request(now_ns):
                assert isinstance(request, Page)
                out += told(splicer.answered(request, ticks(15, 16), now_ns))
            now_ns += RETRY_NS
        assert out == [[16], [12], "close 10 missing 4"]

    def test_too_many_waiting_do_not_wait_for_the_time(
        self, splicer: Splicer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WAIT_TICKS", 5)
        assert told(splicer.live(span(15, 19), 1)) == ["open 10-14"]
        assert told(splicer.live(ticks(20), 2)) == [[15, 16, 17, 18, 19, 20]]

    def test_a_large_old_hole_is_handed_in_by_parts(
        self, late: Splicer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WAIT_TICKS", 1)
        now_ns = 2 * WAIT_NS
        assert late.request(now_ns) == Page(10)
        assert told(late.answered(Page(10), ticks(10), now_ns)) == []
        assert late.request(now_ns) == Page(11)
        assert told(late.answered(Page(11), ticks(11), now_ns)) == [[10, 11]]
        assert late.request(now_ns) == Page(12)
        assert told(late.answered(Page(12), span(12, 14), now_ns)) == [[12, 13, 14], "close 10 missing 0"]

    def test_many_holes_behind_each_other_wait_no_longer_than_one(self, splicer: Splicer) -> None:
        splicer.live(ticks(12, 15, 18, 21), 0)
        assert told(splicer.tick(WAIT_NS + 1)) == [
            [12],
            "open 13-14",
            [15],
            "open 16-17",
            [18],
            "open 19-20",
            [21],
        ]


class TestAReconnect:
    def test_a_quiet_market_is_asked_what_was_missed(self, splicer: Splicer) -> None:
        splicer.connected()
        assert not splicer.settled
        assert splicer.request(1) == Latest()
        assert told(splicer.answered(Latest(), ticks(12), 2)) == ["open 10-12"]
        assert splicer.request(2) == Page(10)
        assert told(splicer.answered(Page(10), span(10, 12), 3)) == [[10, 11, 12], "close 10 missing 0"]
        assert splicer.settled

    def test_nothing_was_missed(self, splicer: Splicer) -> None:
        splicer.connected()
        assert splicer.request(1) == Latest()
        assert told(splicer.answered(Latest(), ticks(9), 2)) == []
        assert splicer.settled

    def test_the_first_live_tick_tells_as_well(self, splicer: Splicer) -> None:
        splicer.connected()
        assert told(splicer.live(ticks(10), 1)) == [[10]]
        assert splicer.settled
        splicer.connected()
        (opened,) = splicer.live(ticks(12), 2)
        assert isinstance(opened, GapOpened)
        assert opened.reason == "missed while not connected"

    def test_a_repeated_old_tick_tells_nothing(self, splicer: Splicer) -> None:
        splicer.connected()
        splicer.live(ticks(7), 1)
        assert splicer.request(1) == Latest()

    def test_an_answer_from_before_the_connection_does_not_settle_it(self, splicer: Splicer) -> None:
        splicer.connected()
        assert splicer.request(1) == Latest()
        splicer.connected()
        assert told(splicer.answered(Latest(), ticks(9), 2)) == []
        assert splicer.request(2) == Latest()
        splicer.answered(Latest(), ticks(9), 3)
        assert splicer.settled

    def test_while_a_hole_is_open_both_are_mended(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 1)
        assert splicer.request(1) == Page(10)
        splicer.connected()
        assert told(splicer.answered(Page(10), span(10, 14), 2)) == [
            [10, 11, 12, 13, 14, 15],
            "close 10 missing 0",
        ]
        assert splicer.request(2) == Latest()
        assert told(splicer.answered(Latest(), ticks(17), 3)) == ["open 16-17"]

    def test_a_ban_outlives_it(self, splicer: Splicer) -> None:
        splicer.connected()
        assert splicer.request(1) == Latest()
        splicer.failed(1, retry_after_ns=60 * NS_PER_S)
        splicer.connected()
        assert splicer.request(60 * NS_PER_S) is None
        assert splicer.request(61 * NS_PER_S) == Latest()

    def test_failures_are_retried_ever_more_slowly_up_to_a_bound(self, splicer: Splicer) -> None:
        splicer.connected()
        now_ns, waits = 0, []
        for _ in range(12):
            asked_ns = now_ns
            while splicer.request(now_ns) is None:
                now_ns += RETRY_NS
            waits.append(now_ns - asked_ns)
            splicer.failed(now_ns)
        assert waits[1:5] == [RETRY_NS, 2 * RETRY_NS, 4 * RETRY_NS, 8 * RETRY_NS]
        assert waits == sorted(waits)
        assert waits[-1] == RETRY_MAX_NS


class TestARestart:
    def test_in_the_middle_of_a_hole_that_live_waited_for(self) -> None:
        splicer = Splicer(13, [(10, 14, 13, T0)], T0)  # 10-12 are stored
        assert not splicer.settled
        splicer.connected()
        assert told(splicer.live(ticks(20), 1)) == []
        assert splicer.request(1) == Page(13)
        assert told(splicer.answered(Page(13), span(13, 20), 2)) == [
            list(range(13, 21)),
            "close 10 missing 0",
        ]

    def test_with_a_hole_behind_the_live_edge(self) -> None:
        splicer = Splicer(30, [(10, 14, 13, T0), (20, 21, 20, T0)], T0)
        assert splicer.settled
        assert told(splicer.live(ticks(30), 1)) == [[30]]
        assert splicer.request(1) == Page(13)
        assert told(splicer.answered(Page(13), span(13, 25), 2)) == [
            [13, 14],
            "close 10 missing 0",
            [20, 21],
            "close 20 missing 0",
        ]


class TestDrain:
    def test_what_waits_goes_into_the_record_and_the_hole_stays_open(self, splicer: Splicer) -> None:
        splicer.live(ticks(12, 15, 16), 1)
        assert told(splicer.drain(2)) == [[12], "open 13-14", [15, 16]]
        assert splicer.open_holes == 2

    def test_what_was_fetched_of_an_old_hole_goes_with_it(self, splicer: Splicer) -> None:
        splicer.live(ticks(15), 0)
        assert told(splicer.tick(WAIT_NS + 1)) == [[15]]
        assert splicer.request(2 * WAIT_NS) == Page(10)
        assert told(splicer.answered(Page(10), span(10, 12), 2 * WAIT_NS)) == []
        assert told(splicer.drain(2 * WAIT_NS)) == [[10, 11, 12]]

    def test_a_record_that_has_not_begun_begins(self) -> None:
        splicer = Splicer(None)
        splicer.connected()
        splicer.live(span(40, 41), 1)
        assert told(splicer.drain(2)) == ["began 40", [40, 41]]
