"""Averages of turnover and moves, faded by half-life (definitions §0 and §6).

E_h[x] is N / D with N <- 2^(-1/h) N + x and D <- 2^(-1/h) D + 1 at every step, both from 0: the first
value is the first x. A step without trades adds nothing to N, so N stands as of the last step with trades and
is faded over a whole silence at once. Taken step by step it would end among the smallest floats after some
hours and stay there, and the ratio of two sums with it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from analytics.steps import Floats, Trades

PORTION = 1_024
"""Steps at a time: 2^(1/h) to this power is still a float, half-lives being at least 2."""

_LEAST = 1e-290
"""Of sums of moves, which trades at one price fade for days: smaller floats have no digits."""

_HALF_LIFE = [0, 0, 0, 1, 1, 2]
"""Of each of `Sums`, which of the three."""

Three: TypeAlias = tuple[float, float, float]
"""Of the fast, the slow and the volatility's average."""


class Sums(NamedTuple):
    """N of turnover, signed turnover, |return| and its square."""

    fast_turnover: float = 0.0
    fast_signed: float = 0.0
    fast_moves: float = 0.0
    slow_turnover: float = 0.0
    slow_moves: float = 0.0
    squares: float = 0.0


class State(msgspec.Struct):
    """Half-lives in steps, D of each, and N as of the last step with trades."""

    half_lives: Three
    weights: Three = (0.0, 0.0, 0.0)
    sums: Sums = Sums()
    silent: int = 0  # steps since the last trade


class Averages(NamedTuple):
    """What follows after a step; sigma is the volatility of one."""

    mass: float
    friction: float | None
    score: float
    sigma: float


class Columns(NamedTuple):
    """The same after each of many steps; friction is NaN where there is none."""

    mass: Floats
    friction: Floats
    score: Floats
    sigma: Floats


def init(fast: float, slow: float, volatility: float) -> State:
    """Begin with half-lives in steps: at least 2, `fast` at most `slow`."""
    return State((fast, slow, volatility))


def add(state: State, trades: Trades | None, change: float) -> Averages:
    """Take the trades and the return of the next step; the first of all has trades."""
    (fast, slow, squares), (d_fast, d_slow, d_squares) = state.half_lives, state.weights
    d_fast = d_fast * _left(fast, 1) + 1.0
    d_slow = d_slow * _left(slow, 1) + 1.0
    d_squares = d_squares * _left(squares, 1) + 1.0
    state.weights = d_fast, d_slow, d_squares
    if trades is None:
        state.silent += 1
    else:
        state.sums, state.silent = _traded(state, trades, abs(change)), 0
    x, silent = state.sums, state.silent
    return Averages(
        x.fast_turnover / x.slow_turnover * _left_of_mass(state, silent) * (d_slow / d_fast),
        x.fast_moves / x.fast_turnover / (x.slow_moves / x.slow_turnover) if x.slow_moves else None,
        (1.0 + x.fast_signed / x.fast_turnover) / 2.0,
        math.sqrt(x.squares * _left(squares, silent) / d_squares),
    )


def extend(state: State, turnover: Floats, signed: Floats, moves: Floats) -> Columns:
    """Take up to PORTION steps at once; turnover is 0 in one without trades, `moves` are |returns|.

    N is summed in units that fade as it does: one running sum does for all steps since the first trade.
    """
    count, traded = len(turnover), np.flatnonzero(turnover)
    lead = int(traded[0]) if len(traded) else count  # steps of silence at first
    since = np.arange(count, dtype=np.float64)  # the time that N and its unit are as of
    since[:lead] += state.silent + 1
    since[lead:] -= lead
    units = _units(state.half_lives)
    sums = np.empty((len(_HALF_LIFE), count))
    sums[:, :lead] = np.array(state.sums)[:, None]
    if lead < count:
        parts = np.array((turnover, signed, moves, turnover, moves, moves * moves))[:, lead:]
        parts *= units[_HALF_LIFE, : count - lead]
        parts[:, 0] += _faded(state, state.silent + lead + 1)
        np.cumsum(parts, axis=1, out=sums[:, lead:])
        last = int(traded[-1])
        state.sums = _digits(Sums(*(sums[:, last] / units[_HALF_LIFE, last - lead]).tolist()))
        state.silent = -1 - last
    state.silent += count
    return _columns(state, sums, since, _weights(state, 1.0 / units[:, 1 : count + 1]))


def _columns(state: State, sums: Floats, since: Floats, weights: Floats) -> Columns:
    turnover, signed, moves, slow_turnover, slow_moves, squares = sums
    fast, slow, volatility = state.half_lives
    mass = turnover / slow_turnover * np.exp2(-since * (1.0 / fast - 1.0 / slow)) * (weights[1] / weights[0])
    with np.errstate(invalid="ignore"):  # 0 / 0 until the price has moved
        friction = moves / turnover / (slow_moves / slow_turnover)
    score = (1.0 + signed / turnover) / 2.0
    return Columns(mass, friction, score, np.sqrt(squares * np.exp2(-since / volatility) / weights[2]))


def _weights(state: State, left: Floats) -> Floats:
    """Let D grow, by the share of it that is left after each step."""
    weights = np.array(state.weights)[:, None] * left + (1.0 - left) / (1.0 - left[:, :1])
    state.weights = tuple(weights[:, -1].tolist())
    return weights


@cache
def _units(half_lives: Three) -> Floats:
    """Tell for each half-life what 1 now will be worth in the units of later steps."""
    units: Floats = np.exp2(np.arange(PORTION + 1) / np.array(half_lives)[:, None])
    return units


def _traded(state: State, trades: Trades, move: float) -> Sums:
    a, b, c, d, e, f = _faded(state, state.silent + 1)
    paid, flow = trades.turnover, trades.signed
    return _digits(Sums(a + paid, b + flow, c + move, d + paid, e + move, f + move * move))


def _faded(state: State, steps: int) -> Sums:
    fast, slow, squares = (_left(half_life, steps) for half_life in state.half_lives)
    a, b, c, d, e, f = state.sums
    return Sums(a * fast, b * fast, c * fast, d * slow, e * slow, f * squares)


def _digits(sums: Sums) -> Sums:
    """Let sums of moves end where floats have no digits left."""
    return sums if sums.slow_moves > _LEAST else sums._replace(fast_moves=0.0, slow_moves=0.0)


def _left(half_life: float, steps: int) -> float:
    """Tell what is left of a sum after `steps`."""
    return math.pow(2.0, -steps / half_life)


def _left_of_mass(state: State, steps: int) -> float:
    fast, slow, _ = state.half_lives
    return math.pow(2.0, -steps * (1.0 / fast - 1.0 / slow))
