from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import market_state
from analytics.market_state import Params
from market.rows import MarketState
from market.ticks import EMPTY, Ticks, in_order
from market.times import NS_PER_S
from tests.analytics.state_reference import differences, reference, same
from tests.analytics.state_worlds import SMALL, after, fold, made, ticks, walk
from tests.analytics.worlds import START_NS, splits

HOUR_NS = 3_600 * NS_PER_S
LAW = settings(max_examples=50, deadline=None)


@given(st.data())
@LAW
def test_any_split_gives_what_the_definitions_give(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    rows = fold(data, SMALL, after(data), draw.draw(splits(len(data))))
    assert differences(rows, reference(data, SMALL, after(data))) == []


@given(st.data())
@LAW
def test_a_watermark_may_come_at_any_time(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    state, rows = market_state.init(SMALL), []
    for cut in draw.draw(splits(len(data))):
        next_ns = int(data["ts_ns"][cut.start])
        earlier = int(data["ts_ns"][cut.start - 1]) if cut.start else next_ns
        rows += market_state.advance(state, draw.draw(st.integers(earlier, next_ns)))
        rows += market_state.step(state, data[cut])
    rows += market_state.advance(state, after(data))
    assert differences(rows, reference(data, SMALL, after(data))) == []


@given(st.data())
@LAW
def test_a_saved_state_continues_equal(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    batches = draw.draw(splits(len(data)))
    state, rows = market_state.init(SMALL), []
    for cut in batches:
        rows += market_state.step(state, data[cut])
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=market_state.State)
    rows += market_state.advance(state, after(data))
    assert rows == fold(data, SMALL, after(data), batches)


@given(st.data())
@LAW
def test_the_order_of_arrival_in_an_open_step_is_irrelevant(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    mixed = data[np.lexsort((rng.random(len(data)), data["ts_ns"] // NS_PER_S))]
    state, rows = market_state.init(SMALL), []
    for cut in draw.draw(splits(len(data))):
        rows += market_state.step(state, in_order(mixed[cut]))
    rows += market_state.advance(state, after(data))
    assert differences(rows, reference(data, SMALL, after(data))) == []


def test_the_last_price_of_a_step_is_that_of_the_last_trade_and_not_of_the_last_to_come() -> None:
    data = made(3, 400, (-3, 0, 2), (-1, 1))
    data["ts_ns"] = START_NS + np.arange(400) * NS_PER_S // 100
    expected = reference(data, SMALL, after(data))
    halves = [data[k::2] for k in (1, 0)]  # by a loop and as columns, every other trade comes late
    for size in (7, 100):
        state, rows = market_state.init(SMALL), []
        for second in range(4):
            for half in halves:
                part = half[half["ts_ns"] // NS_PER_S == START_NS // NS_PER_S + second]
                for i in range(0, len(part), size):
                    rows += market_state.step(state, part[i : i + size])
        rows += market_state.advance(state, after(data))
        assert differences(rows, expected) == []


@given(ticks())
@LAW
def test_reversed_sides_mirror_the_sentiment_and_nothing_else(data: Ticks) -> None:
    other = data.copy()
    other["side"] = -data["side"]
    mirrored = {"Bullish": "Bearish", "Bearish": "Bullish", "Neutral": "Neutral"}
    for a, b in zip(fold(data, SMALL, after(data)), fold(other, SMALL, after(data)), strict=True):
        assert b[:8] == a[:8]
        assert b.sentiment_score == pytest.approx(1 - a.sentiment_score, abs=1e-12)
        if min(abs(a.sentiment_score - 0.45), abs(a.sentiment_score - 0.55)) > 1e-12:
            assert b.sentiment_label == mirrored[a.sentiment_label]


@given(ticks(), st.integers(-20, 20), st.integers(-20, 20))
@LAW
def test_units_of_price_and_size_are_irrelevant(data: Ticks, prices: int, sizes: int) -> None:
    """Powers of two change no digit."""
    other = data.copy()
    other["price"] *= 2.0**prices
    other["size"] *= 2.0**sizes
    assert fold(other, SMALL, after(data)) == fold(data, SMALL, after(data))


def test_any_other_unit_changes_the_last_digits_alone() -> None:
    data = made(11, 3_000, (-40, -3, 0, 2, 40), (-1, 1))
    other = data.copy()
    other["price"] *= 0.0173
    other["size"] *= 331.7
    rows = fold(data, Params(), after(data))
    assert len(rows) > 10_000
    assert differences(fold(other, Params(), after(data)), rows) == []


def test_what_needs_more_steps_is_null_until_there_are_so_many() -> None:
    rng = np.random.default_rng(5)
    data = walk(100 * np.exp(np.cumsum(rng.normal(0, 1e-4, 200))))
    rows = fold(data, Params(), after(data))
    assert [row.ts_ns for row in rows] == [START_NS + k * NS_PER_S for k in range(1, 220)]
    for name, first in (("momentum", 59), ("entropy", 29), ("friction", 1), ("alpha", 100)):
        missing = [getattr(row, name) is None for row in rows]
        assert missing == [k < first for k in range(219)]
    assert {row.regime for row in rows[:100]} == {"Unknown"}
    assert {row.regime for row in rows[100:]} == {"Gaussian"}
    assert rows[0] == MarketState(
        START_NS + NS_PER_S, 1.0, None, None, None, 0.0, None, "Unknown", "Bearish", 0.0
    )


def test_a_gaussian_walk_is_neutral_and_of_high_entropy() -> None:
    rng = np.random.default_rng(6)
    data = walk(100 * np.exp(np.cumsum(rng.normal(0, 1e-4, 20_000))))
    rows = fold(data, Params(), after(data))[2_000:20_000]
    entropy = np.array([row.entropy for row in rows])
    # Of 300 steps in 7 bins the estimate is low by 6 / (2 x 300 ln 7) in the mean.
    assert entropy.mean() == pytest.approx(0.965 - 6 / (600 * math.log(7)), abs=0.003)
    assert {row.sentiment_label for row in rows} == {"Neutral"}
    momentum = np.array([row.momentum for row in rows])
    assert momentum.std() == pytest.approx(1.0, abs=0.1)
    assert np.mean([row.mass for row in rows]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("alpha", "regime"), [(1.2, "Levy"), (3.0, "Gaussian")])
def test_a_tail_of_known_exponent_is_found(alpha: float, regime: str) -> None:
    rng = np.random.default_rng(7)
    signs = rng.choice([-1, 1], 8 * 1_800)
    moves = signs * 1e-6 * (1 - rng.random(len(signs))) ** (-1 / alpha)
    rows = fold(data := walk(100 * np.exp(np.cumsum(moves))), Params(), after(data))
    found = [row.alpha for row in rows[1_800 - 1 : len(moves) : 1_800]]
    assert len(found) == 8
    error = alpha / math.sqrt(90)
    assert all(x is not None and abs(x - alpha) < 3 * error for x in found)
    assert abs(np.mean([x for x in found if x is not None]) - alpha) < 3 * error / math.sqrt(8)
    assert rows[-30].regime == regime


def finite(rows: list[MarketState]) -> bool:
    return all(math.isfinite(x) for row in rows for x in row if isinstance(x, float))


def bounded(rows: list[MarketState]) -> bool:
    return finite(rows) and all(
        row.mass is not None
        and row.mass >= 0.0
        and 0.0 <= row.sentiment_score <= 1.0
        and 0.0 <= (row.entropy or 0.0) <= 1.0
        and (row.nash_dist or 0.0) >= 0.0
        and (row.friction or 0.0) >= 0.0
        and 0.0 < (row.alpha or 1.0) <= 10.0
        for row in rows
    )


@given(ticks(), st.integers(0, 2**32))
@LAW
def test_sizes_and_prices_far_apart_leave_every_number_in_its_bounds(data: Ticks, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data["size"] = rng.choice([1e-8, 1.0, 1e12], len(data))
    data["price"] = rng.choice([1e-8, 0.3, 0.3000001, 61_000.0, 1e9], len(data))
    assert bounded(fold(data, SMALL, after(data)))


@pytest.mark.parametrize(
    "wrong",
    [{"fast_half_life": 1}, {"slow_half_life": 59}, {"momentum_steps": 0}, {"entropy_needs": 301}],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected|needs"):
        market_state.init(msgspec.structs.replace(Params(), **wrong))


def test_a_price_that_never_moves() -> None:
    data = walk(np.full(400, 0.1))
    rows = fold(data, Params(), after(data))
    quiet = [(row.momentum, row.friction, row.entropy, row.nash_dist, row.alpha, row.regime) for row in rows]
    assert set(quiet[59:]) == {(0.0, None, 0.0, 0.0, None, "Unknown")}


def test_trades_of_one_moment_are_one_step() -> None:
    data = made(1, 500, (-1, 0, 1), (0,))
    data["ts_ns"] = START_NS
    (row,) = fold(data, Params(), START_NS + NS_PER_S)
    assert same(row, reference(data, Params(), START_NS + NS_PER_S)[0])
    assert (row.mass, row.sentiment_label, row.sentiment_score) == (1.0, "Neutral", 0.5)


def test_without_trades_there_are_no_rows() -> None:
    state = market_state.init()
    assert market_state.advance(state, START_NS) == []
    assert market_state.step(state, EMPTY) == []
    assert (market_state.closed_ns(state), market_state.next_close_ns(state)) == (-1, None)


def test_a_step_ends_with_the_first_trade_or_clock_at_its_end() -> None:
    state = market_state.init()
    data = walk(np.array([100.0, 101.0]))
    assert market_state.step(state, data[:1]) == []
    assert market_state.next_close_ns(state) == START_NS + NS_PER_S
    assert market_state.advance(state, START_NS + NS_PER_S - 1) == []
    assert [row.ts_ns for row in market_state.step(state, data[1:])] == [START_NS + NS_PER_S]
    assert market_state.closed_ns(state) == START_NS + NS_PER_S
    assert [row.ts_ns for row in market_state.advance(state, START_NS + 2 * NS_PER_S)] == [
        START_NS + 2 * NS_PER_S
    ]
    assert market_state.advance(state, START_NS) == []  # an older clock says nothing new
    assert market_state.next_close_ns(state) == START_NS + 3 * NS_PER_S


@pytest.mark.parametrize("size", [2, 200])
def test_a_trade_before_the_open_step_is_refused_and_changes_nothing(size: int) -> None:
    state = market_state.init()
    data = made(2, 300, (-1, 1), (-1, 1))
    market_state.step(state, data)
    market_state.advance(state, after(data))
    before = msgspec.msgpack.encode(state)
    with pytest.raises(ValueError, match="belongs before"):
        market_state.step(state, data[-size:])
    assert msgspec.msgpack.encode(state) == before


def test_a_silence_of_hours_closes_in_portions_as_at_once() -> None:
    data = made(8, 2_000, (-40, -3, 0, 2, 40), (-1, 1))
    end_ns = after(data) + 5 * HOUR_NS
    at_once = fold(data, Params(), end_ns)
    state = market_state.init()
    rows = market_state.step(state, data)
    for portion_ns in range(after(data), end_ns + 1, 7 * NS_PER_S):
        rows += market_state.advance(state, portion_ns)
    rows += market_state.advance(state, end_ns)
    assert [b.ts_ns - a.ts_ns for a, b in pairwise(rows)] == [NS_PER_S] * (len(rows) - 1)
    assert len(rows) > 5 * 3_600
    assert differences(at_once, rows) == []


def test_after_three_days_of_silence_ratios_are_what_they_were() -> None:
    """A product taken step by step would have ended among the smallest floats after 18 hours."""
    data = made(9, 2_000, (-40, -3, 0, 2, 40), (-1, 1, 1))
    state = market_state.init()
    market_state.step(state, data)
    (last,) = market_state.advance(state, market_state.next_close_ns(state) or 0)
    for hours in (12, 24, 72):
        rows = market_state.advance(state, last.ts_ns + hours * HOUR_NS)
        faded = 2.0 ** (-hours * 3_600 * (1 / 60 - 1 / 600))
        assert rows[-1].mass == pytest.approx((last.mass or 0.0) * faded, rel=1e-4)
        assert rows[-1].friction == pytest.approx(last.friction, rel=1e-9)
        assert rows[-1].sentiment_score == pytest.approx(last.sentiment_score, rel=1e-9)
        assert (rows[-1].momentum, rows[-1].entropy, rows[-1].nash_dist) == (0.0, 0.0, None)
        assert bounded(rows[-10:])
    again = data[:3].copy()
    again["ts_ns"] = last.ts_ns + 80 * HOUR_NS + np.arange(3) * NS_PER_S
    again["price"] = 1.0, 2.0, 2.0
    rows = market_state.step(state, again)
    assert bounded(rows)
    assert rows[-1].mass == pytest.approx(10.0, rel=0.02)  # two steps make both N, and D is 87 and 867
