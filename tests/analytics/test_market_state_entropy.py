from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import entropy
from analytics.steps import Floats
from tests.analytics.worlds import splits

EDGES = (-1.5, -0.75, -0.25, 0.25, 0.75, 1.5)
MOVES = st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 0.7, 1.5, 9.0]), min_size=1, max_size=150)


def expected(moves: list[float], sigmas: list[float], length: int, needs: int) -> list[float | None]:
    bins = list[int]()
    for r, sigma in zip(moves, [0.0, *sigmas], strict=False):
        bins.append(sum(r / sigma >= edge for edge in EDGES) if sigma else 3 if r == 0 else 6 if r > 0 else 0)
    out = list[float | None]()
    for n in range(1, len(moves) + 1):
        window = bins[max(0, n - length) : n]
        shares = [window.count(b) / len(window) for b in range(7)]
        full = -sum(f * math.log(f) for f in shares if f) / math.log(7)
        out.append(full if n >= needs else None)
    return out


def one_by_one(state: entropy.State, moves: Floats, sigmas: Floats) -> list[float | None]:
    return [entropy.add(state, r, s) for r, s in zip(moves.tolist(), sigmas.tolist(), strict=True)]


@given(MOVES, st.data())
@settings(deadline=None)
def test_each_step_gives_shannons_formula_over_the_window(moves: list[float], draw: st.DataObject) -> None:
    length = draw.draw(st.integers(1, 40))
    needs = draw.draw(st.integers(1, length))
    sigmas = draw.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=len(moves), max_size=len(moves)))
    state, found = entropy.init(length, needs), list[float | None]()
    for cut in draw.draw(splits(len(moves))):
        way = draw.draw(st.sampled_from([one_by_one, entropy.extend]))
        found += way(state, np.array(moves[cut]), np.array(sigmas[cut]))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=entropy.State)
    wanted = expected(moves, sigmas, length, needs)
    assert [x is None for x in found] == [x is None for x in wanted]
    assert np.allclose([x or 0.0 for x in found], [x or 0.0 for x in wanted], rtol=1e-12, atol=1e-12)


def test_one_size_of_moves_has_none_and_all_sizes_have_all() -> None:
    quiet, mixed = entropy.init(300, 30), entropy.init(70, 30)
    assert entropy.extend(quiet, np.zeros(400), np.zeros(400)) == [None] * 29 + [0.0] * 371
    every = np.tile([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], 20)
    entropy.add(mixed, 0.0, 1.0)  # its bin has left when the last comes
    (*_, last) = entropy.extend(mixed, every, np.ones(140))
    assert last == pytest.approx(1.0, rel=1e-12)
    assert last is not None
    assert last <= 1.0


def test_the_entropy_of_a_gaussian_walk() -> None:
    moves = np.random.default_rng(1).normal(0, 1, 60_000)
    state = entropy.init(50_000, 30)
    (*_, last) = entropy.extend(state, moves, np.ones(60_000))
    assert last == pytest.approx(0.965, abs=0.001)
