from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import tail
from tests.analytics.worlds import splits

LOGS = st.one_of(
    st.just(tail.NONE),
    st.sampled_from([-9.0, -9.5, -12.25, 0.0]),  # ties, also with a return of 1
    st.floats(-20, 1),
)


def hill(window: list[float], share: float, least_k: int, needs: int) -> float | None:
    x = sorted((y for y in window if y > tail.NONE), reverse=True)
    k = max(least_k, math.floor(share * len(x) + 1e-9))
    if len(x) < max(needs, k + 1):
        return None
    bracket = sum(y - x[k] for y in x[:k]) / k
    return min(10.0, 1 / bracket) if bracket else 10.0


def same(a: list[float | None], b: list[float | None]) -> bool:
    return [x is None for x in a] == [x is None for x in b] and np.allclose(
        [x or 0.0 for x in a], [x or 0.0 for x in b], rtol=1e-9, atol=0.0
    )


@given(st.lists(LOGS, min_size=1, max_size=200), st.data())
@settings(deadline=None)
def test_each_step_gives_hills_formula_over_the_window(logs: list[float], draw: st.DataObject) -> None:
    length = draw.draw(st.integers(1, 60))
    share, least_k = draw.draw(st.sampled_from([0.05, 0.29, 0.5, 1.0])), draw.draw(st.integers(1, 5))
    needs = draw.draw(st.integers(1, 20))
    state, found = tail.init(length, share, least_k, needs), list[float | None]()
    for cut in draw.draw(splits(len(logs))):
        found += tail.step(state, logs[cut])
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=tail.State)
    windows = [logs[max(0, n + 1 - length) : n + 1] for n in range(len(logs))]
    expected = [hill(window, share, least_k, needs) for window in windows]
    assert same(found, expected)


def test_equal_returns_have_the_thinnest_tail() -> None:
    state = tail.init(1_800, 0.05, 10, 100)
    assert tail.step(state, [-9.1] * 150) == [None] * 99 + [10.0] * 51


def test_a_share_of_a_hundred_is_not_short_by_a_float() -> None:
    state = tail.init(200, 0.29, 1, 100)
    logs = np.log(np.arange(1, 101)).tolist()
    (*_, alpha) = tail.step(state, logs)
    assert state.k == 29  # while int(0.29 * 100) is 28
    assert alpha == pytest.approx(hill(logs, 0.29, 1, 100), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.8, 1.5, 3.0, 5.0])
def test_a_pareto_tail_is_found_within_three_standard_errors(alpha: float) -> None:
    logs = np.log(1e-6 * (1 - np.random.default_rng(1).random(1_800)) ** (-1 / alpha)).tolist()
    (*_, found) = tail.step(tail.init(1_800, 0.05, 10, 100), logs)
    assert found is not None
    assert abs(found - alpha) < 3 * alpha / math.sqrt(90)


def test_a_spike_leaves_nothing_behind() -> None:
    rng = np.random.default_rng(2)
    logs = (-9 + rng.normal(0, 1, 600)).tolist()
    a, b = (tail.init(300, 0.05, 10, 100) for _ in range(2))
    tail.step(a, [700.0] * 300)
    assert tail.step(a, logs)[300:] == tail.step(b, logs)[300:]


def test_what_is_saved_is_the_ring_alone() -> None:
    state = tail.init(1_800, 0.05, 10, 100)
    tail.step(state, np.random.default_rng(3).normal(-9, 1, 4_000).tolist())
    saved = msgspec.msgpack.encode(state)
    assert len(saved) < 1_800 * 8 + 100
    assert msgspec.msgpack.decode(saved, type=tail.State).ranks == state.ranks
