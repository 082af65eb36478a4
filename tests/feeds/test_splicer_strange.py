"""The splicer: ids that no venue should send."""

from __future__ import annotations

from feeds.far import FAR
from feeds.intake import RENUMBERED
from feeds.silence import Silence
from feeds.splicer import STRANGERS, WAIT_NS, Splicer
from market.inputs import FeedRecovered, FeedStale, GapOpened, Input, Rejected, TickBatch
from market.ticks import Ticks
from market.times import NS_PER_S
from tests.feeds.splicer_support import T0, span, ticks


def at(ts_ns: int, *ids: int) -> Ticks:
    out = ticks(*(0 for _ in ids))
    out["trade_id"], out["ts_ns"] = ids, ts_ns
    return out


def stored(inputs: list[Input]) -> list[int]:
    return [int(i) for x in inputs if isinstance(x, TickBatch) for i in x.ticks["trade_id"]]


def standing_at_10() -> Splicer:
    return Splicer(10, last_ts_ns=T0)


class TestOneFarId:
    def test_is_refused_when_the_ids_go_on_where_they_were(self) -> None:
        splicer = standing_at_10()
        assert splicer.live(at(T0, 2**52), 1) == []
        out = splicer.live(span(10, 12), 2)
        assert [type(x) for x in out] == [Rejected, TickBatch]
        assert stored(out) == [10, 11, 12]
        assert splicer.settled
        assert not splicer.open_holes

    def test_among_sound_ones_of_its_message_too(self) -> None:
        splicer = standing_at_10()
        out = splicer.live(at(T0, 10, 2**52, 11), 1)
        assert stored(out) == [10, 11]
        assert [x.reason for x in out if isinstance(x, Rejected)] == [
            f"id {2**52} is far ahead of all others"
        ]

    def test_is_believed_when_the_next_one_stands_by_it(self) -> None:
        splicer, far = standing_at_10(), 11 + FAR
        assert splicer.live(at(T0, far), 1) == []
        (opened,) = splicer.live(at(T0, far + 1), 2)
        assert isinstance(opened, GapOpened)
        assert (opened.first_id, opened.last_id) == (10, far - 1)
        assert stored(splicer.tick(3 + WAIT_NS)) == [far, far + 1]

    def test_an_ordinary_jump_is_believed_at_once(self) -> None:
        (opened,) = standing_at_10().live(at(T0, 10 + FAR), 1)
        assert isinstance(opened, GapOpened)


def test_what_fills_a_hole_without_end_is_stored_before_it_ends() -> None:
    splicer, far = standing_at_10(), 11 + FAR
    splicer.live(at(T0, far, far + 1), 1)
    splicer.tick(2 + WAIT_NS)
    assert stored(splicer.live(span(10, 12), 3 + WAIT_NS)) == []
    assert stored(splicer.live(span(13, 14), 4 + 2 * WAIT_NS)) == [10, 11, 12, 13, 14]
    assert splicer.open_holes == 1


class TestIdsThatBeginAnew:
    def test_are_told_by_their_times(self) -> None:
        splicer = standing_at_10()
        for n in range(STRANGERS):
            assert not splicer.renumbered
            assert splicer.live(at(T0 + 2 * NS_PER_S, 1 + n), n) == []
        assert splicer.renumbered
        assert stored(splicer.live(ticks(10), 9)) == [10]
        assert not splicer.renumbered

    def test_are_not_duplicates_nor_late_ones(self) -> None:
        splicer = Splicer(10, [(5, 7, 5, T0)], last_ts_ns=T0)
        for n in range(STRANGERS):
            splicer.live(ticks(1 + n), n)
            splicer.live(at(T0 + 2 * NS_PER_S, 5 + n), n)
        assert not splicer.renumbered
        assert not splicer.open_holes


def test_a_feed_of_no_use_is_stale_until_it_is_of_use_again() -> None:
    silence = Silence(30.0, stale=False)
    (stale,) = silence.useful(1, RENUMBERED)
    assert isinstance(stale, FeedStale)
    assert silence.useful(2, RENUMBERED) == []
    assert silence.heard(3) == []
    assert silence.stale
    assert silence.useful(4, "") == []
    assert [type(x) for x in silence.heard(5)] == [FeedRecovered]
