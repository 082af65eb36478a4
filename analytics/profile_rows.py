"""Rows of prices: integer arithmetic on ticks, so that no float comparison places a price."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import floor

import numpy as np

from analytics.profile_area import Rows, Volumes

_FAR = 2.0**60  # ticks; prices beyond share a row, for the middle of a profile must fit an int64


def row_of(price: float, tick_size: float, bin_ticks: int) -> int:
    """Place a price: one off a multiple of the tick by float error at it, any other is rounded down."""
    at = price / tick_size
    return floor(min(at + (1e-6 + at * 5e-16), _FAR)) // bin_ticks


def rows_of(prices: Volumes, tick_size: float, bin_ticks: int) -> Rows:
    """Place prices exactly as `row_of` does."""
    at = prices / tick_size
    ticks = np.floor(np.minimum(at + (1e-6 + at * 5e-16), _FAR)).astype(np.int64)
    return ticks if bin_ticks == 1 else ticks // bin_ticks


def prices_of(rows: Iterable[int], tick_size: float, bin_ticks: int) -> list[float]:
    """Tell the lower price of each row: the float nearest its decimal, by one division of whole numbers."""
    numerator, denominator = Decimal(repr(tick_size)).as_integer_ratio()
    return [row * bin_ticks * numerator / denominator for row in rows]


def tick_size_of(prices: Iterable[float]) -> float:
    """Tell the smallest decimal step in which prices are written, at most 1; 0 without any price.

    A float's sixteenth digit is noise and not looked at.
    """
    exponents = [_exponent(price) for price in set(prices)]
    return float(f"1e{min(*exponents, 0)}") if exponents else 0.0


def _exponent(price: float) -> int:
    exponent = Decimal(f"{price:.15g}").normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - prices are finite
    return exponent
