from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import anomaly, price_outliers, size_outliers
from market.ticks import EMPTY, TICK, Ticks
from tests.analytics import anomaly_reference
from tests.analytics.worlds import START_NS, splits

Floats: TypeAlias = npt.NDArray[np.float64]

# So short that a few hundred ticks fill every window; 80 sizes are enough for the cut to be used.
SHORT = [
    anomaly.Params(price_outliers.Params(level, window, factor, gamma), size_outliers.Params(size, 6, z))
    for level, window, factor, gamma in ((5, 20, 2.0, 1e-4), (4, 9, 1.0, 1e-6), (1, 30, 3.0, 5e-4))
    for size, z in ((80, 2.3456), (10, 1.2345))
]


def made(prices: Floats, sizes: object = 1.0) -> Ticks:
    out = np.zeros(len(prices), TICK)
    out["trade_id"] = np.arange(len(prices))
    out["ts_ns"] = START_NS + np.arange(len(prices)) * 1_000_000
    out["price"], out["size"] = prices, sizes
    return out


@st.composite
def worlds(draw: st.DrawFn, max_size: int = 400) -> Ticks:
    """Draw a walk on ticks, calm or wild, with spikes and jumps, and sizes of changing regimes."""
    size = draw(st.integers(1, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = rng.choice([-1, 0, 0, 1], size) * draw(st.sampled_from([0, 1, 1, 30]))
    jumps = rng.choice([0] * 40 + [-500, 500], size)
    spikes = rng.choice([0] * 40 + [-300, 300, 60], size)
    prices = (60_000 + np.cumsum(steps + jumps) + spikes) / 100
    regimes = rng.choice([1e-8, 1.0, 1.0, 1e12], 1 + size // 100)[np.arange(size) // 100]
    spread = draw(st.sampled_from([0.0, 1e-3, 0.5, 3.0]))
    sizes = regimes * np.exp(spread * rng.standard_normal(size)) * rng.choice([1] * 60 + [1_000], size)
    return made(prices, sizes)


def fold(
    ticks: Ticks, batches: list[slice], tick_size: float = 0.01, params: anomaly.Params | None = None
) -> tuple[list[int], list[int]]:
    state = anomaly.init(params, tick_size)
    parts = [anomaly.step(state, ticks[cut]) for cut in batches]
    prices, sizes = joined(parts)
    assert (state.price_outliers, state.size_outliers) == (sum(prices), sum(sizes))
    return prices, sizes


def joined(parts: list[anomaly.Flagged]) -> tuple[list[int], list[int]]:
    prices = np.concatenate([part.price for part in parts])
    return prices.tolist(), np.concatenate([part.size for part in parts]).tolist()


def of_size(length: int, count: int) -> list[slice]:
    return [slice(at, at + length) for at in range(0, count, length)]


@given(st.data(), st.sampled_from(SHORT), st.sampled_from([0.0, 0.01, 0.5]))
@settings(deadline=None)
def test_any_split_gives_what_the_text_says_tick_by_tick(
    draw: st.DataObject, params: anomaly.Params, tick_size: float
) -> None:
    ticks = draw.draw(worlds())
    batches = draw.draw(splits(len(ticks)))
    assert fold(ticks, batches, tick_size, params) == anomaly_reference.flags(ticks, tick_size, params)


@given(worlds(), st.sampled_from(SHORT), st.integers(1, 90))
@settings(deadline=None)
def test_so_do_batches_of_any_size(ticks: Ticks, params: anomaly.Params, length: int) -> None:
    batches = of_size(length, len(ticks))
    assert fold(ticks, batches, params=params) == anomaly_reference.flags(ticks, 0.01, params)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_windows_on_a_long_walk_with_spikes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prices = np.round(60_000 * np.exp(np.cumsum(rng.standard_normal(1_500) * 2e-5)), 2)
    prices[rng.integers(200, 1_500, 20)] *= 1.002
    sizes = np.exp(rng.standard_normal(1_500)) * rng.choice([1] * 100 + [500], 1_500)
    ticks = made(prices, sizes)
    expected = anomaly_reference.flags(ticks, 0.01)
    assert min(map(sum, expected)) >= 5
    for length in (1_500, 700, 100, 7, 1):
        assert fold(ticks, of_size(length, 1_500)) == expected


def test_a_level_may_be_longer_than_a_batch() -> None:
    params = anomaly.Params(price_outliers.Params(level=80, window=9))
    prices = 60_000 * np.exp(np.random.default_rng(2).standard_normal(300) * 1e-4)
    prices[::20] *= 1.02
    ticks = made(prices)
    expected = anomaly_reference.flags(ticks, 0.01, params)
    assert sum(expected[0]) >= 5
    assert fold(ticks, of_size(70, 300), params=params) == expected
    assert fold(ticks, [slice(None)], params=params) == expected


@given(st.data(), st.sampled_from(SHORT))
@settings(max_examples=50, deadline=None)
def test_a_saved_state_continues_equal(draw: st.DataObject, params: anomaly.Params) -> None:
    ticks = draw.draw(worlds())
    state, parts = anomaly.init(params, 0.01), list[anomaly.Flagged]()
    for cut in draw.draw(splits(len(ticks))):
        parts.append(anomaly.step(state, ticks[cut]))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=anomaly.State)
    assert joined(parts) == fold(ticks, [slice(None)], params=params)


@given(worlds(), st.integers(-20, 20), st.integers(-40, 40))
@settings(max_examples=50, deadline=None)
def test_neither_the_price_level_nor_the_unit_of_sizes_matters(ticks: Ticks, prices: int, sizes: int) -> None:
    scaled = ticks.copy()
    scaled["price"] *= 2.0**prices
    scaled["size"] *= 2.0**sizes
    for params in SHORT:
        expected = fold(ticks, [slice(None)], 0.01, params)
        assert fold(scaled, of_size(5, len(ticks)), 0.01 * 2.0**prices, params) == expected


@given(st.lists(st.booleans(), min_size=1), st.integers(1, 9))
@settings(deadline=None)
def test_counts_are_of_the_whole_window_before(mask: list[bool], window: int) -> None:
    expected = [sum(mask[at - window : at]) for at in range(window, len(mask))]
    assert price_outliers._counts(np.array(mask), window).tolist() == expected


@given(st.data(), st.integers(60, 200), st.sampled_from([1.5, 2.0, 4.0]))
@settings(max_examples=50, deadline=None)
def test_no_threshold_of_the_next_sizes_is_below_the_cut(draw: st.DataObject, window: int, z: float) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    params = size_outliers.Params(window, 6, z)
    logs = rng.standard_normal(draw.draw(st.integers(2, window))) * draw.draw(st.sampled_from([1e-6, 1, 10]))
    cut = size_outliers._cut(params, logs)
    later = logs.mean() + draw.draw(st.floats(-6, 6)) * logs.std()
    for count in (0, 1, 5, 20, 40, size_outliers._FEW - 1):
        known = np.append(logs, np.full(count, later))[-window:]
        assert known.mean() + z * known.std(ddof=1) > cut
    assert cut < logs.mean() + z * logs.std(ddof=1)


def test_a_cut_is_near_the_threshold() -> None:
    logs = np.random.default_rng(5).standard_normal(500)
    assert 3.5 < size_outliers._cut(size_outliers.Params(), logs) < 4.1
    assert size_outliers._cut(size_outliers.Params(window=48), logs[:48]) == -np.inf


def wobbling(count: int) -> Floats:
    """Give prices that alternate between two ticks, MAD and standard deviation not 0."""
    return np.where(np.arange(count) % 2, 60_000.01, 60_000.0)


def test_a_lone_spike_is_flagged_once_and_the_return_is_not() -> None:
    prices = wobbling(200)
    prices[150] *= 1.001
    assert np.flatnonzero(fold(made(prices), [slice(None)])[0]).tolist() == [150]
    assert fold(made(prices), of_size(3, 200)) == fold(made(prices), [slice(None)])


def test_a_lasting_jump_stops_being_flagged_after_three_trades() -> None:
    prices = wobbling(200)
    prices[150:] *= 0.999
    assert np.flatnonzero(fold(made(prices), [slice(None)])[0]).tolist() == [150, 151, 152]


@pytest.mark.parametrize(("spike", "flagged"), [(104, False), (105, True)])
def test_prices_need_105_trades_before_them(spike: int, *, flagged: bool) -> None:
    prices = wobbling(120)
    prices[spike] *= 1.01
    for batches in (of_size(1, 120), [slice(None)]):
        assert bool(fold(made(prices), batches)[0][spike]) == flagged


@pytest.mark.parametrize(("large", "flagged"), [(99, False), (100, True)])
def test_sizes_need_100_trades_before_them(large: int, *, flagged: bool) -> None:
    sizes = 1 + np.arange(120) % 2 * 0.1
    sizes[large] = 10.0
    for batches in (of_size(1, 120), [slice(None)]):
        assert bool(fold(made(wobbling(120), sizes), batches)[1][large]) == flagged


def test_two_ticks_or_five_basis_points_are_no_outlier_whichever_is_more() -> None:
    flat = np.full(121, 100.0)
    for tick_size, moves in ((0.01, (0.0499, 0.0501)), (0.1, (0.2, 0.2005))):
        for move, flagged in zip(moves, (False, True), strict=True):
            got = fold(made(np.append(flat, 100.0 - move)), [slice(None)], tick_size)[0]
            assert bool(got[-1]) == flagged
            assert sum(got) == flagged


def test_sizes_that_are_all_equal_have_no_outlier_after_them() -> None:
    for value in (0.1, 1e-8, 1e12, 3.3):
        sizes = np.full(900, value)
        sizes[[700, 899]] *= 1_000
        for batches in (of_size(3, 900), [slice(None)], of_size(100, 900)):
            assert np.flatnonzero(fold(made(wobbling(900), sizes), batches)[1]).tolist() == [899]
    small = np.full(300, 7.7)
    small[:10] *= 1e9  # leave no window before the last
    assert sum(fold(made(wobbling(300), small), of_size(2, 300))[1]) == 0


def test_small_sizes_are_never_flagged() -> None:
    sizes = 1 + np.arange(300) % 2 * 0.1
    sizes[250] = 1e-8
    assert sum(fold(made(wobbling(300), sizes), [slice(None)])[1]) == 0


@pytest.mark.parametrize("count", [0, 1, 5, 6, 105, 106])
def test_few_ticks_or_none_are_not_flagged(count: int) -> None:
    for ticks in (made(np.full(count, 1e-8)), made(wobbling(count))):
        assert fold(ticks, [slice(None), slice(0, 0)]) == ([0] * count, [0] * count)
    got = anomaly.step(anomaly.init(), EMPTY)
    assert got.price.dtype == got.size.dtype == np.dtype(np.int8)
    assert len(got.price) == len(got.size) == 0


def test_a_state_is_small_in_a_journals_head() -> None:
    rng = np.random.default_rng(1)
    state = anomaly.init(tick_size=0.01)
    anomaly.step(state, made(60_000 + rng.random(5_000), rng.random(5_000)))
    assert len(msgspec.msgpack.encode(state)) < 6_000
