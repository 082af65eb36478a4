from __future__ import annotations

import math

import duckdb
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import imbalance
from analytics.imbalance import State
from market.ticks import EMPTY, TICK, Ticks, in_order
from market.times import NS_PER_MS, NS_PER_S
from tests.analytics.worlds import MINUTE_NS, START_NS, splits, ticks
from tests.recordings import HERE, beside, trades

WINDOWS_NS = (MINUTE_NS, 5 * MINUTE_NS)
WINDOW_SQL = """
    SELECT ts_ns, sum(if(side = 1, size, 0)) OVER w, sum(if(side = -1, size, 0)) OVER w
    FROM d WINDOW w AS (ORDER BY ts_ns RANGE BETWEEN {reach} PRECEDING AND CURRENT ROW)
"""


def expected(data: Ticks, ts_ns: int, window_ns: int) -> float:
    part = data[(data["ts_ns"] > ts_ns - window_ns) & (data["ts_ns"] <= ts_ns)]
    buy, sell = (math.fsum(part["size"][part["side"] == side]) for side in (1, -1))
    return (buy - sell) / (buy + sell) if buy + sell else 0.0


def answers(state: State, seen: Ticks, ts_ns: int) -> bool:
    return all(
        imbalance.value(state, ts_ns, w) == pytest.approx(expected(seen, ts_ns, w), rel=1e-9, abs=1e-12)
        for w in WINDOWS_NS
    )


def restored(state: State) -> State:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)


@given(st.data())
@settings(deadline=None)
def test_after_any_batches_each_window_is_summed_to_the_trade(draw: st.DataObject) -> None:
    data = draw.draw(ticks(200))
    state = imbalance.init(*WINDOWS_NS)
    for cut in draw.draw(splits(len(data))):
        imbalance.step(state, data[cut])
        now_ns, seen = int(data["ts_ns"][cut.stop - 1]), data[: cut.stop]
        assert answers(state, seen, now_ns)
        state = restored(state)
        later_ns = draw.draw(st.sampled_from([1, 59 * NS_PER_S, MINUTE_NS, 299 * NS_PER_S, 900 * NS_PER_S]))
        assert answers(state, seen, now_ns + later_ns)


