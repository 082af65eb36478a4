"""Hill's estimate of the tail exponent of returns (definitions §6.6), over the last steps.

B. M. Hill, A Simple General Approach to Inference about the Tail of a Distribution, Annals of Statistics,
1975.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from functools import cached_property
from math import inf

import msgspec
import numpy as np

from analytics.sliding import cells, exchange

CAP = 10.0
"""Of alpha: the tail is so thin that its exponent says nothing more."""

NONE = -inf
"""The logarithm of no return."""


class State(msgspec.Struct, dict=True):
    """The `k` largest returns made `alpha`, by the next, `edge`; 0 and infinity while there are too few."""

    ring: bytearray  # logarithms of the last |returns|
    share: float
    least_k: int
    needs: int
    seen: int = 0  # steps
    k: int = 0
    edge: float = inf
    alpha: float | None = None

    @cached_property
    def ranks(self) -> list[float]:
        """The ring sorted, without NONE; it is not saved but made anew."""
        return sorted(x for x in cells(self.ring, "d").tolist() if x > NONE)


def init(steps: int, share: float, least_k: int, needs: int) -> State:
    """Begin a window; its tail is the largest `share` of at least `needs` returns, `least_k` or more."""
    return State(bytearray(np.full(steps, NONE)), share, least_k, needs)


def step(state: State, logs: Sequence[float]) -> list[float | None]:
    """Take ln|return| of the next steps; return alpha after each, None while there are too few."""
    ranks, edge, out = state.ranks, state.edge, list[float | None]()
    olds = exchange(state.ring, "d", state.seen, logs)
    state.seen += len(logs)
    for new, old in zip(logs, olds, strict=True):
        if new != old:
            if old > NONE:
                del ranks[bisect_left(ranks, old)]
            if new > NONE:
                insort(ranks, new)
            # What comes and goes below the tail leaves it as it is, unless their number changes k.
            if new >= edge or old >= edge or (NONE in (new, old) and _k(state) != state.k):
                _estimate(state)
                edge = state.edge
        out.append(state.alpha)
    return out


def _k(state: State) -> int:
    """Tell how many returns are the tail, 0 while there are too few."""
    n = len(state.ranks)
    k = max(state.least_k, int(state.share * n + 1e-9))  # in floats 0.29 x 100 is below 29
    return k if n >= state.needs and n > k else 0


def _estimate(state: State) -> None:
    k = state.k = _k(state)
    if not k:
        state.edge, state.alpha = inf, None
        return
    ranks = state.ranks
    state.edge = ranks[-k - 1]
    excess = sum(ranks[-k:]) - k * state.edge
    state.alpha = CAP if excess * CAP <= k else k / excess
