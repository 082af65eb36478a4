"""Flags of single ticks (definitions §7). They are advice: a flagged tick still enters every other fold."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from analytics import price_outliers, size_outliers
from market.ticks import Ticks

Flags: TypeAlias = npt.NDArray[np.int8]
"""One for each tick: 1 is an outlier, 0 is not."""


class Params(msgspec.Struct, frozen=True):
    price: price_outliers.Params = price_outliers.Params()
    size: size_outliers.Params = size_outliers.Params()


class State(msgspec.Struct):
    prices: price_outliers.State
    sizes: size_outliers.State
    price_outliers: int = 0  # counted so far
    size_outliers: int = 0


class Flagged(NamedTuple):
    price: Flags  # the column `outlier_flag`
    size: Flags


def init(params: Params | None = None, tick_size: float = 0.0) -> State:
    """Begin a pair whose prices move in steps of `tick_size`, 0 where that is not known."""
    params = params or Params()
    return State(price_outliers.init(params.price, tick_size), size_outliers.init(params.size))


def step(state: State, ticks: Ticks) -> Flagged:
    """Judge ticks in order, each by those before it."""
    # Copied out: logs of strided fields may be computed by another routine, with other last bits.
    flagged = Flagged(
        price_outliers.step(state.prices, np.ascontiguousarray(ticks["price"])),
        size_outliers.step(state.sizes, np.ascontiguousarray(ticks["size"])),
    )
    state.price_outliers += int(np.count_nonzero(flagged.price))
    state.size_outliers += int(np.count_nonzero(flagged.size))
    return flagged
