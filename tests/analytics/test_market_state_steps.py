from __future__ import annotations

import math

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import steps
from analytics.steps import Steps, Trades
from market.ticks import Ticks
from market.times import NS_PER_S
from tests.analytics.state_worlds import made, ticks
from tests.analytics.worlds import START_NS, splits


def taken(data: Ticks, batches: list[slice]) -> list[Trades]:
    """Close every step with trades."""
    state, out = Steps(NS_PER_S), list[Trades]()
    for cut in batches:
        out += whole(steps.take(state, data[cut]))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Steps)
    return out + whole(steps.close(state, int(data["ts_ns"][-1]) + NS_PER_S))


def whole(closed: steps.Closed) -> list[Trades]:
    return closed if isinstance(closed, list) else [Trades(int(n), *rest) for n, *rest in closed.T.tolist()]


def added(data: Ticks) -> list[Trades]:
    out = list[Trades]()
    for number in np.unique(data["ts_ns"] // NS_PER_S).tolist():
        part = data[data["ts_ns"] // NS_PER_S == number]
        prices, sizes, sides = (part[name].tolist() for name in ("price", "size", "side"))
        total = math.fsum(sizes)
        mean = math.fsum((p - prices[0]) * q for p, q in zip(prices, sizes, strict=True)) / total
        squares = math.fsum((p - prices[0] - mean) ** 2 * q for p, q in zip(prices, sizes, strict=True))
        paid = [p * q for p, q in zip(prices, sizes, strict=True)]
        signed = math.fsum(x * side for x, side in zip(paid, sides, strict=True))
        out.append(Trades(number, prices[0], prices[-1], total, mean, squares, math.fsum(paid), signed))
    return out


def same(found: list[Trades], expected: list[Trades]) -> bool:
    """Compare prices exactly and sums to 1e-9 of what went into them."""
    if [x[:3] for x in found] != [x[:3] for x in expected]:
        return False
    return all(
        np.allclose((a.size, a.turnover, a.signed), (b.size, b.turnover, b.signed), rtol=1e-9, atol=1e-9)
        and np.allclose((a.mean, a.squares), (b.mean, b.squares), rtol=1e-9, atol=1e-12 * b.size)
        for a, b in zip(found, expected, strict=True)
    )


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_split_gives_the_sums_of_each_step(draw: st.DataObject) -> None:
    data = draw.draw(ticks(400))
    assert same(taken(data, draw.draw(splits(len(data)))), added(data))


def test_no_split_changes_turnover_by_a_bit() -> None:
    """Else a score of exactly 0.55 would be Bullish or not as the trades were batched."""
    data = made(1, 12_000, (-3, 0, 2), (-1, 1))
    data["ts_ns"] = START_NS + np.arange(12_000) * 3_000_000
    expected = taken(data, [slice(i, i + 1) for i in range(12_000)])
    for size in (3, 48, 49, 500, 5_000, 12_000):
        found = taken(data, [slice(i, i + size) for i in range(0, 12_000, size)])
        assert [(x.turnover, x.signed) for x in found] == [(x.turnover, x.signed) for x in expected]
        assert same(found, expected)


def test_one_sided_steps_are_exactly_one_sided() -> None:
    data = made(2, 3_000, (-3, 0, 2), (1,))
    data["side"] = np.where(data["ts_ns"] // NS_PER_S % 2, 1, -1)
    for found in (taken(data, [slice(None)]), taken(data, [slice(i, i + 1) for i in range(3_000)])):
        assert {x.signed / x.turnover for x in found} == {1.0, -1.0}


def test_an_outlier_first_in_its_step_costs_no_digits() -> None:
    data = made(3, 200, (0,), (1,))
    data["ts_ns"] = START_NS
    data["price"], data["size"] = 61_700.0 + np.arange(200) % 3 / 100, 10.0
    data["price"][0], data["size"][0] = 6_170.0, 1e-8
    for size in (1, 7, 100, 200):
        assert same(taken(data, [slice(i, i + size) for i in range(0, 200, size)]), added(data))
