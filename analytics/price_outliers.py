"""Prices that jump away from their neighbours (definitions §7): a causal Hampel identifier with granularity.

After Davies and Gather (JASA 1993) and Brownlees and Gallo (CSDA 2006). A move is a log price less the median
of the few before it; m and MAD are the median of the moves before it and their median distance from m.

The exact rule costs microseconds, so it is applied only where a bound does not exclude the move. It must be
further than gamma from m, and m is above d only if half of its window is, and below -d likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Flags: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_FEW = 64  # up to here a loop is cheaper
_NORMAL = 1.4826  # MAD times this is the standard deviation of normal values
_D = 0.25  # of gamma's least value
_ROWS = 1_024  # windows judged at once: 800 KB


class Params(msgspec.Struct, frozen=True):
    level: int = 5  # log prices
    window: int = 100  # moves
    factor: float = 5.0  # standard deviations
    gamma: float = 0.0005  # of the price: a move this small is never flagged
    gamma_ticks: float = 2.0  # nor is one of so many ticks

    @property
    def half(self) -> int:
        return (self.window + 1) // 2


class State(msgspec.Struct):
    params: Params
    tick_size: float
    logs: list[float] = []  # of the last prices, at most `level`
    moves: list[float] = []  # the last ones, at most `window`
    above: int = 0  # moves of these above d
    below: int = 0  # and below -d


def init(params: Params, tick_size: float) -> State:
    return State(params, tick_size)


def step(state: State, prices: Floats) -> Flags:
    """Judge prices, in order: 1 is an outlier."""
    logs, is_few = np.log(prices), len(prices) <= max(_FEW, state.params.level)
    return _few(state, prices, logs) if is_few else _many(state, prices, logs)


def _few(state: State, prices: Floats, logs: Floats) -> Flags:
    params, moves, out = state.params, state.moves, np.zeros(len(prices), np.int8)
    d = _D * params.gamma
    for k, log in enumerate(logs.tolist()):
        if len(state.logs) == params.level:
            move = log - _middle(sorted(state.logs))
            if len(moves) == params.window:
                if abs(move) + d > params.gamma or max(state.above, state.below) >= params.half:
                    out[k] = _is_outlier(state, move, float(prices[k]))
                gone = moves.pop(0)
                state.above -= gone > d
                state.below -= gone < -d
            moves.append(move)
            state.above += move > d
            state.below += move < -d
            del state.logs[0]
        state.logs.append(log)
    return out


def _is_outlier(state: State, move: float, price: float) -> bool:
    params = state.params
    gamma = max(params.gamma_ticks * state.tick_size / price, params.gamma)
    if max(state.above, state.below) < params.half and abs(move) + _D * params.gamma <= gamma:
        return False
    m = _middle(sorted(state.moves))
    off = abs(move - m)
    if off <= gamma:
        return False
    mad = _middle(sorted(abs(x - m) for x in state.moves))
    return off > params.factor * _NORMAL * mad + gamma


def _middle(ordered: Sequence[float]) -> float:
    half, is_odd = divmod(len(ordered), 2)
    return ordered[half] if is_odd else (ordered[half - 1] + ordered[half]) / 2


def _many(state: State, prices: Floats, logs: Floats) -> Flags:
    params, d = state.params, _D * state.params.gamma
    out = np.zeros(len(prices), np.int8)
    known = np.concatenate((state.logs, logs))
    state.logs = known[-params.level :].tolist()
    moves = np.concatenate((state.moves, known[params.level :] - _levels(known, params.level)[:-1]))
    state.moves = moves[-params.window :].tolist()
    state.above, state.below = (sum(x > d for x in state.moves), sum(x < -d for x in state.moves))
    judged = len(moves) - params.window
    if judged > 0:
        gamma = np.maximum(params.gamma_ticks * state.tick_size / prices[-judged:], params.gamma)
        out[-judged:] = _outliers(params, moves[-judged - params.window :], gamma)
    return out


def _levels(logs: Floats, level: int) -> Floats:
    """Give the median of each run of `level` logs."""
    if level != 5:
        return _middles(np.lib.stride_tricks.sliding_window_view(logs, level))
    low, high = np.minimum(logs[:-1], logs[1:]), np.maximum(logs[:-1], logs[1:])
    # Of two pairs neither the least nor the greatest is the median: the other two and the fifth remain.
    a, b, c = np.maximum(low[:-3], low[2:-1]), np.minimum(high[:-3], high[2:-1]), logs[4:]
    median: Floats = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return median


def _outliers(params: Params, moves: Floats, gamma: Floats) -> Mask:
    """Judge all moves but the first `window`."""
    windows = np.lib.stride_tricks.sliding_window_view(moves, params.window)
    out = np.zeros(len(gamma), np.bool_)
    candidates = np.flatnonzero(_candidates(params, moves, gamma))
    for at in range(0, len(candidates), _ROWS):
        rows = candidates[at : at + _ROWS]
        m = _middles(windows[rows])
        off = np.abs(moves[params.window :][rows] - m)
        far = off > gamma[rows]
        rows, m, off = rows[far], m[far], off[far]
        mad = _middles(np.abs(windows[rows] - m[:, np.newaxis]))
        out[rows] = off > params.factor * _NORMAL * mad + gamma[rows]
    return out


def _candidates(params: Params, moves: Floats, gamma: Floats) -> Mask:
    d, move = _D * params.gamma, moves[params.window :]
    above, below = _counts(moves > d, params.window), _counts(moves < -d, params.window)
    unsure: Mask = (np.abs(move) + d > gamma) | (above >= params.half) | (below >= params.half)
    return unsure


def _counts(mask: Mask, window: int) -> npt.NDArray[np.int64]:
    """Count in the `window` values before each, all but the first `window`."""
    sums = np.concatenate(([0], np.cumsum(mask)))
    counts: npt.NDArray[np.int64] = sums[window:-1] - sums[: -window - 1]
    return counts


def _middles(rows: Floats) -> Floats:
    """Give the median of each row."""
    half, is_odd = divmod(rows.shape[1], 2)
    if is_odd:
        odd: Floats = np.partition(rows, half, axis=1)[:, half]
        return odd
    parted = np.partition(rows, (half - 1, half), axis=1)
    even: Floats = (parted[:, half - 1] + parted[:, half]) / 2
    return even