@given(st.data())
@settings(deadline=None)
def test_trades_of_the_open_minute_may_come_in_any_order(draw: st.DataObject) -> None:
    data = draw.draw(ticks(200))
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    mixed = data[np.lexsort((rng.random(len(data)), data["ts_ns"] // MINUTE_NS))]
    state = imbalance.init(*WINDOWS_NS)
    for cut in draw.draw(splits(len(data))):
        imbalance.step(state, in_order(mixed[cut]))
        assert answers(state, mixed[: cut.stop], int(mixed["ts_ns"][: cut.stop].max()))


@pytest.mark.parametrize("window_ns", WINDOWS_NS)
@pytest.mark.parametrize(
    "name", ["binance_spot_btcusdt_20240808-09.csv.gz", "binance_spot_btcusdt_20260216.csv.gz"]
)
def test_every_time_of_recorded_trades_equals_a_sql_range_window(name: str, window_ns: int) -> None:
    compare_with_sql(trades(HERE / name), window_ns)


@pytest.mark.parametrize("window_ns", WINDOWS_NS)
def test_microseconds_and_silences_equal_a_sql_range_window(window_ns: int) -> None:
    compare_with_sql(trades(beside("trades/binance_spot_trxusdt_20250304.csv.gz")), window_ns)
    compare_with_sql(trades(beside("trades/kraken_spot_xbtusdt_20251110_part1.csv.gz")), window_ns)


def compare_with_sql(data: Ticks, window_ns: int) -> None:
    d = {name: np.ascontiguousarray(data[name]) for name in ("ts_ns", "size", "side")}
    with duckdb.connect() as connection:
        connection.register("d", d)
        rows = connection.execute(WINDOW_SQL.format(reach=window_ns - 1)).fetchall()
    sums = {ts_ns: (buy, sell) for ts_ns, buy, sell in rows}
    state, found = imbalance.init(*WINDOWS_NS), list[float]()
    ends = np.append(np.flatnonzero(np.diff(data["ts_ns"])), len(data) - 1) + 1
    start = 0
    for end in ends.tolist():
        imbalance.step(state, data[start:end])
        found.append(imbalance.value(state, int(data["ts_ns"][end - 1]), window_ns))
        start = end
    assert len(found) == len(sums) > 200
    buy, sell = np.array([sums[ts_ns] for ts_ns in data["ts_ns"][ends - 1].tolist()]).T
    assert np.allclose(found, (buy - sell) / (buy + sell), rtol=1e-9, atol=1e-12)


def test_ties_count_in_their_order() -> None:
    data = made([START_NS] * 4, [1, -1, -1, 1])
    state, found = imbalance.init(*WINDOWS_NS), []
    for i in range(4):
        imbalance.step(state, data[i : i + 1])
        found.append(imbalance.value(state, START_NS, MINUTE_NS))
    assert found == [1.0, 0.0, pytest.approx(-1 / 3), 0.0]
    assert len(state.cells) == 24


def test_a_trade_a_window_old_is_out() -> None:
    state = imbalance.init(*WINDOWS_NS)
    imbalance.step(state, made([START_NS, START_NS + 1], [1, -1]))
    assert imbalance.value(state, START_NS + MINUTE_NS - 1, MINUTE_NS) == 0.0
    assert imbalance.value(state, START_NS + MINUTE_NS, MINUTE_NS) == -1.0
    assert imbalance.value(state, START_NS + MINUTE_NS + 1, MINUTE_NS) == 0.0


@given(ticks(200))
@settings(deadline=None)
def test_reversed_sides_flip_it_and_sizes_have_no_unit(data: Ticks) -> None:
    other = data.copy()
    other["side"] = -data["side"]
    other["size"] *= 1024
    a, b = imbalance.init(*WINDOWS_NS), imbalance.init(*WINDOWS_NS)
    for state, part in ((a, data), (b, other)):
        imbalance.step(state, part)
    for window_ns in WINDOWS_NS:
        x = imbalance.value(a, a.last_ns, window_ns)
        assert imbalance.value(b, b.last_ns, window_ns) == pytest.approx(-x, rel=1e-9, abs=1e-12)
        assert -1.0 <= x <= 1.0


def test_unknown_sides_and_no_trades_are_even() -> None:
    state = imbalance.init(*WINDOWS_NS)
    imbalance.step(state, EMPTY)
    assert imbalance.value(state, START_NS, MINUTE_NS) == 0.0
    for count in (3, 300):
        imbalance.step(state, made([START_NS] * count, [0] * count))
    assert imbalance.value(state, START_NS, MINUTE_NS) == 0.0


def test_sizes_far_apart_leave_nothing_behind() -> None:
    state = imbalance.init(*WINDOWS_NS)
    data = made([START_NS + k * 20 * NS_PER_S for k in range(6)], [1, -1, 1, -1, 1, 1])
    data["size"] = 1e12, 1e12, 1e-8, 1e-8, 1e-8, 1e-8
    imbalance.step(state, data)
    assert imbalance.value(state, state.last_ns, 5 * MINUTE_NS) == pytest.approx(4e-8 / 2e12 / 2, abs=1e-15)
    assert imbalance.value(state, state.last_ns, MINUTE_NS) == pytest.approx(1 / 3)
    assert imbalance.value(state, state.last_ns, 70 * NS_PER_S) == pytest.approx(0.5)


@pytest.mark.parametrize("count", [1, 100])
def test_what_comes_too_late_is_refused_and_changes_nothing(count: int) -> None:
    state = imbalance.init(*WINDOWS_NS)
    imbalance.step(state, made([START_NS, START_NS + MINUTE_NS], [1, 1]))
    before = msgspec.msgpack.encode(state)
    with pytest.raises(ValueError, match="belongs before"):
        imbalance.step(state, made([START_NS + MINUTE_NS - 1] * count, [1] * count))
    assert msgspec.msgpack.encode(state) == before


def test_questions_that_cannot_be_answered_are_refused() -> None:
    state = imbalance.init(*WINDOWS_NS)
    imbalance.step(state, made([START_NS + 5], [1]))
    with pytest.raises(ValueError, match="kept are"):
        imbalance.value(state, START_NS + 4, MINUTE_NS)
    with pytest.raises(ValueError, match="kept are"):
        imbalance.value(state, START_NS + 5, 6 * MINUTE_NS)


@pytest.mark.parametrize("size", [1, 48, 1_000, 16_384])
def test_a_flood_is_bounded_and_its_edges_are_right_to_the_millisecond(size: int) -> None:
    """Of 5,000 trades a second, each at a time of its own, 1,000 have a cell; then each millisecond."""
    count = 5_000 * 130
    data = np.zeros(count, TICK)
    data["ts_ns"] = START_NS + np.arange(count) * 200_000
    data["trade_id"], data["size"] = np.arange(count), 1.0
    data["side"] = np.random.default_rng(1).choice([-1, 1], count)
    state, count = imbalance.init(MINUTE_NS), count if size > 48 else 25_000
    for i in range(0, count, size):
        imbalance.step(state, data[i : min(i + size, count)])
    kept = (len(state.cells) + sum(len(block.cells) for block in state.blocks)) // 24
    assert kept == 1_800 * (70 if size > 48 else 5)  # of 130 seconds the first minute is out of reach
    now_ns = int(data["ts_ns"][count - 1])
    for past_ns in (3_900 * NS_PER_MS, 2_800 * NS_PER_MS):  # the edge is among the first 1,000
        wanted = expected(data[:count], now_ns, past_ns)
        assert imbalance.value(state, now_ns, past_ns) == pytest.approx(wanted, rel=1e-9)
    for past_ns in (3_300 * NS_PER_MS + 300_000, 777 * NS_PER_MS + 123):
        wanted = expected(data[:count], now_ns, past_ns)
        assert abs(imbalance.value(state, now_ns, past_ns) - wanted) <= 2 * 5 * 200_000 / past_ns


def made(times_ns: list[int], sides: list[int]) -> Ticks:
    out = np.zeros(len(times_ns), TICK)
    out["trade_id"], out["ts_ns"] = np.arange(len(times_ns)), times_ns
    out["price"], out["size"], out["side"] = 1.0, 0.5, sides
    return out
