"""Prices in rows and back, and the walk on profiles larger than it looks at in one go."""

from __future__ import annotations

from decimal import Decimal
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.profile_area import area
from analytics.profile_rows import prices_of, row_of, rows_of, tick_size_of
from tests.analytics.profile_worlds import walked
from tests.recordings import HERE, trades

TICK_SIZES = (1e-8, 5e-7, 0.0001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)


@settings(deadline=None)
@given(st.sampled_from(TICK_SIZES), st.integers(1, 10**14), st.sampled_from([1, 2, 25]))
def test_a_multiple_of_the_tick_is_found_and_given_back(tick_size: float, ticks: int, bin_ticks: int) -> None:
    price = float(ticks * Decimal(repr(tick_size)))
    row = row_of(price, tick_size, bin_ticks)
    assert row == ticks // bin_ticks
    lower = float(row * bin_ticks * Decimal(repr(tick_size)))
    assert prices_of([row], tick_size, bin_ticks) == [lower]


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-8, 1e300), min_size=1, max_size=20),
    st.sampled_from(TICK_SIZES),
    st.sampled_from([1, 7]),
)
def test_many_prices_are_placed_as_one_by_one(prices: list[float], tick_size: float, bin_ticks: int) -> None:
    rows = [row_of(price, tick_size, bin_ticks) for price in prices]
    assert rows_of(np.array(prices), tick_size, bin_ticks).tolist() == rows


@pytest.mark.parametrize(
    ("price", "row"),
    [(240.08379343, 24_008_379_343), (240.083793429, 24_008_379_342), (0.00141342, 141_342)],
)
def test_a_price_of_many_ticks_is_on_its_own(price: float, row: int) -> None:
    assert floor(240.08379343 / 1e-8 + 1e-6) == 24_008_379_342  # what a fixed tolerance makes of it
    assert row_of(price, 1e-8, 1) == row


@pytest.mark.parametrize(
    ("price", "row"),
    [(10.0099, 1000), (10.009999, 1000), (10.00999999, 1001), (10.01 - 1e-12, 1001), (10.01 + 1e-12, 1001)],
)
def test_a_price_between_ticks_is_rounded_down(price: float, row: int) -> None:
    assert row_of(price, 0.01, 1) == row


def test_a_price_is_written_as_its_decimal() -> None:
    assert 6_012_345 * 0.01 != 60_123.45
    assert prices_of([6_012_345], 0.01, 1) == [60_123.45]
    assert prices_of([141_342, 3], 1e-8, 1) == [0.00141342, 3e-8]
    assert prices_of([2_404_938], 0.025, 1) == [60_123.45]


@pytest.mark.parametrize(
    ("prices", "tick_size"),
    [
        ([], 0.0),
        ([61_837.63, 61_837.5, 61_837.0], 0.01),
        ([61_837.0, 61_800.0], 1.0),
        ([100.0, 1_000.0], 1.0),
        ([0.00141342, 0.0014], 1e-8),
        ([0.0027199900000000003, 0.002666], 1e-8),
        ([1e-08], 1e-8),
        ([1e21], 1.0),
        ([0.5], 0.1),
    ],
)
def test_the_tick_is_the_smallest_decimal_step_seen(prices: list[float], tick_size: float) -> None:
    assert tick_size_of(prices) == tick_size
    assert tick_size_of(prices * 3) == tick_size


def test_the_tick_of_recorded_prices_is_the_venues() -> None:
    data = trades(HERE / "binance_spot_btcusdt_20260216.csv.gz")
    assert tick_size_of(data["price"][:1_000].tolist()) == 0.01


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("filled", [1.0, 0.999, 0.9, 0.3])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("size", [40, 45_000])
def test_the_walk_through_a_large_profile(size: int, share: float, filled: float, step: int) -> None:
    rng = np.random.default_rng([size, int(1_000 * filled), step])
    rows = np.flatnonzero(rng.random(size) < filled) + 6_000_000
    height = np.exp(-(((rows - rows.mean()) / size * 3) ** 2))
    units = 1 + np.floor(rng.exponential(1_000, len(rows)) * height).astype(np.int64)
    expected = walked(
        {row: Decimal(unit) for row, unit in zip(rows.tolist(), units.tolist(), strict=True)},
        Decimal(repr(share)),
        step,
    )
    assert area(rows, units / 1e5, share, step) == expected


@given(st.integers(0, 2**32), st.integers(1, 99), st.sampled_from([1, 2]), st.sampled_from([2, 9]))
@settings(max_examples=40, deadline=None)
def test_ties_where_one_look_ends_and_the_next_begins(seed: int, share: int, step: int, most: int) -> None:
    units = np.random.default_rng(seed).integers(1, most, 3_000).astype(float)
    units[1_500] = 10.0
    volumes = {row: Decimal(int(unit)) for row, unit in enumerate(units)}
    assert area(np.arange(3_000), units, share / 100, step) == walked(volumes, Decimal(share) / 100, step)


@pytest.mark.parametrize("step", [1, 2])
def test_the_walk_through_a_profile_of_equal_rows(step: int) -> None:
    rows = np.arange(30_001)
    found = area(rows, np.full(len(rows), 0.1), 0.7, step)
    assert found == (15_000, 30_000, 9_000)  # equal sums: above, to the end, and then what is missing below
