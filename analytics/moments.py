"""Size, mean price and spread of sets of trades, and how two sets make one.

T. F. Chan, G. H. Golub and R. J. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances, 1979. No sum is of squared prices, so that a deviation of a ten-millionth of the price keeps its
digits, also beside an outlier.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Moments: TypeAlias = tuple[float, float, float]
"""Size, mean, and squares about the mean by size; (0, 0, 0) is no trades."""

_LEAST = 5e-324  # added to a size: what a size of 0 divides is 0 then, any other stays as it is


def joined(a: Any, b: Any) -> Any:
    """Join two sets, or the columns of two matrices; means must be relative to the same price."""
    (size, mean, squares), (other, mean_of_other, squares_of_other) = a, b
    total, apart = size + other, mean_of_other - mean
    part = other / (total + _LEAST)
    return total, mean + apart * part, squares + squares_of_other + apart * apart * size * part


def running(sets: Floats, before: Moments = (0.0, 0.0, 0.0)) -> Floats:
    """Join the columns of a matrix one after the other; return what is joined after each."""
    size, mean, squares = before
    out: list[Moments] = []
    for other, mean_of_other, squares_of_other in zip(*sets.tolist(), strict=True):
        if other:
            total, apart = size + other, mean_of_other - mean
            part = other / total
            mean += apart * part
            squares += squares_of_other + apart * apart * size * part
            size = total
        out.append((size, mean, squares))
    return np.array(out).T


def variance(moments: Any) -> Any:
    """Tell the mean square about the mean, 0 of no trades."""
    size, _, squares = moments
    return squares / (size + _LEAST)
