from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import sliding
from analytics.sliding import Window
from analytics.steps import Floats, Trades
from tests.analytics.worlds import splits

Step: TypeAlias = list[tuple[float, float]]
"""Prices and sizes of its trades."""

Way: TypeAlias = Callable[[Window, list[Step], list[float]], list[float | None]]

PRICES = st.sampled_from([6_170.0, 61_700.01, 61_700.02, 61_850.5, 617_000.0])
STEPS = st.lists(st.tuples(PRICES, st.sampled_from([1e-8, 0.013, 1.0, 250.0])), max_size=3)


def trades(step: Step) -> Trades | None:
    """Add up the trades of a step."""
    if not step:
        return None
    first = step[0][0]
    size = math.fsum(q for _, q in step)
    mean = math.fsum(q * (p - first) for p, q in step) / size
    squares = math.fsum(q * (p - first - mean) ** 2 for p, q in step)
    return Trades(0, first, step[-1][0], size, mean, squares, 0.0, 0.0)


class Exact(NamedTuple):
    distance: float | None
    sigma: float = 1.0


def exact(window: list[Step], price: float) -> Exact:
    """Compute |price - mean| / deviation without rounding before the root."""
    every = [(Fraction(p), Fraction(q)) for step in window for p, q in step]
    total = sum(q for _, q in every)
    if not total:
        return Exact(None)
    mean = sum(p * q for p, q in every) / total
    sigma = math.sqrt(sum((p - mean) ** 2 * q for p, q in every) / total)
    if sigma <= 1e-9 * price:
        return Exact(0.0)
    return Exact(float(abs(Fraction(price) - mean)) / sigma, sigma)


def closes(steps: list[Step]) -> list[float]:
    price, out = 1.0, list[float]()
    for step in steps:
        price = step[-1][0] if step else price
        out.append(price)
    return out


def one_by_one(window: Window, steps: list[Step], prices: list[float]) -> list[float | None]:
    return [sliding.add(window, price, trades(step)) for price, step in zip(prices, steps, strict=True)]


def at_once(window: Window, steps: list[Step], prices: list[float]) -> list[float | None]:
    table: Floats = np.array([trades(step) or (0.0,) * 8 for step in steps]).T
    found = sliding.extend(window, np.array(prices), table).tolist()
    return [None if math.isnan(x) else x for x in found]


def wrong(found: list[float | None], expected: list[Exact]) -> list[tuple[float | None, Exact]]:
    """Tell what is not equal to 1e-9; what the last digits of the dearest price hide cannot be."""
    return [
        (x, want)
        for x, want in zip(found, expected, strict=True)
        if (x is None) != (want.distance is None)
        or abs((x or 0.0) - (want.distance or 0.0)) > 1e-9 * (want.distance or 0.0) + 1e-9 / want.sigma
    ]


@given(st.lists(STEPS, min_size=1, max_size=40), st.data())
@settings(deadline=None)
def test_distances_equal_those_of_exact_arithmetic(steps: list[Step], draw: st.DataObject) -> None:
    length, prices = draw.draw(st.integers(1, 25)), closes(steps)
    window, found = sliding.window(length), list[float | None]()
    for cut in draw.draw(splits(len(steps))):
        way = draw.draw(st.sampled_from([one_by_one, at_once]))
        found += way(window, steps[cut], prices[cut])
        window = msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=Window)
    expected = [exact(steps[max(0, n + 1 - length) : n + 1], price) for n, price in enumerate(prices)]
    assert wrong(found, expected) == []


@pytest.mark.parametrize("way", [one_by_one, at_once])
def test_a_spike_leaves_nothing_behind(way: Way) -> None:
    rng = np.random.default_rng(1)
    steps: list[Step] = [[(61_700 + int(rng.integers(100)) / 100, float(rng.random()))] for _ in range(40)]
    spike: list[Step] = [[(617_000.0, 1e12)]]
    a, b = sliding.window(12), sliding.window(12)
    found = way(a, spike + steps, closes(spike + steps))
    assert found[13:] == pytest.approx(way(b, steps, closes(steps))[12:], rel=1e-9)


def test_a_tick_apart_keeps_its_digits() -> None:
    """The deviation is 1e-8 of the price: squares of prices would leave none of its digits."""
    steps: list[Step] = [[(68_424.82, 5.0), (68_424.83, 0.02)], *[[(68_424.82, 5.0)]] * 30]
    expected = [exact(steps[: n + 1], 68_424.83 if not n else 68_424.82) for n in range(31)]
    for way in (one_by_one, at_once):
        found = way(sliding.window(900), steps, closes(steps))
        assert found == pytest.approx([x.distance for x in expected], rel=1e-9)


def test_after_a_jump_one_price_has_no_deviation() -> None:
    steps: list[Step] = [[(100.0, 1.0)], [(100.1, 3.0)], *[[]] * 10, *[[(117.3, 0.7)]] * 25]
    for way in (one_by_one, at_once):
        found = way(sliding.window(10), steps, closes(steps))
        assert found[11] is None
        assert found[12:] == [0.0] * 25


@given(st.lists(st.integers(-100, 100), max_size=100), st.integers(1, 30), st.data())
def test_a_ring_gives_back_what_it_took_one_turn_before(
    values: list[int], length: int, draw: st.DataObject
) -> None:
    ring, seen, olds = bytearray(length), 0, list[int]()
    for cut in draw.draw(splits(len(values))) if values else []:
        olds += sliding.exchange(ring, "b", seen, values[cut])
        seen += cut.stop - cut.start
    assert olds == ([0] * length + values)[: len(values)]


@given(st.integers(0, 1_000), st.integers(0, 200), st.integers(1, 50))
def test_pieces_follow_each_other_and_stay_inside_the_ring(seen: int, count: int, length: int) -> None:
    pieces = sliding.pieces(seen, count, length)
    assert sum(end - start for start, end, _ in pieces) == count
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert all(at == (seen + start) % length and at + end - start <= length for start, end, at in pieces)
