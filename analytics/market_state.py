"""The market state ("physics", definitions §6): one row at the end of every step, from the first trade on.

Few steps are closed one by one, many as columns; both ways give the same. The volume-weighted price is
the reference of `nash_dist`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import log, log1p, sqrt

import msgspec
import numpy as np

from analytics import entropy, ewma, sliding, steps, tail
from analytics.steps import Closed, Floats, Steps, Trades
from market.rows import MarketState
from market.ticks import Ticks
from market.times import NS_PER_S

_FEW = 20
"""Up to here steps one by one are cheaper than a hundred numpy calls (15 to 25 µs each, against 400)."""


class Params(msgspec.Struct, frozen=True):
    """Half-lives and windows are in steps."""

    step_ns: int = NS_PER_S
    fast_half_life: float = 60.0
    slow_half_life: float = 600.0
    volatility_half_life: float = 300.0
    momentum_steps: int = 60
    entropy_steps: int = 300
    entropy_needs: int = 30
    equilibrium_steps: int = 900
    tail_steps: int = 1_800
    tail_share: float = 0.05
    tail_least: int = 10
    tail_needs: int = 100
    bullish: float = 0.55
    bearish: float = 0.45


class State(msgspec.Struct):
    params: Params
    steps: Steps
    averages: ewma.State
    entropy: entropy.State
    equilibrium: sliding.Window
    tail: tail.State
    prices: bytearray  # ring: at the ends of the last steps
    seen: int = 0  # steps closed
    price: float = 0.0  # at the end of the last of them


def init(params: Params | None = None) -> State:
    """Begin a pair; raises ValueError for parameters that make no sense."""
    p = params or Params()
    if not (2 <= p.fast_half_life <= p.slow_half_life and p.volatility_half_life >= 2):
        raise ValueError("half-lives: expected at least 2 steps, and the fast one not above the slow one")
    if min(p.step_ns, p.momentum_steps, p.entropy_steps, p.equilibrium_steps, p.tail_steps, p.tail_least) < 1:
        raise ValueError("steps, windows and the tail: expected at least 1")
    if p.entropy_needs > p.entropy_steps:
        raise ValueError(f"entropy needs {p.entropy_needs} steps of a window of {p.entropy_steps}")
    return State(
        p,
        Steps(p.step_ns),
        ewma.init(p.fast_half_life, p.slow_half_life, p.volatility_half_life),
        entropy.init(p.entropy_steps, p.entropy_needs),
        sliding.window(p.equilibrium_steps),
        tail.init(p.tail_steps, p.tail_share, p.tail_least, p.tail_needs),
        bytearray(8 * p.momentum_steps),
    )


def step(state: State, ticks: Ticks) -> list[MarketState]:
    """Take ticks in order; return a row for each step that they close.

    Raises ValueError, and changes nothing, if a tick belongs before the open step.
    """
    start = state.steps.number
    if start < 0 and len(ticks):
        start = int(ticks["ts_ns"][0]) // state.params.step_ns
    return _rows(state, start, steps.take(state.steps, ticks))


def advance(state: State, watermark_ns: int) -> list[MarketState]:
    """Let event time pass; return a row for each step that ends by then."""
    return _rows(state, state.steps.number, steps.close(state.steps, watermark_ns))


def closed_ns(state: State) -> int:
    """Tell the end of the last closed step, the start of the open one; -1 before the first trade."""
    return -1 if state.steps.number < 0 else state.steps.number * state.steps.width_ns


def next_close_ns(state: State) -> int | None:
    """Tell the end of the open step; None before the first trade."""
    return None if state.steps.number < 0 else (state.steps.number + 1) * state.steps.width_ns


def _rows(state: State, start: int, closed: Closed) -> list[MarketState]:
    """Close the steps from number `start` to the open one."""
    count = state.steps.number - start
    if count <= _FEW:
        return [_add(state, start + i, x) for i, x in enumerate(steps.one_by_one(closed, start, count))]
    table = steps.side_by_side(closed, start, count)
    rows: list[MarketState] = []
    for i in range(0, count, ewma.PORTION):
        rows += _extend(state, start + i, table[:, i : i + ewma.PORTION])
    return rows


def _add(state: State, number: int, trades: Trades | None) -> MarketState:
    """Close the next step."""
    p, price = state.params, state.price if trades is None else trades.last
    if not state.seen:
        _begin(state, price)
    change = _log_ratio(price, state.price)
    mass, friction, score, sigma = ewma.add(state.averages, trades, change)
    (old,) = sliding.exchange(state.prices, "d", state.seen, [price])
    state.seen, state.price = state.seen + 1, price
    velocity = _log_ratio(price, old) / (sigma * sqrt(p.momentum_steps)) if sigma else 0.0
    alphas = tail.step(state.tail, [log(abs(change)) if change else tail.NONE])
    return MarketState(
        (number + 1) * p.step_ns,
        mass,
        mass * velocity if state.seen >= p.momentum_steps else None,
        friction,
        entropy.add(state.entropy, change, sigma),
        sliding.add(state.equilibrium, price, trades),
        alphas[0],
        _regimes(alphas)[0],
        _labels(p, [score])[0],
        score,
    )


def _extend(state: State, start: int, table: Floats) -> list[MarketState]:
    """Close the steps from number `start`, a column of `table` each."""
    p, count, prices = state.params, table.shape[1], _prices(table, state.price)
    if not state.seen:
        _begin(state, float(prices[0]))
    changes = _log_ratios(prices, np.append(state.price, prices[:-1]))
    mass, friction, score, sigma = ewma.extend(state.averages, table[6], table[7], abs(changes))
    momentum = mass * _velocities(state, prices, sigma)
    state.seen, state.price = state.seen + count, float(prices[-1])
    with np.errstate(divide="ignore"):  # the logarithm of no return
        alphas = tail.step(state.tail, np.log(abs(changes)).tolist())
    scores = score.tolist()
    rows = zip(
        range((start + 1) * p.step_ns, (start + count + 1) * p.step_ns, p.step_ns),
        mass.tolist(),
        _known(momentum),
        _known(friction),
        entropy.extend(state.entropy, changes, sigma),
        _known(sliding.extend(state.equilibrium, prices, table)),
        alphas,
        _regimes(alphas),
        _labels(p, scores),
        scores,
        strict=True,
    )
    return list(map(tuple.__new__, repeat(MarketState), rows))  # at half the cost of MarketState(...)


def _begin(state: State, price: float) -> None:
    """Let the first step have no return, and the sum of returns begin with it."""
    state.price = price
    state.prices[:] = np.full(state.params.momentum_steps, price).tobytes()


def _prices(table: Floats, before: float) -> Floats:
    """Carry the last price over steps without trades."""
    _, _, last, size, *_ = table
    at = np.maximum.accumulate(np.where(size > 0.0, np.arange(len(size)), -1))
    return np.where(at < 0, before, last[at])


def _velocities(state: State, prices: Floats, sigma: Floats) -> Floats:
    """Divide the sum of the last returns by its volatility; NaN before there are enough."""
    p = state.params
    olds = np.array(sliding.exchange(state.prices, "d", state.seen, prices.tolist()))
    sums, scale = _log_ratios(prices, olds), sigma * sqrt(p.momentum_steps)
    out = np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0.0)
    out[: max(p.momentum_steps - 1 - state.seen, 0)] = np.nan
    return out


def _log_ratio(price: float, before: float) -> float:
    """Take ln(price / before): the quotient of two close prices would lose the digits of their difference."""
    change = (price - before) / before
    return log1p(change) if -0.5 < change < 1.0 else log(price) - log(before)


def _log_ratios(prices: Floats, befores: Floats) -> Floats:
    changes = (prices - befores) / befores
    out = np.log1p(np.maximum(changes, -0.5))
    if len(far := np.flatnonzero((changes <= -0.5) | (changes >= 1.0))):
        out[far] = np.log(prices[far]) - np.log(befores[far])
    return out


def _known(column: Floats) -> list[float | None]:
    """Put None for NaN."""
    missing = np.isnan(column)
    values: list[float | None] = column.tolist()
    for i in np.flatnonzero(missing).tolist():
        values[i] = None
    return values


def _regimes(alphas: Sequence[float | None]) -> list[str]:
    return ["Unknown" if x is None else "Levy" if x < 2.0 else "Gaussian" for x in alphas]


def _labels(params: Params, scores: Sequence[float]) -> list[str]:
    high, low = params.bullish, params.bearish
    return ["Bullish" if x >= high else "Bearish" if x <= low else "Neutral" for x in scores]
