from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.frames import Trade
from feeds.push_order import LATER, MAX_HOLES, REMEMBERED, TOO_MANY, Counted, Hole, Placed, Texts, TickRule
from market.inputs import Began, GapClosed, GapOpened, Input

NOW_NS = 77


def trade(name: int | str, second: int = 0, price: float = 1.0, side: int = 0) -> Trade:
    return Trade(name, second, price, 1.0, side)


def names(placed: Placed) -> list[int | str]:
    return [one.id for one in placed.trades]


def put(order: Counted, *ids: int) -> Placed:
    return order.place([trade(i, i) for i in ids], (), NOW_NS)


def test_each_name_is_stored_once_and_pages_are_ordered_by_time_then_arrival() -> None:
    order = Texts(1, [], 0)
    page = [trade("c", 3), trade("a", 1), trade("b", 1), trade("a", 1)]
    assert names(order.place(page, (), NOW_NS)) == ["a", "b", "c"]
    assert names(order.place([trade("b", 1), trade("d", 2)], (), NOW_NS)) == ["d"]


def test_names_of_the_record_before_are_remembered_and_older_ones_looked_up() -> None:
    order = Texts(4, ["b", "c"], 30)
    page = [trade("a", 10), trade("b", 20), trade("new", 30), trade("newer", 31)]
    assert [one.id for one in order.doubtful(page)] == ["a", "new"]
    assert names(order.place(page, {"a"}, NOW_NS)) == ["new", "newer"]


def test_a_new_record_asks_nobody() -> None:
    assert Texts(1, [], 0).doubtful([trade("a", 1)]) == []


def test_only_what_may_be_forgotten_is_looked_up() -> None:
    order = Texts(1, [], 0)
    order.place([trade(f"n{i}", i) for i in range(REMEMBERED + 100)], (), NOW_NS)
    asked = order.doubtful([trade(f"n{i}", i) for i in range(200)])
    assert [one.id for one in asked] == [f"n{i}" for i in range(100)]
    assert order.doubtful([trade("late", 99), trade("x", 100)]) == [trade("late", 99)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60), st.integers(1, 9))
def test_memory_and_look_ups_together_store_each_once(pushed: list[tuple[int, int]], size: int) -> None:
    """Ids and times as a collector sends them, again and again: a trade's time is its own."""
    record: dict[str, int] = {}
    order = Texts(1, [], 0)
    for start in range(0, len(pushed), size):
        page = [trade(str(i), i % 7) for i, _ in pushed[start : start + size]]
        known = {str(one.id) for one in order.doubtful(page)} & record.keys()
        for one in order.place(page, known, NOW_NS).trades:
            assert str(one.id) not in record
            record[str(one.id)] = one.ts_ns
        if pushed[start][1] == 0:  # a restart, with a short memory
            order = Texts(len(record) + 1, list(record)[-3:], max(record.values(), default=0))
    assert record.keys() == {str(i) for i, _ in pushed}


def test_what_was_deleted_unread_is_a_gap_that_nothing_can_fill() -> None:
    order = Texts(1, [], 0)
    order.place([trade("a", 5)], (), NOW_NS)
    order.lost(3, "3 entries were deleted")
    placed = order.place([trade("b", 9)], (), NOW_NS)
    opened = GapOpened(2, 2, 5, 9, NOW_NS, "3 entries were deleted", counted=False)
    assert placed.before == [opened, GapClosed(2, NOW_NS, 3, "nobody has them any more")]
    assert order.place([trade("c", 9)], (), NOW_NS).before == []


def test_ids_that_rise_by_one_are_contiguous_from_the_first_page_on() -> None:
    order = Counted(None)
    placed = put(order, 7, 5, 6, 5)
    assert (placed.before, names(placed), placed.after) == ([Began(5)], [5, 6, 7], [])
    assert names(put(order, 4, 8)) == [8]


def test_a_jump_is_a_gap_and_is_filled_in_any_order() -> None:
    order = Counted(5, last_ts_ns=4)
    placed = put(order, 5, 9, 10)
    assert placed.before == [GapOpened(6, 8, 5, 9, NOW_NS, "ids jumped")]
    assert (names(placed), order.open_holes) == ([5, 9, 10], 1)
    assert put(order, 7, 7).after == []
    placed = put(order, 8, 7, 6, 11)
    assert (names(placed), placed.after) == ([6, 8, 11], [GapClosed(6, NOW_NS, 0, LATER)])
    assert (names(put(order, 6, 7, 8)), order.open_holes) == ([], 0)


