"""Sizes far above those before them (definitions §7): the z-score of a log size in the window before it.

Sums over windows are merged from panes, never subtracted. A verdict within rounding error of the threshold is
taken again from the window itself, so none depends on how ticks were batched.
"""

from __future__ import annotations

from math import fsum, inf, sqrt
from typing import TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

Flags: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
X = TypeVar("X", float, Floats)

_FEW = 32  # up to here only the sizes above the cut are judged, one by one
_CUT_LASTS = 32  # sizes
_NOISE = 1e-9  # of a window's sum of squares: a thousand times what rounding does to it
_DOUBLE = 8  # bytes


class Params(msgspec.Struct, frozen=True):
    window: int = 500  # sizes
    least: int = 100  # sizes before the first verdict
    z: float = 4.0


class State(msgspec.Struct):
    params: Params
    logs: bytes = b""  # of the last sizes, at most `window` doubles
    cut: float = inf  # of the next `cut_lasts` logs none up to here is an outlier
    cut_lasts: int = 0


def init(params: Params) -> State:
    return State(params)


def step(state: State, sizes: Floats) -> Flags:
    """Judge sizes, in order: 1 is an outlier."""
    logs = np.log(sizes)
    params, first = state.params, len(state.logs) // _DOUBLE
    known = state.logs + logs.tobytes()
    state.logs = known[-params.window * _DOUBLE :]
    if len(logs) > _FEW:
        out = _many(params, np.frombuffer(known), first)
    else:
        out = np.zeros(len(logs), np.int8)
        for k, log in enumerate(logs.tolist()):
            if log > state.cut or k >= state.cut_lasts:
                out[k] = _is_outlier(params, np.frombuffer(known), first + k)
    state.cut_lasts = max(0, state.cut_lasts - len(logs))
    if not state.cut_lasts:
        _cut(state)
    return out


def _cut(state: State) -> None:
    """Find a log size up to which nothing is an outlier for a while.

    By Cantelli's inequality at most n / (1 + z^2) of n values are z deviations above their mean. A value that
    more than so many in its window equal or exceed is not; those that leave meanwhile are not counted on.
    """
    params, logs = state.params, np.frombuffer(state.logs)
    rank = int(params.window / (1 + params.z**2)) + 1 + _CUT_LASTS
    if len(logs) >= rank:
        state.cut, state.cut_lasts = float(np.partition(logs, -rank)[-rank]), _CUT_LASTS


def _is_outlier(params: Params, known: Floats, at: int) -> bool:
    if at < params.least:
        return False
    window, center = known[max(0, at - params.window) : at], known[at - 1]
    offs = window - center
    total, square = float(np.add.reduce(offs)), float(offs @ offs)
    reach, spread, noise = _compared(params, float(known[at] - center), total, square, len(offs))
    is_sure = reach <= spread - noise or (reach > spread + noise and spread > noise)
    return reach > spread if is_sure else _is_outlier_exactly(params, float(known[at]), window.tolist())


def _many(params: Params, known: Floats, first: int) -> Flags:
    """Judge from `first` on: a window is the end of one block of sizes and the beginning of the next."""
    out = np.zeros(len(known) - first, np.int8)
    first = max(first, params.least)
    if first >= len(known):
        return out
    # Any center will do; with this one the sums of sizes that are all equal are 0, and sure.
    center = float(np.median(known[first - 1 :: 16]))
    padded = np.zeros(-(-len(known) // params.window) * params.window)
    padded[: len(known)] = known - center
    judged = slice(first, len(known))
    total, square = (_window_sums(x.reshape(-1, params.window))[judged] for x in (padded, padded * padded))
    sizes = np.minimum(np.arange(first, len(known)), params.window)
    reach, spread, noise = _compared(params, padded[judged], total, square, sizes)
    far = (reach > spread + noise) & (spread > noise)
    for k in np.flatnonzero((reach > spread - noise) & ~far).tolist():
        far[k] = _is_outlier(params, known, first + k)
    out[-len(far) :] = far
    return out


def _window_sums(blocks: Floats) -> Floats:
    """Sum the values before each, at most as many as a block has."""
    heads, tails = np.zeros_like(blocks), np.cumsum(blocks[:, ::-1], axis=1)[:, ::-1]
    np.cumsum(blocks[:, :-1], axis=1, out=heads[:, 1:])
    sums = heads.reshape(-1)
    sums[blocks.shape[1] :] += tails.reshape(-1)[: -blocks.shape[1]]
    return sums


def _compared(params: Params, value: X, total: X, square: X, size: X) -> tuple[X, X, X]:
    """Give (value - mean)^2 with its sign, what it has to exceed, and what rounding may do to that."""
    above = value - total / size
    reach = above * abs(above) * (size - 1)
    scale = params.z * params.z
    return reach, scale * (square - total * total / size), scale * _NOISE * square


def _is_outlier_exactly(params: Params, value: float, window: list[float]) -> bool:
    if min(window) == max(window):
        return False
    mean = fsum(window) / len(window)
    variance = fsum((x - mean) ** 2 for x in window) / (len(window) - 1)
    return value - mean > params.z * sqrt(variance)
