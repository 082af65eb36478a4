from __future__ import annotations

from functools import reduce
from math import gcd

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import candles
from analytics.panes import panes
from market.rows import Candle
from market.ticks import Ticks
from market.times import NS_PER_S
from tests.analytics.worlds import (
    MINUTE_NS,
    START_NS,
    reference_candles,
    same_candles,
    splits,
    ticks,
)
from tests.recordings import HERE, trades

WIDTHS_NS = (15 * NS_PER_S, MINUTE_NS, 5 * MINUTE_NS, 15 * MINUTE_NS)
BASE_NS = gcd(*WIDTHS_NS)


def fold(data: Ticks, width_ns: int, until_ns: int, batches: list[slice] | None = None) -> list[Candle]:
    state = candles.init(width_ns)
    rows = [row for cut in batches or [slice(None)] for row in candles.step(state, panes(data[cut], BASE_NS))]
    return rows + candles.advance(state, until_ns)


def after(data: Ticks) -> int:
    return int(data["ts_ns"].max()) + 30 * MINUTE_NS


@given(st.data())
def test_any_split_gives_what_the_trades_give_one_by_one(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    batches = draw.draw(splits(len(data)))
    for width_ns in WIDTHS_NS:
        expected = reference_candles(data, width_ns, after(data))
        assert same_candles(fold(data, width_ns, after(data), batches), expected)


@given(st.data())
def test_a_watermark_may_come_at_any_time(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    state, rows = candles.init(MINUTE_NS), []
    for cut in draw.draw(splits(len(data))):
        next_ns = int(data["ts_ns"][cut.start])
        earlier = int(data["ts_ns"][cut.start - 1]) if cut.start else next_ns
        rows += candles.advance(state, draw.draw(st.integers(earlier, next_ns)))
        rows += candles.step(state, panes(data[cut], BASE_NS))
    rows += candles.advance(state, after(data))
    assert same_candles(rows, reference_candles(data, MINUTE_NS, after(data)))


@given(st.data())
def test_a_saved_state_continues_equal(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    state, rows = candles.init(5 * MINUTE_NS), []
    batches = draw.draw(splits(len(data)))
    for cut in batches:
        rows += candles.step(state, panes(data[cut], BASE_NS))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=candles.State)
    assert rows + candles.advance(state, after(data)) == fold(data, 5 * MINUTE_NS, after(data), batches)


@given(st.data())
def test_the_order_inside_an_open_bar_is_irrelevant(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    key = np.lexsort((rng.random(len(data)), data["ts_ns"] // MINUTE_NS))
    mixed = data[key]
    batches = draw.draw(splits(len(data)))
    expected = reference_candles(data, MINUTE_NS, after(data))
    assert same_candles(fold(mixed, MINUTE_NS, after(data), batches), expected)


@given(ticks())
def test_sums_bounds_and_contiguity(data: Ticks) -> None:
    for width_ns in WIDTHS_NS:
        rows = fold(data, width_ns, after(data))
        assert [row.ts_ns for row in rows] == list(range(rows[0].ts_ns, rows[-1].ts_ns + 1, width_ns))
        assert sum(row.trade_count for row in rows) == len(data)
        for name, sizes in (
            ("volume", data["size"]),
            ("buy_volume", data["size"][data["side"] == 1]),
            ("sell_volume", data["size"][data["side"] == -1]),
        ):
            assert sum(getattr(row, name) for row in rows) == pytest.approx(float(sizes.sum()), rel=1e-9)
        for row in rows:
            assert all(row.low <= x <= row.high for x in (row.open, row.close, row.vwap))
            assert row.buy_volume + row.sell_volume <= row.volume * (1 + 1e-9)


def merged(rows: list[Candle], width_ns: int) -> list[Candle]:
    """Make wider bars of whole narrow ones, as definitions §1 says."""

    def join(a: Candle, b: Candle) -> Candle:
        if not a.trade_count or not b.trade_count:
            return (b if b.trade_count else a)._replace(ts_ns=a.ts_ns)
        volume = a.volume + b.volume
        return a._replace(
            high=max(a.high, b.high),
            low=min(a.low, b.low),
            close=b.close,
            volume=volume,
            buy_volume=a.buy_volume + b.buy_volume,
            sell_volume=a.sell_volume + b.sell_volume,
            vwap=(a.vwap * a.volume + b.vwap * b.volume) / volume,
            trade_count=a.trade_count + b.trade_count,
        )

    groups: dict[int, list[Candle]] = {}
    for row in rows:
        groups.setdefault(row.ts_ns // width_ns * width_ns, []).append(row)
    return [reduce(join, group)._replace(ts_ns=start) for start, group in groups.items()]


@given(ticks())
def test_wide_bars_equal_the_narrow_ones_merged(data: Ticks) -> None:
    until_ns = after(data) // (15 * MINUTE_NS) * 15 * MINUTE_NS
    one, five, fifteen = (fold(data, n * MINUTE_NS, until_ns) for n in (1, 5, 15))
    assert same_candles(merged(one, 5 * MINUTE_NS), five)
    assert same_candles(merged(one, 15 * MINUTE_NS), fifteen)
    assert same_candles(merged(five, 15 * MINUTE_NS), fifteen)


@given(ticks())
def test_reversed_sides_swap_volumes_and_nothing_else(data: Ticks) -> None:
    other = data.copy()
    other["side"] = -data["side"]
    rows = fold(data, MINUTE_NS, after(data))
    swapped = [x._replace(buy_volume=x.sell_volume, sell_volume=x.buy_volume) for x in rows]
    assert fold(other, MINUTE_NS, after(data)) == swapped


@given(st.data())
@settings(max_examples=30)
def test_the_open_row_is_the_bar_as_if_it_closed_now(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    state = candles.init(5 * MINUTE_NS)
    assert candles.open_row(state) is None
    candles.step(state, panes(data, BASE_NS))
    shown = candles.open_row(state)
    assert shown is not None
    assert not shown.is_complete
    closed = candles.advance(state, shown.ts_ns + 5 * MINUTE_NS)
    assert closed == [shown._replace(is_complete=True)]


@pytest.fixture
def one_trade() -> Ticks:
    return trades(HERE / "binance_spot_btcusdt_20260216.csv.gz")[:1]


def at(tick: Ticks, ts_ns: int) -> Ticks:
    out = tick.copy()
    out["ts_ns"] = ts_ns
    return out


def test_a_trade_on_the_boundary_opens_the_next_bar(one_trade: Ticks) -> None:
    state = candles.init(MINUTE_NS)
    assert candles.step(state, panes(at(one_trade, START_NS + MINUTE_NS - 1), MINUTE_NS)) == []
    closed = candles.step(state, panes(at(one_trade, START_NS + MINUTE_NS), MINUTE_NS))
    assert [(row.ts_ns, row.trade_count) for row in closed] == [(START_NS, 1)]
    assert candles.closed_ns(state) == START_NS + MINUTE_NS


def test_nothing_closes_before_the_first_trade_or_before_the_end(one_trade: Ticks) -> None:
    state = candles.init(MINUTE_NS)
    assert candles.advance(state, START_NS) == []
    candles.step(state, panes(at(one_trade, START_NS), MINUTE_NS))
    assert candles.advance(state, START_NS + MINUTE_NS - 1) == []
    assert len(candles.advance(state, START_NS + MINUTE_NS)) == 1
    assert candles.advance(state, START_NS) == []  # an older clock says nothing new


def test_a_silence_is_flat_bars_and_an_open_flat_bar(one_trade: Ticks) -> None:
    state = candles.init(MINUTE_NS)
    candles.step(state, panes(at(one_trade, START_NS), MINUTE_NS))
    rows = candles.advance(state, START_NS + 3 * MINUTE_NS + 1)
    price = float(one_trade["price"][0])
    flat = (price, price, price, price, 0.0, 0.0, 0.0, price, 0)
    assert rows[1:] == [Candle(START_NS + k * MINUTE_NS, *flat, is_complete=True, revision=0) for k in (1, 2)]
    assert candles.open_row(state) == Candle(START_NS + 3 * MINUTE_NS, *flat, is_complete=False, revision=0)


@pytest.mark.parametrize("late_ns", [START_NS - 1, START_NS + 5 * MINUTE_NS - 1])
def test_a_trade_before_the_open_bar_is_refused_and_changes_nothing(one_trade: Ticks, late_ns: int) -> None:
    state = candles.init(MINUTE_NS)
    candles.step(state, panes(at(one_trade, START_NS), MINUTE_NS))
    candles.advance(state, START_NS + 5 * MINUTE_NS)
    before = msgspec.msgpack.encode(state)
    both = np.concatenate([at(one_trade, late_ns), at(one_trade, START_NS + 9 * MINUTE_NS)])
    with pytest.raises(ValueError, match="belongs before"):
        candles.step(state, panes(both, MINUTE_NS))
    assert msgspec.msgpack.encode(state) == before


def test_a_month_of_silence_closes_in_portions_as_at_once(one_trade: Ticks) -> None:
    end_ns = START_NS + 30 * 1_440 * MINUTE_NS
    at_once, portions = candles.init(MINUTE_NS), candles.init(MINUTE_NS)
    for state in (at_once, portions):
        candles.step(state, panes(at(one_trade, START_NS), MINUTE_NS))
    times = [*range(START_NS, end_ns, 1_000 * NS_PER_S), end_ns]
    small = [row for t in times for row in candles.advance(portions, t)]
    assert candles.advance(at_once, end_ns) == small
    assert len(small) == 30 * 1_440


def test_vwap_never_leaves_the_bar_by_its_last_bit() -> None:
    rng = np.random.default_rng(1)
    data = np.repeat(trades(HERE / "binance_spot_btcusdt_20260216.csv.gz")[:1], 3_000)
    data["ts_ns"] = START_NS + np.arange(len(data)) // 3 * MINUTE_NS
    data["size"] = rng.random(len(data))
    data["price"] = np.repeat(rng.random(len(data) // 3), 3)
    rows = fold(data, MINUTE_NS, after(data))[:1_000]
    assert all(row.low == row.vwap == row.high for row in rows)
    sums = [data[3 * k : 3 * k + 3] for k in range(1_000)]
    raw = [float((x["price"] * x["size"]).sum() / x["size"].sum()) for x in sums]
    assert any(a != row.vwap for a, row in zip(raw, rows, strict=True))  # what the clamp is for
