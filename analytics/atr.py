"""Average true range (J. W. Wilder, New Concepts in Technical Trading Systems, 1978): the scale of bars."""

from __future__ import annotations

import msgspec

from market.rows import Candle


class State(msgspec.Struct):
    """`sum` holds the first `n` true ranges until their mean is the first `atr`."""

    n: int
    seen: int = 0  # bars, counted up to n
    close: float = 0.0  # of the bar before
    sum: float = 0.0
    atr: float | None = None


def init(n: int = 14) -> State:
    return State(n)


def step(state: State, bar: Candle) -> float | None:
    """Take the next complete bar; return the range after it, in price units, None before bar `n`."""
    reach = true_range(bar, state.close if state.seen else None)
    state.close = bar.close
    if state.atr is not None:
        state.atr = ((state.n - 1) * state.atr + reach) / state.n
        return state.atr
    state.seen += 1
    state.sum += reach
    if state.seen == state.n:
        state.atr = state.sum / state.n
    return state.atr


def true_range(bar: Candle, close: float | None) -> float:
    """Measure a bar and its distance from the close before it; None: there is no bar before."""
    if close is None:
        return bar.high - bar.low
    return max(bar.high - bar.low, abs(bar.high - close), abs(bar.low - close))
