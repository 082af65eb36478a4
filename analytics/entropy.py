"""Shannon's entropy of the sizes of moves (definitions §6.4), over the last steps.

C. E. Shannon, A Mathematical Theory of Communication, 1948. 0: one size only; 1: every size as often.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from math import log

import msgspec
import numpy as np
import numpy.typing as npt

from analytics.sliding import exchange
from analytics.steps import Floats

_EDGES = (-1.5, -0.75, -0.25, 0.25, 0.75, 1.5)
BINS = len(_EDGES) + 1
_CENTRE = BINS // 2
_LEAST = 5e-324  # in place of no volatility: every move is beyond the last edge then


class State(msgspec.Struct):
    """`ring` holds the bins of the last steps, `counts` how many are in each."""

    ring: bytearray
    needs: int
    counts: list[int]
    seen: int = 0  # steps
    sigma: float = 0.0  # volatility after the last step


def init(steps: int, needs: int) -> State:
    """Begin a window of `steps`, with no entropy before `needs` of them."""
    return State(bytearray(steps), needs, [0] * BINS)


def add(state: State, change: float, sigma: float) -> float | None:
    """Take the next return, and the volatility after it: the one before it says which moves are large."""
    new = bisect_right(_EDGES, change / (state.sigma or _LEAST)) if change else _CENTRE
    (old,) = exchange(state.ring, "b", state.seen, [new])
    state.counts[new] += 1
    if is_full := state.seen >= len(state.ring):
        state.counts[old] -= 1
    state.seen, state.sigma = state.seen + 1, sigma
    if state.seen < state.needs:
        return None
    if is_full:
        terms = _terms(len(state.ring))
        return min(sum(terms[n] for n in state.counts), 1.0)
    return min(sum(_term(n, state.seen) for n in state.counts), 1.0)


def extend(state: State, changes: Floats, sigmas: Floats) -> list[float | None]:
    """Take many returns."""
    filling = min(max(len(state.ring) - state.seen, 0), len(changes))
    few = zip(changes[:filling].tolist(), sigmas[:filling].tolist(), strict=True)
    out = [add(state, change, sigma) for change, sigma in few]
    if filling == len(changes):
        return out
    with np.errstate(over="ignore"):
        scores = changes[filling:] / np.maximum(np.append(state.sigma, sigmas[filling:-1]), _LEAST)
    new = np.searchsorted(_EDGES, scores, "right")
    old = np.array(exchange(state.ring, "b", state.seen, new.tolist()))
    counts = np.array(state.counts)[:, None] + np.cumsum(_each(new) - _each(old), axis=1)
    state.counts = counts[:, -1].tolist()
    state.seen, state.sigma = state.seen + len(new), float(sigmas[-1])
    terms = np.array(_terms(len(state.ring)))
    out += np.minimum(terms[counts].sum(axis=0), 1.0).tolist()
    return out


def _each(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count every bin apart: a row for each."""
    each: npt.NDArray[np.int64] = (bins == np.arange(BINS)[:, None]).astype(np.int64)
    return each


@cache
def _terms(steps: int) -> tuple[float, ...]:
    return tuple(_term(n, steps) for n in range(steps + 1))


def _term(n: int, steps: int) -> float:
    """Tell what a bin with `n` of the steps adds to the entropy."""
    return n / steps * log(steps / n) / log(BINS) if n else 0.0
