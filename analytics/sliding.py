"""Windows of the last steps.

Nothing is ever subtracted when a step leaves: after a spike, exactly nothing is left of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import sqrt
from typing import Any

import msgspec
import numpy as np

from analytics.moments import Moments, joined, running, variance
from analytics.steps import Floats, Trades

_SAME = 1e-9  # of the price: a smaller deviation is none


def cells(ring: bytearray, kind: str) -> memoryview[Any]:
    """Look at a ring as an array of `kind` (d: float64, b: int8)."""
    return memoryview(ring).cast(kind)  # type: ignore[call-overload,no-any-return]


def exchange(ring: bytearray, kind: str, seen: int, new: Sequence[Any]) -> list[Any]:
    """Put the values after the first `seen` into a ring; return for each the one it replaces."""
    view, out = cells(ring, kind), list[Any]()
    if len(new) == 1:  # most often, and five times faster
        at = seen % len(view)
        old, view[at] = view[at], new[0]
        return [old]
    for start, end, at in pieces(seen, len(new), len(view)):
        out += view[at : at + end - start].tolist()
        view[at : at + end - start] = array(kind, new[start:end])
    return out


def pieces(seen: int, count: int, length: int) -> list[tuple[int, int, int]]:
    """Cut `count` values after the first `seen` where a ring ends; give (start, end, place in the ring)."""
    out, start = list[tuple[int, int, int]](), 0
    while start < count:
        at = (seen + start) % length
        end = min(count, start + length - at)
        out.append((start, end, at))
        start = end
    return out


class Window(msgspec.Struct):
    """Sizes and prices of the last `length` steps.

    Steps are cut into blocks of `length`. Of the block before, `rows` holds what is left of it after each
    step; of the open block each step, where nothing is left of the other. The window is the rest of the one
    and all of the other.
    """

    length: int
    rows: bytearray  # 3 of `length`: moments
    seen: int = 0  # steps
    base: float = 0.0  # a price near the last ones
    moments: Moments = (0.0, 0.0, 0.0)  # of the open block


def window(length: int) -> Window:
    return Window(length, bytearray(3 * 8 * length))


def add(window: Window, price: float, trades: Trades | None) -> float | None:
    """Take the next step, at whose end the price is `price`.

    Returns |price - mean| in standard deviations, by size: 0 if prices do not differ, None without trades.
    """
    at, length = window.seen % window.length, window.length
    if not at:
        _turn(window)
    rows, new = cells(window.rows, "d"), (0.0, 0.0, 0.0)
    if trades is not None:
        window.base = window.base or trades.first
        new = trades.size, trades.first - window.base + trades.mean, trades.squares
        window.moments = joined(window.moments, new)
    rest = [rows[k + at + 1] if at + 1 < length else 0.0 for k in (0, length, 2 * length)]
    rows[at], rows[length + at], rows[2 * length + at] = new
    window.seen += 1
    size, mean, _ = whole = joined(window.moments, rest)
    sigma = sqrt(variance(whole))
    if not size:
        return None
    return abs(price - window.base - mean) / sigma if sigma > _SAME * price else 0.0


def extend(window: Window, prices: Floats, steps: Floats) -> Floats:
    """Take many steps, columns as `steps.side_by_side` makes them; NaN stands for None."""
    cuts = pieces(window.seen, len(prices), window.length)
    return np.concatenate([_piece(window, at, prices[a:b], steps[:, a:b]) for a, b, at in cuts])


def _piece(window: Window, at: int, prices: Floats, steps: Floats) -> Floats:
    """Take steps of one block."""
    if not at:
        _turn(window)
    _, first, _, size, mean, squares, _, _ = steps
    window.base = window.base or float(first[np.argmax(size > 0.0)])
    new = np.array((size, (first - window.base + mean) * (size > 0.0), squares))
    rows, end = np.frombuffer(window.rows).reshape(3, window.length), at + len(prices)
    rest = np.zeros_like(new)
    rest[:, : window.length - at - 1] = rows[:, at + 1 : end + 1]
    rows[:, at:end] = new
    new = running(new, window.moments)
    window.moments = tuple(new[:, -1].tolist())
    window.seen += len(prices)
    size, mean, _ = whole = joined(new, rest)
    sigma, out = np.sqrt(variance(whole)), np.where(size > 0.0, 0.0, np.nan)
    np.divide(abs(prices - window.base - mean), sigma, out=out, where=sigma > _SAME * prices)
    return out


def _turn(window: Window) -> None:
    """Begin a block: of the one before, keep in the place of each step what is left from it on."""
    rows = np.frombuffer(window.rows).reshape(3, window.length)
    if len(traded := np.flatnonzero(rows[0])):
        base = window.base + float(np.median(rows[1, traded]))
        rows[1, traded] -= base - window.base
        window.base = base
    rows[:] = running(rows[:, ::-1])[:, ::-1]
    window.moments = 0.0, 0.0, 0.0
