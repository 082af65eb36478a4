from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.replay_order import CUT, DOUBT_NS, RECENT, Named, Numbered
from feeds.replay_runs import NOBODY
from feeds.splicer import WAIT_NS
from market.inputs import Began, GapClosed, GapOpened, Input, TickBatch
from market.ticks import TICK, Ticks
from market.times import NS_PER_S


def ticks(*ids: int) -> Ticks:
    """Make trades whose times are their ids in seconds."""
    out = np.zeros(len(ids), TICK)
    out["trade_id"], out["ts_ns"] = ids, np.array(ids) * NS_PER_S
    return out


def stored(out: list[Input]) -> list[int]:
    return [int(i) for item in out if isinstance(item, TickBatch) for i in item.ticks["trade_id"]]


def names(out: list[Input]) -> list[str]:
    return [name for item in out if isinstance(item, TickBatch) for name in item.ids]


def told(order: Named, now_s: float, *ids: int) -> list[Input]:
    return order.live(ticks(*ids), round(now_s * NS_PER_S), ids=[str(i) for i in ids])


def test_contiguous_trades_flow_and_a_record_begins_at_its_lowest() -> None:
    order = Numbered(None, 0)
    out = order.live(ticks(7, 5, 6), 1)
    assert [type(item) for item in out] == [Began, TickBatch]
    assert (stored(out), stored(order.live(ticks(6, 8), 2)), order.duplicates) == ([5, 6, 7], [8], 1)


def test_a_late_one_is_waited_for_and_is_no_gap() -> None:
    order = Numbered(5, 4)
    assert order.live(ticks(6, 7), 1) == []
    assert not order.settled
    out = order.live(ticks(5), 1 + WAIT_NS)
    assert [type(item) for item in out] == [TickBatch]
    assert (stored(out), order.settled) == ([5, 6, 7], True)


def test_what_does_not_come_is_a_gap_that_nothing_fills() -> None:
    order = Numbered(5, 4 * NS_PER_S)
    assert order.live(ticks(8, 9, 12), 1) == []
    opened, closed, batch = order.tick(2 + WAIT_NS)
    assert opened == GapOpened(5, 7, 4 * NS_PER_S, 8 * NS_PER_S, 2 + WAIT_NS, "ids jumped")
    assert closed == GapClosed(5, 2 + WAIT_NS, 3, NOBODY)
    assert stored([batch]) == [8, 9]
    assert stored(order.live(ticks(6), 3 + WAIT_NS)) == []
    out = order.drain(4 + WAIT_NS)
    assert (stored(out), [item.first_id for item in out if isinstance(item, GapOpened)]) == ([12], [10])


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(0, 30), st.booleans())
def test_every_id_is_stored_once_in_order_or_said_to_be_missing(
    seed: int,
    step: int,
    jitter: int,
    restarts: bool,  # noqa: FBT001
) -> None:
    rng = random.Random(seed)
    there = [i for i in range(1, 300) if rng.random() < 0.97]
    told_as = sorted(there * 2, key=lambda i: i + rng.uniform(0, jitter))  # all twice, out of order
    order, out = Numbered(None, 0), list[Input]()
    for start in range(0, len(told_as), step):
        out += order.live(ticks(*told_as[start : start + step]), start * NS_PER_S // 100)
        if restarts and rng.random() < 0.1 and stored(out):
            order = Numbered(stored(out)[-1] + 1, stored(out)[-1] * NS_PER_S)
            out += order.live(ticks(*told_as[: start + step]), start * NS_PER_S // 100)
    out += order.drain(400 * NS_PER_S)
    kept = stored(out)
    assert kept == sorted(set(kept))
    first = next(item.trade_id for item in out if isinstance(item, Began))
    assert set(kept) == {i for i in there if i >= first}
    missing = {i for gap in out if isinstance(gap, GapOpened) for i in range(gap.first_id, gap.last_id + 1)}
    assert missing == set(range(first, kept[-1])) - set(kept)


def test_names_stay_as_they_came_and_each_once() -> None:
    order = Named(1, [], 0)
    out = told(order, 1, 9, 3, 9) + told(order, 2, 3, 4)
    assert (names(out), order.duplicates) == (["9", "3", "4"], 2)


def test_numbers_that_do_not_count_stay_numbers() -> None:
    order = Named(1, [], 0)
    out = order.live(ticks(9, 3, 9), 1)
    assert (stored(out), names(out)) == ([9, 3], [])


def test_what_the_record_has_is_known() -> None:
    order = Named(4, ["2", "3"], 3 * NS_PER_S)
    assert names(told(order, 9, 1, 2, 3, 4)) == ["4"]
    assert order.duplicates == 3


def test_only_the_newest_are_remembered() -> None:
    order = Named(1, [], 0)
    told(order, 1, *range(RECENT + 1))
    assert names(told(order, 2, 1, 0)) == ["0"]


def test_a_connection_after_which_nothing_known_comes_is_a_gap() -> None:
    order = Named(1, [], 0)
    order.connected()  # a record that begins owes nothing
    out = told(order, 1, 1, 2)
    order.connected()
    out += told(order, 30, 20) + told(order, 31, 21)
    assert not [item for item in out if isinstance(item, GapOpened)]
    now_ns = 31 * NS_PER_S + DOUBT_NS
    opened, closed = order.tick(now_ns)
    assert opened == GapOpened(5, 5, 2 * NS_PER_S, 20 * NS_PER_S, now_ns, CUT, counted=False)
    assert closed == GapClosed(5, now_ns, 1, NOBODY)
    assert order.drain(now_ns) == []


@pytest.mark.parametrize("how", ["overlap", "handover", "nothing"])
def test_a_connection_that_overlaps_is_none(how: str) -> None:
    order = Named(1, [], 0)
    told(order, 1, 1, 2)
    order.connected()
    if how == "overlap":
        told(order, 2, 2, 3)
    elif how == "handover":
        told(order, 2, 3)
        order.continued()
    assert order.tick(99 * NS_PER_S) == []
    assert order.drain(99 * NS_PER_S) == []


def test_each_of_two_connections_in_a_row_is_doubted_by_itself() -> None:
    order = Named(1, [], 0)
    out = told(order, 1, 1)
    order.connected()
    out += told(order, 3, 3)
    order.connected()
    order.connected()
    out += told(order, 5, 5) + order.drain(6 * NS_PER_S)
    gaps = [(item.from_ns, item.to_ns) for item in out if isinstance(item, GapOpened)]
    assert gaps == [(NS_PER_S, 3 * NS_PER_S), (3 * NS_PER_S, 5 * NS_PER_S)]
    order.connected()
    told(order, 7, 7)
    order.connected()
    out = told(order, 8, 7, 8) + order.drain(9 * NS_PER_S)  # which says nothing of the connection before
    assert [(item.from_ns, item.to_ns) for item in out if isinstance(item, GapOpened)] == [
        (5 * NS_PER_S, 7 * NS_PER_S)
    ]