def test_what_the_record_has_is_told_from_what_it_lacks() -> None:
    counted = Counted(5)
    assert not any(counted.has(trade(n), ()) for n in (5, 9))
    put(counted, 5, 9)
    assert [n for n in range(12) if not counted.has(trade(n), ())] == [6, 7, 8, 10, 11]
    texts = Texts(3, ["b"], 20)
    assert [name for name in "abc" if texts.has(trade(name), {"a"})] == ["a", "b"]
    assert (texts.newest_ns, counted.newest_ns) == (20, 9)


def test_a_deleted_entry_is_the_reason_of_the_next_jump() -> None:
    order = Counted(5)
    order.lost(2, "2 entries were deleted")
    (opened,) = put(order, 7).before
    assert isinstance(opened, GapOpened)
    assert (opened.first_id, opened.last_id, opened.reason) == (5, 6, "2 entries were deleted")
    (opened,) = put(order, 9).before
    assert isinstance(opened, GapOpened)
    assert opened.reason == "ids jumped"


def test_a_gap_that_lacks_nothing_after_a_restart_is_closed() -> None:
    order = Counted(20, [5, 12], [Hole(12, 13, 14)])
    assert put(order).after == [GapClosed(5, NOW_NS, 0, LATER)]
    assert put(order, 12, 13, 14).after == [GapClosed(12, NOW_NS, 0, LATER)]


def test_holes_are_bounded_and_the_oldest_given_up() -> None:
    order = Counted(0)
    placed = put(order, *range(1, 2 * (MAX_HOLES + 2), 2))
    assert len(placed.before) == MAX_HOLES + 2
    assert placed.after == [GapClosed(0, NOW_NS, 1, TOO_MANY), GapClosed(2, NOW_NS, 1, TOO_MANY)]
    assert names(put(order, 0, 2, 4)) == [4]


def test_a_long_gap_filled_at_random_places_is_bounded_too() -> None:
    order = Counted(0)
    put(order, 10_000)
    after: list[Input] = []
    for i in range(1, 3 * MAX_HOLES, 2):
        after += put(order, i).after
    assert after == [GapClosed(0, NOW_NS, 10_000 - MAX_HOLES, TOO_MANY)]


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 9), st.booleans())
def test_stored_and_missing_are_all_there_is(pushed: list[int], size: int, restarts: bool) -> None:  # noqa: FBT001
    order, stored, gaps = Counted(None), list[int](), dict[int, tuple[int, int]]()
    for start in range(0, len(pushed), size):
        placed = put(order, *pushed[start : start + size])
        stored += [int(i) for i in names(placed)]
        for item in [*placed.before, *placed.after]:
            if isinstance(item, GapOpened):
                gaps[item.first_id] = item.first_id, item.last_id
            elif isinstance(item, GapClosed):
                first, last = gaps.pop(item.first_id)
                assert set(range(first, last + 1)) <= set(stored)
        if restarts:
            order = Counted(order.next_id, gaps, _holes(stored, gaps.values()))
    assert len(stored) == len(set(stored))
    if stored:
        first = min(pushed[:size])
        assert set(stored) == {i for i in pushed if i >= first}
        missing = set(range(first, max(stored))) - set(stored)
        assert missing <= {i for a, b in gaps.values() for i in range(a, b + 1)}


def _holes(stored: Sequence[int], gaps: Iterable[tuple[int, int]]) -> list[Hole]:
    return [Hole(a, i, i) for a, b in sorted(gaps) for i in range(a, b + 1) if i not in stored]


@pytest.mark.parametrize(
    ("prices", "sides"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([2, 1, 1, 3, 3, 2], [1, -1, -1, 1, 1, -1]),
    ],
)
def test_unknown_sides_follow_the_last_change_of_the_price(prices: list[float], sides: list[int]) -> None:
    rule = TickRule()
    assert [one.side for one in rule.apply(trade(i, price=p) for i, p in enumerate(prices))] == sides
    assert rule.inferred == len(prices)


def test_a_told_side_stays_and_its_price_counts() -> None:
    rule = TickRule(5.0, -1, 3)
    told = rule.apply([trade("a", price=5.0), trade("b", price=6.0, side=-1), trade("c", price=6.0)])
    assert [one.side for one in told] == [-1, -1, 1]
    assert rule.inferred == 5
