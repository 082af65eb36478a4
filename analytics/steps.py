"""Steps of fixed length, and what the market state needs of the trades in each.

Inside the open step the order of arrival is irrelevant: the trades' keys say which was the last.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from analytics.moments import joined
from market.ticks import Ticks

Floats: TypeAlias = npt.NDArray[np.float64]

_FEW = 48
"""Up to here a plain loop is cheaper than thirty numpy calls (3 ticks: 4 against 90 µs)."""

_MANY = 4_096
"""Ticks at a time: the memory of larger arrays goes back to the system, and costs three times as much."""


class Trades(NamedTuple):
    """The trades of one step, at least one."""

    number: int  # of the step: ts_ns // width_ns
    first: float  # price; of those that came out of order, any
    last: float
    size: float
    mean: float  # of price - first, by size
    squares: float  # about that mean, by size
    turnover: float  # sum of price x size
    signed: float  # turnover of buys less that of sells


Closed: TypeAlias = "list[Trades] | Floats"
"""Steps with trades in time order: few, or a matrix with a column for each and a row for each field."""

_NONE = Trades(-1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Steps(msgspec.Struct):
    """The open step; `number` is -1 before the first trade."""

    width_ns: int
    number: int = -1
    trades: Trades | None = None
    last: tuple[int, int] = (-1, -1)  # time and id of the last trade


def take(steps: Steps, ticks: Ticks) -> Closed:
    """Add ticks in order; return the steps with trades that they close, the last tick's stays open.

    Raises ValueError, and changes nothing, if the first tick belongs before the open step.
    """
    if not len(ticks):
        return []
    if len(ticks) <= _FEW:
        return _few(steps, ticks)
    parts = [_many(steps, ticks[i : i + _MANY]) for i in range(0, len(ticks), _MANY)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def close(steps: Steps, watermark_ns: int) -> Closed:
    """Close every step that ends at or before `watermark_ns`; return the one that had trades, if any."""
    number = watermark_ns // steps.width_ns
    if steps.number < 0 or number <= steps.number:
        return []
    closed = [] if steps.trades is None else [steps.trades]
    steps.number, steps.trades = number, None
    return closed


def one_by_one(closed: Closed, start: int, count: int) -> list[Trades | None]:
    """Give each of `count` steps from number `start`; None: without trades."""
    out: list[Trades | None] = [None] * count
    for number, *fields in closed if isinstance(closed, list) else closed.T.tolist():
        out[int(number) - start] = Trades(int(number), *fields)
    return out


def side_by_side(closed: Closed, start: int, count: int) -> Floats:
    """Give a matrix with a column for each of `count` steps, 0 without trades, and rows as `Trades`."""
    matrix = np.array(closed).T if isinstance(closed, list) else closed
    out = np.zeros((len(Trades._fields), count))
    if matrix.size:
        out[:, matrix[0].astype(np.int64) - start] = matrix
    return out


def _few(steps: Steps, ticks: Ticks) -> list[Trades]:
    rows, width_ns, kept = ticks.tolist(), steps.width_ns, steps.trades
    _check(steps, rows[0][1], rows[0][0])
    out: list[Trades] = []
    at, first, last, size, mean, squares, turnover, signed = kept or _NONE
    end_ns = (at + 1) * width_ns
    for _, ts_ns, price, q, _, side in rows:
        if ts_ns >= end_ns:
            if size:
                out.append(Trades(at, first, last, size, mean, squares, turnover, signed))
            at, first = ts_ns // width_ns, price
            end_ns = (at + 1) * width_ns
            size = mean = squares = turnover = signed = 0.0
        last, paid, apart = price, price * q, price - first - mean
        part = q / (size + q)
        squares += apart * apart * size * part
        mean += apart * part
        size += q
        turnover += paid
        signed += side * paid
    out.append(Trades(at, first, last, size, mean, squares, turnover, signed))
    if kept is not None and (rows[0][1], rows[0][0]) < steps.last:
        newest = max((ts_ns, tid) for tid, ts_ns, *_ in rows if ts_ns // width_ns == kept.number)
        if newest < steps.last:
            out[0] = out[0]._replace(last=kept.last)
    steps.trades, steps.last = out.pop(), max(steps.last, (rows[-1][1], rows[-1][0]))
    steps.number = at
    return out


def _many(steps: Steps, ticks: Ticks) -> Floats:
    ts_ns, price, size, side = (np.ascontiguousarray(ticks[x]) for x in ("ts_ns", "price", "size", "side"))
    _check(steps, int(ts_ns[0]), int(ticks["trade_id"][0]))
    number = ts_ns // steps.width_ns
    starts = np.concatenate(([0], np.flatnonzero(number[1:] != number[:-1]) + 1))
    counts = np.diff(starts, append=len(number))
    kept = steps.trades if steps.trades is not None and steps.trades.number == number[0] else None
    first, last = price[starts], price[starts + counts - 1]
    if kept is not None:
        first[0] = kept.first
        if _key(ticks[counts[0] - 1]) < steps.last:
            last[0] = kept.last
    away, paid = price - np.repeat(first, counts), price * size
    sizes = np.add.reduceat(size, starts)
    means = np.add.reduceat(away * size, starts) / sizes
    away -= np.repeat(means, counts)
    squares = np.add.reduceat(away * away * size, starts)
    parts = paid, paid * side
    if kept is not None:
        sizes[0], means[0], squares[0] = joined(kept[3:6], (sizes[0], means[0], squares[0]))
        for part, before in zip(parts, kept[6:], strict=True):
            part[0] += before
    # Added trade by trade, as `_few` does, so that no batching moves a score over its label's border.
    group = np.repeat(np.arange(len(starts)), counts)
    sums = (np.bincount(group, part) for part in parts)
    matrix = np.array([number[starts], first, last, sizes, means, squares, *sums])
    if kept is None and steps.trades is not None:
        matrix = np.column_stack((np.array(steps.trades), matrix))
    steps.number = int(number[-1])
    steps.trades = Trades(steps.number, *matrix[1:, -1].tolist())
    steps.last = max(steps.last, _key(ticks[-1]))
    return matrix[:, :-1]


def _key(tick: np.void) -> tuple[int, int]:
    return int(tick["ts_ns"]), int(tick["trade_id"])


def _check(steps: Steps, ts_ns: int, trade_id: int) -> None:
    if ts_ns // steps.width_ns < steps.number:
        raise ValueError(f"trade {trade_id} at {ts_ns} belongs before {steps.number * steps.width_ns}")
