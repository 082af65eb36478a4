"""Ids that do not count: stories of what a venue does."""

from __future__ import annotations

import pytest

from feeds import overlap as module
from feeds.doubt import UNPROVEN
from feeds.overlap import AUDIT_NS, DEAF, MAX_DOUBTS, MISSED, TRUST_NS, Overlap
from feeds.pace import RETRY_MAX_NS, RETRY_NS
from feeds.requests import Courtesy, Latest
from feeds.splicer import TOLD_NS, WAIT_NS
from market.inputs import GapClosed, GapOpened, Input, TickBatch
from market.times import NS_PER_MS
from tests.feeds.overlap_support import T0, Record, Traded, told, trade, trades


class Story:
    """Write inputs briefly: numbers of trades, and what is said of gaps."""

    def __init__(self, overlap: Overlap) -> None:
        self.overlap, self.record = overlap, Record()

    def live(self, happened: list[Traded], now_ns: int) -> list[object]:
        ticks, ids = told(happened)
        return self.brief(self.overlap.live(ticks, now_ns, ids=ids))

    def settled(self) -> bool:
        return self.overlap.settled

    def asks(self, now_ns: int) -> bool:
        return self.overlap.request(now_ns) is not None

    def answer(self, page: list[Traded], now_ns: int) -> list[object]:
        ticks, ids = told(page)
        return self.brief(self.overlap.answered(Latest(), ticks, now_ns, ids))

    def asked(self, page: list[Traded], now_ns: int) -> list[object]:
        assert self.asks(now_ns)
        return self.answer(page, now_ns)

    def tick(self, now_ns: int) -> list[object]:
        return self.brief(self.overlap.tick(now_ns))

    def brief(self, inputs: list[Input]) -> list[object]:
        self.record.take(inputs)
        out: list[object] = []
        for item in inputs:
            match item:
                case TickBatch():
                    keys = item.ids or [str((i - 1_000) // 7) for i in item.ticks["trade_id"].tolist()]
                    out.append([int(key.removeprefix("id ")) for key in keys])
                case GapOpened():
                    out.append(f"open {(item.from_ns - T0) // NS_PER_MS}-{(item.to_ns - T0) // NS_PER_MS}")
                case GapClosed():
                    out.append(f"{'lost' if item.missing else 'filled'} {item.rows}")
        return out


@pytest.fixture
def story() -> Story:
    """Go on with a record of 10 trades, connected and settled: the last answer was at 0."""
    story = Story(Overlap(1))
    story.overlap.connected()
    assert story.asked(trades(1, 9), 0) == [list(range(1, 10))]
    assert story.live([trade(9), trade(10)], 0) == [[10]]
    assert story.settled()
    assert not story.asks(1)
    story.overlap.duplicates = 0
    return story


class TestTheFirstSubscription:
    def test_the_record_begins_with_what_rest_has(self) -> None:
        story = Story(Overlap(1))
        story.overlap.connected()
        assert not story.settled()
        assert story.asks(1)
        assert story.live(trades(5, 6), 2) == []
        assert story.answer(trades(1, 5), 3) == [[1, 2, 3, 4, 5, 6]]
        assert story.settled()
        assert not story.overlap.open_holes

    def test_no_further_back_than_is_asked_for(self) -> None:
        story = Story(Overlap(1, courtesy=Courtesy(back_ns=2 * NS_PER_MS)))
        story.overlap.connected()
        assert story.live([trade(9)], 1) == []
        assert story.asked(trades(1, 9), 2) == [[8, 9]]
        story.overlap.check()
        assert story.asked(trades(1, 9), 3) == []

    def test_an_answer_from_before_the_first_tick_would_leave_a_hole(self) -> None:
        story = Story(Overlap(1))
        story.overlap.connected()
        assert story.live([trade(5)], 1) == []
        assert story.asked(trades(1, 3), 2) == []
        assert not story.asks(2)
        assert story.asked(trades(1, 5), 2 + RETRY_NS) == [[1, 2, 3, 4, 5]]

    def test_without_rest_it_begins_with_the_first_tick_and_owes_nothing_before(self) -> None:
        story = Story(Overlap(1))
        story.overlap.connected()
        assert story.asks(1)
        assert story.brief(story.overlap.failed(2)) == []
        assert story.live([trade(5)], 3) == []
        assert story.tick(3 + WAIT_NS) == []
        assert story.tick(4 + WAIT_NS) == [[5]]
        story.overlap.check()
        assert story.asked(trades(1, 5), 5 + WAIT_NS) == []
        assert story.settled()

    def test_a_market_that_never_traded_is_asked_ever_more_seldom(self) -> None:
        story = Story(Overlap(1))
        story.overlap.connected()
        waits, now_ns = list[int](), 0
        for _ in range(10):
            asked_ns = now_ns
            while not story.asks(now_ns):
                now_ns += RETRY_NS
            waits.append(now_ns - asked_ns)
            assert story.answer([], now_ns) == []
        assert waits[1:4] == [RETRY_NS, 2 * RETRY_NS, 4 * RETRY_NS]
        assert waits[-1] == RETRY_MAX_NS


class TestAReconnect:
    def test_live_waits_for_the_answer_that_reaches_both_sides(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live(trades(14, 15), 1) == []
        assert story.asked(trades(8, 14), 2) == ["open 10-14", [11, 12, 13, 14, 15], "filled 3"]
        assert story.settled()

    def test_nothing_was_missed(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(11)], 1) == []
        assert story.asked(trades(5, 11), 2) == [[11]]
        assert not story.record.past

    def test_an_answer_behind_the_stream_proves_nothing_of_what_follows(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(14)], 1) == []
        assert story.asked(trades(8, 11), 2) == ["open 10-11", [11], "filled 1"]
        assert not story.settled()
        assert story.asked(trades(8, 14), 2 + RETRY_NS) == ["open 11-14", [12, 13, 14], "filled 2"]

    def test_more_was_traded_than_rest_gives(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(20)], 1) == []
        assert story.asked(trades(15, 20), 2) == ["open 10-20", [15, 16, 17, 18, 19, 20], "lost 5"]
        ((_, closed),) = story.record.past
        assert closed.reason == UNPROVEN
        assert story.settled()

    def test_a_tick_that_the_answer_had_shows_that_the_socket_goes_on_behind_it(self, story: Story) -> None:
        story.overlap.connected()
        assert story.asked(trades(5, 12), 1) == ["open 10-12", [11, 12], "filled 2"]
        assert not story.settled()
        assert story.live([trade(12), trade(13)], 2) == [[13]]
        assert story.settled()
        assert not story.asks(3)

    def test_a_repeated_old_tick_shows_nothing(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(7)], 1) == []
        assert not story.settled()
        assert story.overlap.duplicates == 1

    def test_nor_does_one_that_comes_too_late(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(50, 3)], 1) == []
        assert story.live([trade(14)], 2) == []
        assert story.asked(trades(9, 14), 3) == ["open 10-14", [50], [11, 12, 13, 14], "filled 3"]

    def test_a_quiet_market_is_settled_by_an_answer_that_is_late_enough(self, story: Story) -> None:
        story.overlap.connected()
        assert story.asked(trades(5, 10), 1) == []
        assert not story.settled()
        assert not story.asks(TRUST_NS)
        assert story.asked(trades(5, 10), 1 + TRUST_NS) == []
        assert story.settled()
        assert story.live([trade(11)], 2 + TRUST_NS) == [[11]]

    def test_past_the_bounded_wait_live_goes_on_and_the_gap_is_filled_later(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(14)], 1) == []
        assert story.tick(2 + WAIT_NS) == ["open 10-14", [14]]
        assert (story.settled(), story.overlap.open_holes) == (True, 1)
        assert story.live([trade(15)], 3 + WAIT_NS) == [[15]]
        assert story.asked(trades(9, 12), 4 + WAIT_NS) == [[11, 12]]
        assert story.asked(trades(9, 16), 4 + WAIT_NS + RETRY_NS) == [[13], "filled 3"]
        assert story.overlap.open_holes == 0
        assert story.live([trade(16)], 5 + WAIT_NS) == [[16]]

    def test_past_the_bounded_wait_and_the_venues_newest(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(14)], 1) == []
        assert story.tick(2 + WAIT_NS) == ["open 10-14", [14]]
        assert story.asked(trades(13, 16), 3 + WAIT_NS) == [[13], "lost 1"]

    def test_a_second_cut_before_any_tick_is_the_same_hole(self, story: Story) -> None:
        story.overlap.connected()
        assert story.tick(1) == []
        story.overlap.connected()
        assert story.live([trade(13)], 2) == []
        assert story.asked(trades(9, 13), 3) == ["open 10-13", [11, 12, 13], "filled 2"]

    def test_a_second_cut_after_some_ticks_is_another(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(12)], 1) == []
        story.overlap.connected()
        assert story.live([trade(14)], 2) == ["open 10-12", [12]]
        assert story.asked(trades(9, 14), 3) == ["open 12-14", [11], [13, 14], "filled 1", "filled 1"]

    def test_trades_of_one_time_are_told_apart(self, story: Story) -> None:
        story.overlap.connected()
        assert story.live([trade(12, 10)], 1) == []
        assert story.asked([trade(9), trade(10), trade(11, 10), trade(12, 10)], 2) == [
            "open 10-10",
            [11, 12],
            "filled 1",
        ]
        story.overlap.connected()
        assert story.live([trade(15, 10)], 3) == []
        assert story.asked([trade(14, 10), trade(15, 10)], 4) == ["open 10-10", [14, 15], "lost 1"]

    def test_ever_new_cuts_while_rest_is_gone_end_in_gaps_that_are_given_up(self, story: Story) -> None:
        for k in range(MAX_DOUBTS + 3):
            story.overlap.connected()
            story.live([trade(20 + k)], k + 1)
        assert story.overlap.open_holes == MAX_DOUBTS - 1
        assert [closed.missing for _, closed in story.record.past] == [1, 1, 1]

    def test_too_many_waiting_do_not_wait_for_the_time(
        self, story: Story, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WAIT_TICKS", 2)
        story.overlap.connected()
        assert story.live(trades(14, 16), 1) == ["open 10-14", [14, 15, 16]]


class TestInsideALivingConnection:
    def test_ticks_flow_as_they_come(self, story: Story) -> None:
        assert story.live(trades(11, 12), 1) == [[11, 12]]
        assert story.live([trade(12), trade(13)], 2) == [[13]]
        assert story.overlap.duplicates == 1
        assert not story.record.past

    def test_swapped_ticks_of_one_batch_are_in_order(self, story: Story) -> None:
        assert story.live([trade(12), trade(11)], 1) == [[11, 12]]

    def test_what_the_socket_dropped_is_found_while_trades_come(self, story: Story) -> None:
        assert story.live([trade(11), trade(14)], AUDIT_NS - 1) == [[11, 14]]
        assert not story.asks(AUDIT_NS)
        assert story.tick(AUDIT_NS + 1) == []
        assert story.asked(trades(8, 14), AUDIT_NS + 1) == ["open 11-14", [12, 13], "filled 2"]
        ((opened, _),) = story.record.past
        assert opened.reason == DEAF
        assert not story.asks(2 * AUDIT_NS + 2)  # no trade came since

    def test_what_was_dropped_before_the_answer_begins_may_be_more(self, story: Story) -> None:
        assert story.live(trades(13, 14), 1) == [[13, 14]]
        story.overlap.check()
        assert story.asked(trades(12, 14), 2) == ["open 12-13", [12], "lost 1"]

    def test_rest_may_be_ahead_of_the_socket(self, story: Story) -> None:
        story.overlap.check()
        assert story.asked(trades(8, 12), 1) == []
        assert story.live(trades(11, 13), TOLD_NS) == [[11, 12, 13]]
        assert story.tick(2 + TOLD_NS) == []
        assert (story.overlap.deaf, story.overlap.duplicates) == (False, 0)

    def test_a_socket_that_went_deaf_is_known_by_what_it_kept_back(self, story: Story) -> None:
        story.overlap.check()
        assert story.asked(trades(8, 12), 1) == []
        assert story.tick(2 + TOLD_NS) == ["open 10-12", [11, 12], "filled 2"]
        assert story.overlap.deaf

    def test_a_deaf_socket_of_a_fast_market(self, story: Story) -> None:
        story.overlap.check()
        assert story.asked(trades(15, 18), 1) == []
        assert story.tick(2 + TOLD_NS) == ["open 10-18", [15, 16, 17, 18], "lost 4"]
        assert story.overlap.deaf

    def test_a_socket_that_drops_the_last_and_goes_on_is_not_deaf(self, story: Story) -> None:
        story.overlap.check()
        assert story.asked(trades(8, 12), 1) == []
        assert story.live([trade(13)], 2) == [[13]]
        assert story.tick(2 + TOLD_NS) == ["open 10-12", [11, 12], "filled 2"]
        assert not story.overlap.deaf

    def test_what_rest_had_before_a_cut_is_not_forgotten(self, story: Story) -> None:
        story.overlap.check()
        assert story.asked(trades(8, 12), 1) == []
        story.overlap.connected()
        assert story.tick(2) == ["open 10-12", [11, 12], "filled 2"]
        assert story.live([trade(40)], 3) == []
        assert story.asked(trades(38, 40), 4) == ["open 12-40", [38, 39, 40], "lost 2"]


class TestARestart:
    def test_what_the_record_remembers_is_not_repeated(self) -> None:
        story = Story(Overlap(11, [x.key for x in trades(6, 10)], trade(10).ts_ns))
        story.record.stored = {x.key: x.ts_ns for x in trades(1, 10)}
        story.overlap.connected()
        assert story.live([trade(12)], 1) == []
        assert story.asked(trades(3, 12), 2) == ["open 10-12", [11, 12], "filled 1"]

    def test_open_gaps_are_taken_up(self) -> None:
        gaps = [(4, T0 + 3 * NS_PER_MS, T0 + 6 * NS_PER_MS), (6, T0 + 7 * NS_PER_MS, T0 + 10 * NS_PER_MS)]
        stored = [*trades(1, 3), *trades(6, 7), *trades(10, 11)]
        story = Story(Overlap(8, [x.key for x in stored[3:]], trade(11).ts_ns, gaps=gaps))
        story.record.stored = {x.key: x.ts_ns for x in stored}
        story.record.gaps = {key: GapOpened(key, key, a, b, 0, MISSED, counted=False) for key, a, b in gaps}
        assert story.overlap.open_holes == 2
        assert story.asked(trades(5, 9), 1) == [[8, 9], "lost 0"]  # 5 may be in the record, and forgotten
        assert story.asked(trades(6, 11), 1 + RETRY_NS) == ["filled 2"]
        assert not story.overlap.open_holes

    def test_of_a_gap_that_ends_with_the_last_trade(self) -> None:
        story = Story(
            Overlap(3, ["id 1", "id 5"], trade(5).ts_ns, gaps=[(2, trade(1).ts_ns, trade(5).ts_ns)])
        )
        story.record.stored = {"id 1": trade(1).ts_ns, "id 5": trade(5).ts_ns}
        story.record.gaps = {2: GapOpened(2, 2, trade(1).ts_ns, trade(5).ts_ns, 0, MISSED, counted=False)}
        assert story.asked(trades(0, 5), 1) == [[2, 3, 4]]
        assert story.asked(trades(0, 6), 1 + RETRY_NS) == ["filled 3"]


def test_drain_leaves_the_gap_open(story: Story) -> None:
    story.overlap.connected()
    assert story.live([trade(14)], 1) == []
    assert story.brief(story.overlap.drain(2)) == ["open 10-14", [14]]


def test_a_ban_outlives_a_reconnect(story: Story) -> None:
    story.overlap.connected()
    assert story.asks(1)
    story.overlap.failed(1, retry_after_ns=RETRY_MAX_NS)
    story.overlap.connected()
    assert not story.asks(RETRY_MAX_NS)
    assert story.asks(1 + RETRY_MAX_NS)


def test_numbers_with_holes_stay_numbers() -> None:
    story = Story(Overlap(1))
    story.overlap.connected()
    assert story.live([trade(3, texts=False)], 1) == []
    assert story.asked([trade(k, texts=False) for k in (1, 2, 3)], 2) == [[1, 2, 3]]
    assert list(story.record.stored) == ["1007", "1014", "1021"]
