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

_FEW = 48  # up to here only the sizes above a cut are judged, one by one
_NOISE = 1e-9  # of a window's sum of squares: a thousand times what rounding does to it
_DOUBLE = 8  # bytes


class Params(msgspec.Struct, frozen=True):
    window: int = 500  # sizes
    least: int = 100  # sizes before the first verdict
    z: float = 4.0


class State(msgspec.Struct):
    params: Params
    logs: bytes = b""  # of the last sizes, at most `window` doubles
    cut: float = 0.0  # of the next `cut_lasts` logs none up to here is an outlier
    cut_lasts: int = 0


def init(params: Params) -> State:
    return State(params)


def step(state: State, sizes: Floats) -> Flags:
    """Judge sizes, in order: 1 is an outlier."""
    logs, params, first = np.log(sizes), state.params, len(state.logs) // _DOUBLE
    known = state.logs + logs.tobytes()
    is_few = len(logs) <= _FEW
    if is_few and state.cut_lasts < len(logs):
        state.cut, state.cut_lasts = _cut(params, np.frombuffer(state.logs)), _FEW
    state.logs = known[-params.window * _DOUBLE :]
    state.cut_lasts = max(0, state.cut_lasts - len(logs))
    if not is_few:
        return _many(params, np.frombuffer(known), first)
    out = np.zeros(len(logs), np.int8)
    for k, log in enumerate(logs.tolist()):
        if log > state.cut:
            out[k] = _is_outlier(params, np.frombuffer(known), first + k)
    return out


def _cut(params: Params, known: Floats) -> float:
    """Find a log size up to which none of the next `_FEW` is an outlier.

    Their windows share the last c sizes, of mean m and sum of squares M about it; let the j others, new or
    about to leave, have the mean m + x. Then z deviations above the mean are at least
    m + x j/n + z sqrt((M + x^2 c j/n) / (n - 1)), which is least, over x, as returned.
    """
    core = known[max(0, len(known) - max(0, params.window - _FEW)) :]
    c, n = len(core), len(core) + _FEW
    loss = _FEW * (n - 1) / (n * params.z**2 * c) if c else 1.0
    if loss >= 1.0:
        return -inf
    offs = core - core[-1]
    total, square = float(np.add.reduce(offs)), float(offs @ offs)
    spread = max(0.0, square - total * total / c - _NOISE * square)
    mean = float(core[-1]) + total / c - _NOISE * sqrt(square / c)
    return mean + params.z * sqrt(spread / (n - 1) * (1.0 - loss))


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
