from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import order_flow
from analytics.panes import panes
from market.rows import OrderFlow
from market.ticks import Ticks
from market.times import DAY_NS, NS_PER_S
from tests.analytics.worlds import MINUTE_NS, START_NS, reference_flow, same_flow, splits, ticks
from tests.recordings import HERE, trades

BASE_NS = 15 * NS_PER_S
MIDNIGHT_NS = START_NS + MINUTE_NS


def fold(data: Ticks, until_ns: int, batches: list[slice] | None = None) -> list[OrderFlow]:
    state = order_flow.init()
    rows = [
        row for cut in batches or [slice(None)] for row in order_flow.step(state, panes(data[cut], BASE_NS))
    ]
    return rows + order_flow.advance(state, until_ns)


def after(data: Ticks) -> int:
    return int(data["ts_ns"].max()) + 3 * MINUTE_NS


@given(st.data())
def test_any_split_gives_what_the_trades_give_one_by_one(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    rows = fold(data, after(data), draw.draw(splits(len(data))))
    assert same_flow(rows, reference_flow(data, after(data)), float(data["size"].sum()))


@given(st.data())
def test_a_saved_state_continues_equal(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    batches = draw.draw(splits(len(data)))
    state, rows = order_flow.init(), []
    for cut in batches:
        rows += order_flow.step(state, panes(data[cut], BASE_NS))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=order_flow.State)
    assert rows + order_flow.advance(state, after(data)) == fold(data, after(data), batches)


@given(ticks())
def test_reversed_sides_flip_delta_and_cvd(data: Ticks) -> None:
    other = data.copy()
    other["side"] = -data["side"]
    for a, b in zip(fold(data, after(data)), fold(other, after(data)), strict=True):
        assert (b.buy_volume, b.sell_volume) == (a.sell_volume, a.buy_volume)
        assert (b.delta, b.cvd) == (-a.delta, -a.cvd)


@given(st.data())
def test_the_running_cvd_is_the_sum_since_midnight(draw: st.DataObject) -> None:
    data = draw.draw(ticks())
    state = order_flow.init()
    assert order_flow.cvd(state) == 0.0
    for cut in draw.draw(splits(len(data))):
        order_flow.step(state, panes(data[cut], BASE_NS))
        seen = data[: cut.stop]
        today = seen[seen["ts_ns"] // DAY_NS == seen["ts_ns"][-1] // DAY_NS]
        expected = float((today["size"] * today["side"]).sum())
        assert order_flow.cvd(state) == pytest.approx(expected, rel=1e-9, abs=1e-9 * today["size"].sum())


def buys(*times_ns: int) -> Ticks:
    out = trades(HERE / "binance_spot_btcusdt_20260216.csv.gz")[: len(times_ns)].copy()
    out["ts_ns"], out["size"], out["side"] = times_ns, 0.5, 1
    return out


def test_cvd_is_carried_in_empty_minutes_and_starts_anew_at_midnight() -> None:
    first = MIDNIGHT_NS - 3 * MINUTE_NS
    rows = fold(buys(first, MIDNIGHT_NS + 2 * MINUTE_NS), MIDNIGHT_NS + 4 * MINUTE_NS)
    assert [row.cvd for row in rows] == [0.5, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]
    assert [row.trade_count for row in rows] == [1, 0, 0, 0, 0, 1, 0]
    assert {row.imbalance_ratio for row in rows} == {None}
    assert [row.delta for row in rows] == [0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0]


def test_the_open_minute_is_shown() -> None:
    state = order_flow.init()
    assert order_flow.open_row(state) is None
    order_flow.step(state, panes(buys(START_NS, START_NS + 1), BASE_NS))
    assert order_flow.open_row(state) == OrderFlow(START_NS, 1.0, 0.0, 1.0, 1.0, None, 2)
    order_flow.advance(state, MIDNIGHT_NS)
    assert order_flow.open_row(state) == OrderFlow(MIDNIGHT_NS, 0.0, 0.0, 0.0, 0.0, None, 0)
    assert order_flow.closed_ns(state) == MIDNIGHT_NS


def test_a_trade_before_the_open_minute_is_refused_and_changes_nothing() -> None:
    state = order_flow.init()
    order_flow.step(state, panes(buys(MIDNIGHT_NS), BASE_NS))
    before = msgspec.msgpack.encode(state)
    with pytest.raises(ValueError, match="belongs before"):
        order_flow.step(state, panes(buys(START_NS), BASE_NS))
    assert msgspec.msgpack.encode(state) == before
