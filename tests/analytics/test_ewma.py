from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import ewma
from analytics.ewma import Averages
from analytics.steps import Floats, Trades
from tests.analytics.worlds import splits

HALF_LIVES = (3.0, 20.0, 7.5)
Way: TypeAlias = Callable[[ewma.State, Floats, Floats, Floats], list[Averages]]


def world(seed: int, size: int, busy: float = 0.6) -> tuple[Floats, Floats, Floats]:
    """Make turnover, signed turnover and returns; the first step has trades and no return."""
    rng = np.random.default_rng(seed)
    traded = rng.random(size) < busy
    traded[0] = True
    turnover = np.where(traded, rng.lognormal(3, 2, size), 0.0)
    signed = turnover * rng.uniform(-1, 1, size)
    changes = np.where(traded & (rng.random(size) < 0.7), rng.normal(0, 1e-4, size), 0.0)
    changes[0] = 0.0
    return turnover, signed, changes


def one_by_one(state: ewma.State, turnover: Floats, signed: Floats, changes: Floats) -> list[Averages]:
    columns = zip(turnover.tolist(), signed.tolist(), changes.tolist(), strict=True)
    return [
        ewma.add(state, Trades(0, 1.0, 1.0, 1.0, 0.0, 0.0, paid, flow) if paid else None, change)
        for paid, flow, change in columns
    ]


def at_once(state: ewma.State, turnover: Floats, signed: Floats, changes: Floats) -> list[Averages]:
    columns = ewma.extend(state, turnover, signed, abs(changes))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Averages(m, None if math.isnan(f) else f, c, s) for m, f, c, s in rows]


def by_pandas(turnover: Floats, signed: Floats, changes: Floats) -> list[Averages]:
    def mean(column: Floats, which: int) -> Floats:
        values: Floats = pd.Series(column).ewm(halflife=HALF_LIVES[which]).mean().to_numpy()
        return values

    moves = abs(changes)
    mass = mean(turnover, 0) / mean(turnover, 1)
    with np.errstate(invalid="ignore"):
        friction = mean(moves, 0) / mean(turnover, 0) / (mean(moves, 1) / mean(turnover, 1))
    score = (1 + mean(signed, 0) / mean(turnover, 0)) / 2
    rows = zip(mass, friction, score, np.sqrt(mean(moves**2, 2)), strict=True)
    return [Averages(m, None if math.isnan(f) else f, c, s) for m, f, c, s in rows]


def close(a: list[Averages], b: list[Averages]) -> bool:
    nulls = [row.friction is None for row in a] == [row.friction is None for row in b]
    return nulls and np.allclose(numbers(a), numbers(b), rtol=1e-9, atol=0.0)


def numbers(rows: list[Averages]) -> Floats:
    return np.array([[x or 0.0 for x in row] for row in rows])


@given(st.data())
@settings(deadline=None)
def test_steps_one_by_one_and_at_once_give_what_pandas_gives(draw: st.DataObject) -> None:
    size, busy = draw.draw(st.integers(1, 300)), draw.draw(st.sampled_from([0.02, 0.3, 0.9]))
    columns = world(draw.draw(st.integers(0, 2**32)), size, busy)
    state, rows = ewma.init(*HALF_LIVES), list[Averages]()
    for cut in draw.draw(splits(size)):
        way = draw.draw(st.sampled_from([one_by_one, at_once]))
        rows += way(state, *(column[cut] for column in columns))
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ewma.State)
    assert close(rows, by_pandas(*columns))


def test_the_first_values_are_the_first_step() -> None:
    state = ewma.init(60, 600, 300)
    assert one_by_one(state, *(np.array([x]) for x in (5.0, -5.0, 0.0))) == [Averages(1.0, None, 0.0, 0.0)]


def test_whole_portions_at_the_defaults_give_what_single_steps_give() -> None:
    columns = world(1, 6 * ewma.PORTION)
    a, b = ewma.init(60, 600, 300), ewma.init(60, 600, 300)
    portions = [slice(i, i + ewma.PORTION) for i in range(0, 6 * ewma.PORTION, ewma.PORTION)]
    rows = [row for cut in portions for row in at_once(a, *(column[cut] for column in columns))]
    assert close(rows, one_by_one(b, *columns))
    assert np.allclose(a.weights, [1 / (1 - 2 ** (-1 / h)) for h in (60, 600, 300)], rtol=1e-2)


def test_the_shortest_half_life_fits_a_portion() -> None:
    columns = world(2, ewma.PORTION)
    a, b = ewma.init(2, 2, 2), ewma.init(2, 2, 2)
    rows = at_once(a, *columns)
    assert close(rows, one_by_one(b, *columns))
    assert np.isfinite(numbers(rows)).all()


@pytest.mark.parametrize("way", [one_by_one, at_once])
def test_a_long_silence_fades_all_sums_by_the_same_power(way: Way) -> None:
    columns = world(3, 500)
    columns[0][-1] = 7.0  # the last step has trades
    state = ewma.init(60, 600, 300)
    last = one_by_one(state, *columns)[-1]
    silence = (np.zeros(1_000),) * 3
    for _ in range(20):
        rows = at_once(state, *silence)
    rows += way(state, *(column[:3] for column in silence))
    assert {row.score for row in rows} == {last.score}
    assert all(row.friction == pytest.approx(last.friction, rel=1e-12) for row in rows)
    assert rows[-1].sigma == pytest.approx(
        math.sqrt(state.sums.squares * 2 ** (-20_003 / 300) / state.weights[2]), rel=1e-12
    )


@pytest.mark.parametrize("way", [one_by_one, at_once])
def test_moves_of_days_ago_do_not_end_among_floats_without_digits(way: Way) -> None:
    """At one price |r| halves every 200 steps and turnover stays: after 220,000 steps 1e-331 is left."""
    state = ewma.init(20, 200, 100)
    one_by_one(state, *world(4, 100))
    ones, zeros = np.ones(1_000), np.zeros(1_000)
    frictions = {at_once(state, ones, ones, zeros)[-1].friction for _ in range(220)}
    rows = way(state, ones[:5], ones[:5], zeros[:5])
    assert all(x is None or 0.0 <= x < 1.0 for x in frictions)
    assert {row.friction for row in rows} == {None}
