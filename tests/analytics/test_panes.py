from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analytics.panes import Pane, _few, _many, merge, panes
from market.ticks import EMPTY, Ticks
from tests.analytics.worlds import MINUTE_NS, ticks
from tests.recordings import HERE, trades

SUMS = ("volume", "buy_volume", "sell_volume", "quote_volume")


def same(a: Pane, b: Pane) -> bool:
    exact = [name for name in Pane._fields if name not in SUMS]
    return all(getattr(a, x) == getattr(b, x) for x in exact) and np.allclose(
        [getattr(a, x) for x in SUMS], [getattr(b, x) for x in SUMS], rtol=1e-12, atol=0.0
    )


def all_same(a: list[Pane], b: list[Pane]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def test_nothing_gives_no_pane() -> None:
    assert panes(EMPTY, MINUTE_NS) == []


def test_one_trade_is_its_pane() -> None:
    day = trades(HERE / "binance_spot_btcusdt_20260216.csv.gz")[:1]
    key = (1771214400204000000, 5967339559)
    price, size = 68424.82, 0.00008
    assert panes(day, MINUTE_NS) == [
        Pane(price, price, price, price, size, size, 0.0, price * size, 1, key, key),
    ]


def test_the_loop_and_the_vectors_agree_on_recorded_trades() -> None:
    recorded = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    compared = 0
    for width_ns, expected in ((10**6, 6_000), (10**9, 600), (MINUTE_NS, 12)):
        a, b = _few(recorded, width_ns), _many(recorded, width_ns)
        assert len(a) >= expected
        assert all_same(a, b)
        compared += len(a)
    assert compared > 6_600


@given(ticks(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_irrelevant(data: Ticks, random: object) -> None:
    shuffled = data.copy()
    np.random.default_rng(random.randrange(2**32)).shuffle(shuffled)  # type: ignore[attr-defined]  # Random
    for make in (_few, _many):
        assert make(shuffled, MINUTE_NS) == make(data, MINUTE_NS)
    assert all_same(_few(data, MINUTE_NS), _many(data, MINUTE_NS))


@given(ticks(max_size=12))
def test_merging_is_associative_and_commutative(data: Ticks) -> None:
    singles = [panes(data[i : i + 1], 10**18)[0] for i in range(len(data))]
    whole = panes(data, 10**18)[0]
    assert same(reduce(merge, singles), whole)
    assert same(reduce(merge, reversed(singles)), whole)
    assert same(reduce(lambda right, left: merge(left, right), reversed(singles)), whole)
