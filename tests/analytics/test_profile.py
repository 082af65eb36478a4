from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import profile
from analytics.profile import Params
from analytics.profile_rows import tick_size_of
from market.rows import MarketProfile
from market.ticks import EMPTY, TICK, Ticks
from market.times import DAY_NS
from tests.analytics.profile_worlds import DEFAULTS, PARAMS, TICK_SIZE, fold, reference, same, ties
from tests.analytics.worlds import MINUTE_NS, START_NS, splits, ticks
from tests.recordings import HERE, beside, trades

MIDNIGHT_NS = START_NS + MINUTE_NS


def traded(*trades: tuple[int, float, float]) -> Ticks:
    """Make ticks of (time after START_NS, price, size)."""
    return np.array([(i, START_NS + t, p, q, 0, 1) for i, (t, p, q) in enumerate(trades)], TICK)


def shown(row: MarketProfile) -> tuple[float, float, float]:
    return row.value_area_low, row.poc, row.value_area_high


@settings(deadline=None)
@given(st.data(), st.sampled_from(PARAMS))
def test_any_split_gives_what_the_definition_gives(draw: st.DataObject, params: Params) -> None:
    data = draw.draw(ticks() | ties())
    batches = draw.draw(splits(len(data)))
    assert same(fold(data, params, batches), reference(data, params))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_large_batches_and_small_ones_give_the_same_bits(draw: st.DataObject) -> None:
    data = draw.draw(ticks(max_size=400) | ties(max_size=400))
    one_by_one = [slice(i, i + 1) for i in range(len(data))]
    assert fold(data, batches=draw.draw(splits(len(data)))) == fold(data, batches=one_by_one)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_watermark_may_come_at_any_time(draw: st.DataObject) -> None:
    data = draw.draw(ticks() | ties())
    state, rows = profile.init(DEFAULTS, TICK_SIZE), list[MarketProfile]()
    for cut in draw.draw(splits(len(data))):
        next_ns = int(data["ts_ns"][cut.start])
        earlier = int(data["ts_ns"][cut.start - 1]) if cut.start else next_ns
        rows += profile.advance(state, draw.draw(st.integers(earlier, next_ns)))
        rows += profile.step(state, data[cut])
    assert rows + profile.advance(state, int(data["ts_ns"][-1]) + MINUTE_NS) == fold(data)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_saved_state_continues_equal(draw: st.DataObject) -> None:
    data = draw.draw(ticks() | ties())
    state, rows = profile.init(DEFAULTS, TICK_SIZE), list[MarketProfile]()
    for cut in draw.draw(splits(len(data))):
        rows += profile.step(state, data[cut])
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=profile.State)
    assert rows + profile.advance(state, int(data["ts_ns"][-1]) + MINUTE_NS) == fold(data)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_sides_and_the_order_inside_a_minute_move_no_price(draw: st.DataObject) -> None:
    data = draw.draw(ticks() | ties())
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    mixed = data[np.lexsort((rng.random(len(data)), data["ts_ns"] // MINUTE_NS))]
    mixed["side"] = -mixed["side"]
    assert same(fold(mixed), fold(data))


@settings(deadline=None)
@given(ticks() | ties(), st.sampled_from(PARAMS))
def test_the_value_area_holds_its_share_around_the_poc(data: Ticks, params: Params) -> None:
    for row in fold(data, params):
        assert row.value_area_low <= row.poc <= row.value_area_high
        session = data[(data["ts_ns"] >= row.session_start_ns) & (data["ts_ns"] < row.ts_ns)]
        top = row.value_area_high + row.bin_size - TICK_SIZE / 2
        inside = (session["price"] >= row.value_area_low - TICK_SIZE / 2) & (session["price"] < top)
        share = session["size"][inside].sum() / session["size"].sum()
        assert share >= params.va_share * (1 - 1e-9)


@given(ticks() | ties())
@settings(max_examples=60, deadline=None)
def test_sizes_may_be_in_any_unit(data: Ticks) -> None:
    larger = data.copy()
    larger["size"] *= 1_000
    rows = [row._replace(total_volume=row.total_volume * 1_000) for row in fold(data)]
    assert same(fold(larger), rows)


@settings(deadline=None)
@given(ticks() | ties())
def test_the_open_row_is_the_row_as_if_the_minute_ended_now(data: Ticks) -> None:
    state = profile.init(DEFAULTS, TICK_SIZE)
    assert profile.open_row(state) is None
    profile.step(state, data)
    before = msgspec.msgpack.encode(state)
    row = profile.open_row(state)
    assert row is not None
    assert msgspec.msgpack.encode(state) == before
    assert profile.advance(state, row.ts_ns) == [row]
    assert profile.open_row(state) is None


@pytest.mark.parametrize(
    ("name", "bin_ticks"),
    [
        ("binance_spot_btcusdt_20240808-09.csv.gz", 1),
        ("binance_spot_btcusdt_20240808-09.csv.gz", 100),
        ("binance_spot_btcusdt_20260216.csv.gz", 1),
        ("binance_spot_btcusdt_20260216.csv.gz", 500),
    ],
)
@pytest.mark.parametrize("va_step", [1, 2])
def test_a_recorded_market_in_any_batches(name: str, bin_ticks: int, va_step: int) -> None:
    data, params = trades(HERE / name), Params(bin_ticks=bin_ticks, va_step=va_step)
    expected = reference(data, params)
    for size in (16_384, 997, 3):
        cuts = [slice(i, i + size) for i in range(0, len(data), size)]
        assert same(fold(data, params, cuts), expected)


@pytest.mark.parametrize(
    ("name", "tick_size"),
    [
        ("kraken_spot_xbtusdt_20251110_part1", 0.1),
        ("binance_spot_trxusdt_20250304", 0.0001),
        ("binance_coinm_btcusd_perp_20240808-09", 0.1),
    ],
)
def test_other_recorded_markets(name: str, tick_size: float) -> None:
    data = trades(beside(f"trades/{name}.csv.gz"))[-6_000:]
    assert tick_size_of(data["price"][:1_000].tolist()) == tick_size
    assert same(fold(data, tick_size=tick_size), reference(data, tick_size=tick_size))


def test_a_row_comes_with_the_first_trade_after_its_minute() -> None:
    state = profile.init(DEFAULTS, TICK_SIZE)
    assert profile.step(state, traded((0, 10.0, 1.0), (MINUTE_NS - 1, 10.0, 1.0))) == []
    assert profile.advance(state, START_NS + MINUTE_NS - 1) == []
    rows = profile.step(state, traded((MINUTE_NS, 11.0, 4.0)))
    assert rows == [MarketProfile(MIDNIGHT_NS - DAY_NS, MIDNIGHT_NS, 10.0, 10.0, 10.0, 2.0, 0.01)]
    assert profile.closed_ns(state) == MIDNIGHT_NS


def test_a_day_begins_with_nothing() -> None:
    data = traded((0, 10.0, 100.0), (MINUTE_NS, 11.0, 1.0), (2 * MINUTE_NS, 11.0, 1.0))
    rows = fold(data)
    assert [(x.session_start_ns, x.poc, x.total_volume) for x in rows] == [
        (MIDNIGHT_NS - DAY_NS, 10.0, 100.0),
        (MIDNIGHT_NS, 11.0, 1.0),
        (MIDNIGHT_NS, 11.0, 2.0),
    ]


def test_minutes_and_days_without_trades_have_no_row() -> None:
    state = profile.init(DEFAULTS, TICK_SIZE)
    assert profile.advance(state, START_NS) == []
    assert profile.step(state, EMPTY) == []
    profile.step(state, traded((0, 10.0, 1.0)))
    assert len(profile.advance(state, START_NS + 5 * DAY_NS)) == 1
    assert profile.advance(state, START_NS + 6 * DAY_NS) == []
    assert profile.advance(state, START_NS) == []  # an older clock says nothing new
    assert profile.open_row(state) is None
    profile.step(state, traded((7 * DAY_NS, 12.0, 1.0)))
    row = profile.open_row(state)
    assert row is not None
    assert (row.session_start_ns, row.poc) == (MIDNIGHT_NS + 6 * DAY_NS, 12.0)


@pytest.mark.parametrize("count", [1, 60])
def test_a_tick_before_the_open_minute_is_refused_and_changes_nothing(count: int) -> None:
    state = profile.init(DEFAULTS, TICK_SIZE)
    profile.step(state, traded((5 * MINUTE_NS, 10.0, 1.0)))
    before = msgspec.msgpack.encode(state)
    with pytest.raises(ValueError, match="belongs before"):
        profile.step(state, traded(*[(5 * MINUTE_NS - 1, 10.0, 1.0)] * count))
    assert msgspec.msgpack.encode(state) == before


@pytest.mark.parametrize("tick_size", [0.0, -0.01, float("nan")])
def test_a_tick_size_that_is_not_known_is_refused(tick_size: float) -> None:
    with pytest.raises(ValueError, match="tick size"):
        profile.init(DEFAULTS, tick_size)


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1.0, 1e12])
def test_one_trade_is_its_own_value_area(size: float) -> None:
    (row,) = fold(traded((0, 61_837.63, size)))
    assert (*shown(row), row.total_volume) == (61_837.63, 61_837.63, 61_837.63, size)


def test_tiny_and_huge_sizes_share_a_session() -> None:
    data = traded((0, 10.0, 1e12), (1, 10.01, 1e-8), (2, 9.0, 1e-8))
    assert [shown(row) for row in fold(data)] == [(10.0, 10.0, 10.0)]
    assert [shown(row) for row in fold(data, Params(va_share=1.0))] == [(10.0, 10.0, 10.0)]


def test_float_noise_decides_no_tie() -> None:
    assert 0.1 + 0.2 > 0.3
    rows = [(0, 10.00, 0.1), (1, 10.00, 0.2), (2, 10.02, 0.3), (3, 10.05, 0.01)]
    assert shown(fold(traded(*rows), Params(va_share=0.4))[0]) == (10.02, 10.02, 10.02)
    sides = [(0, 10.00, 0.5), (1, 9.99, 0.1), (2, 9.99, 0.2), (3, 10.01, 0.3)]
    assert shown(fold(traded(*sides), Params(va_share=0.7))[0]) == (10.0, 10.0, 10.01)


def test_of_equal_rows_the_middle_one_is_the_poc_and_then_the_lower() -> None:
    three = traded((0, 10.00, 2.0), (1, 10.04, 2.0), (2, 10.10, 2.0))
    assert fold(three, Params(va_share=0.3))[0].poc == 10.04
    two = traded((0, 10.00, 2.0), (1, 10.03, 2.0))
    assert fold(two, Params(va_share=0.3))[0].poc == 10.0


def test_a_poc_changes_when_the_middle_moves() -> None:
    data = traded((0, 10.00, 2.0), (1, 10.04, 2.0), (MINUTE_NS - 1, 10.02, 1.0))
    data["ts_ns"] += MINUTE_NS
    later = traded((2 * MINUTE_NS, 10.20, 1.0))
    assert [row.poc for row in fold(np.concatenate([data, later]), Params(va_share=0.1))] == [10.0, 10.04]


def test_seventy_percent_exactly_is_enough() -> None:
    data = traded((0, 10.00, 0.4), (1, 10.01, 0.1), (2, 10.02, 0.2), (3, 9.99, 0.1), (4, 9.97, 0.2))
    assert shown(fold(data)[0]) == (10.0, 10.0, 10.02)


def test_seventy_percent_exactly_is_enough_after_a_thousand_roundings_too() -> None:
    dust = [(k, 10.10, 0.1) for k in range(1_000)]
    assert sum(size for _, _, size in dust) < 100.0
    data = traded(*dust, (1_000, 10.00, 250.0), (1_001, 9.90, 150.0))
    assert shown(fold(data)[0]) == (10.0, 10.0, 10.10)


def test_a_profile_that_ends_gives_fewer_rows() -> None:
    data = traded((0, 10.00, 5.0), (1, 10.01, 2.0), (2, 9.99, 1.0), (3, 9.98, 0.5), (4, 9.97, 1.5))
    assert shown(fold(data, Params(va_share=0.80))[0]) == (9.98, 10.0, 10.01)
    assert shown(fold(data, Params(va_share=0.86))[0]) == (9.97, 10.0, 10.01)


def test_empty_rows_are_walked_through_upwards_first() -> None:
    data = traded((0, 10.00, 5.0), (1, 10.10, 1.0), (2, 9.90, 4.0))
    assert shown(fold(data, Params(va_share=0.55))[0]) == (10.0, 10.0, 10.10)
    assert shown(fold(data, Params(va_share=0.95))[0]) == (9.90, 10.0, 10.10)


@pytest.mark.parametrize("size", [2, 60])
def test_prices_far_apart_cost_no_memory(size: int) -> None:
    state = profile.init(DEFAULTS, 1e-8)
    data = traded(*[(k, price, 1.0) for k in range(size) for price in (1e-8, 61_837.63, 1e5, 1e7)])
    profile.step(state, data)
    row = profile.open_row(state)
    assert row is not None
    assert shown(row) == (61_837.63, 1e5, 1e7)
    assert len(msgspec.msgpack.encode(state)) < 400


@pytest.mark.parametrize("count", [1, 60])
def test_a_price_beyond_all_measure_has_a_row(count: int) -> None:
    (row,) = fold(traded(*[(0, 1e300, 1.0)] * count), tick_size=1e-8)
    assert 0 < row.value_area_low == row.poc == row.value_area_high < float("inf")


def test_a_session_is_as_small_as_its_rows() -> None:
    state = profile.init(DEFAULTS, TICK_SIZE)
    for k in range(50):
        profile.step(state, traded(*[(k * MINUTE_NS + i, 100.0 + i / 100, 1.0) for i in range(100)]))
    assert len(msgspec.msgpack.encode(state)) < 16 * 100 + 100 * 12 + 300
