from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import atr
from market.rows import Candle
from market.times import NS_PER_S
from tests.recordings import beside, table

PRICES = st.integers(1, 200).map(lambda ticks: ticks / 100)


def bar(opened: float, high: float, low: float, close: float, k: int = 0) -> Candle:
    return Candle(k * 60 * NS_PER_S, opened, high, low, close, 1.0, 1.0, 0.0, close, 1, True, 0)


@st.composite
def bars(draw: st.DrawFn, max_size: int = 60) -> list[Candle]:
    """Draw bars of any shape, one-price bars and jumps between bars included."""
    rows = draw(st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES), max_size=max_size))
    return [bar(o, max(o, a, b, c), min(o, a, b, c), c, k) for k, (o, a, b, c) in enumerate(rows)]


def reference(rows: list[Candle], n: int) -> list[float | None]:
    """Compute each value of §5 from the whole list, in exact arithmetic."""
    out: list[float | None] = []
    for end in range(1, len(rows) + 1):
        ranges: list[Fraction] = []
        for i, row in enumerate(rows[:end]):
            high, low = Fraction(row.high), Fraction(row.low)
            reaches = [high - low]
            if i:
                before = Fraction(rows[i - 1].close)
                reaches += [abs(high - before), abs(low - before)]
            ranges.append(max(reaches))
        if end < n:
            out.append(None)
            continue
        value = sum(ranges[:n], Fraction(0)) / n
        for reach in ranges[n:]:
            value = ((n - 1) * value + reach) / n
        out.append(float(value))
    return out


def fold(rows: list[Candle], n: int) -> list[float | None]:
    state = atr.init(n)
    return [atr.step(state, row) for row in rows]


def recorded(path: Path) -> list[Candle]:
    rows = table(path)
    return [
        bar(float(row["open"]), float(row["high"]), float(row["low"]), float(row["close"]), k)
        for k, row in enumerate(rows)
    ]


def same(got: list[float | None], expected: list[float | None]) -> bool:
    return [x is None for x in got] == [x is None for x in expected] and all(
        math.isclose(x or 0.0, y or 0.0, rel_tol=1e-9, abs_tol=1e-14)
        for x, y in zip(got, expected, strict=True)
    )


@given(bars(), st.integers(1, 20))
@settings(deadline=None)
def test_it_equals_the_definition_in_exact_arithmetic(rows: list[Candle], n: int) -> None:
    assert same(fold(rows, n), reference(rows, n))


@given(bars(), st.integers(1, 20))
@settings(deadline=None)
def test_a_saved_state_continues_equal(rows: list[Candle], n: int) -> None:
    state, out = atr.init(n), []
    for row in rows:
        out.append(atr.step(state, row))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=atr.State)
    assert out == fold(rows, n)


@pytest.mark.parametrize(
    "name", ["kraken_xbtusdt_1m_official_20251110_part1", "freqtrade_xrpeth_5m_2019_part1"]
)
def test_it_equals_the_definition_on_published_bars(name: str) -> None:
    rows = recorded(beside(f"bars/{name}.csv.gz"))[:150]
    got = fold(rows, 14)
    assert same(got, reference(rows, 14))
    assert [value is None for value in got] == [k < 13 for k in range(len(rows))]


def test_the_first_value_is_a_mean_and_the_next_are_smoothed() -> None:
    rows = [bar(10, 11, 9, 10) for _ in range(3)] + [bar(10, 16, 10, 15), bar(20, 20, 20, 20)]
    assert fold(rows, 3) == [None, None, 2.0, (2 * 2.0 + 6) / 3, (2 * (10 / 3) + 5) / 3]


def test_bars_of_one_price_have_no_range() -> None:
    assert fold([bar(5, 5, 5, 5)] * 20, 14) == [None] * 13 + [0.0] * 7
