"""Ticks travel as one numpy structured array: one object to slice, join, sort, store and send."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

TICK = np.dtype(
    [
        ("trade_id", "<i8"),
        ("ts_ns", "<i8"),  # exchange time
        ("price", "<f8"),
        ("size", "<f8"),  # base units
        ("received_ns", "<i8"),  # this host's clock
        ("side", "i1"),  # of the taker: +1 buy, -1 sell, 0 unknown
    ],
)

Ticks: TypeAlias = npt.NDArray[Any]
"""A one-dimensional array of dtype TICK."""

EMPTY: Ticks = np.empty(0, TICK)


def in_order(ticks: Ticks) -> Ticks:
    """Sort by (time, id), as every fold expects; the input itself if it already is."""
    if len(ticks) < 2:
        return ticks
    ts, ids = ticks["ts_ns"], ticks["trade_id"]
    if bool((ts[1:] >= ts[:-1]).all()) and bool((ids[1:] > ids[:-1]).all()):
        return ticks
    return ticks[np.lexsort((ids, ts))]


def joined(parts: Iterable[Ticks]) -> Ticks:
    """Put arrays one after the other, read-only; np.concatenate takes 14 µs a part, for their dtypes."""
    return np.frombuffer(b"".join(part.data for part in parts), TICK)
