"""The market state of a whole recording, as definitions §6 says it: every window looked at in full."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.market_state import Params
from market.rows import MarketState
from market.ticks import Ticks

Column: TypeAlias = npt.NDArray[Any]
EXACT = np.longdouble
EDGES = (-1.5, -0.75, -0.25, 0.25, 0.75, 1.5)


def reference(data: Ticks, params: Params, until_ns: int) -> list[MarketState]:
    """Make a row for each step that ends by `until_ns`, in time that grows with the windows."""
    steps, starts = _steps(data, params, until_ns)
    returns, price = _returns(steps["last"]), steps["last"]
    average = {
        (name, half_life): pd.Series(column.astype(float)).ewm(halflife=half_life).mean().to_numpy()
        for name, column in (
            ("V", steps["turnover"]),
            ("F", steps["signed"]),
            ("|r|", abs(returns)),
            ("r^2", returns**2),
        )
        for half_life in (params.fast_half_life, params.slow_half_life, params.volatility_half_life)
    }
    fast = {name: column for (name, h), column in average.items() if h == params.fast_half_life}
    slow = {name: column for (name, h), column in average.items() if h == params.slow_half_life}
    sigma = np.sqrt(average["r^2", params.volatility_half_life])
    bins = [_bin(r, sigma[n - 1] if n else 0.0) for n, r in enumerate(returns.tolist())]
    rows = []
    for n in range(len(price)):
        mass = fast["V"][n] / slow["V"][n]
        score = (1 + fast["F"][n] / fast["V"][n]) / 2
        friction = None
        if slow["|r|"][n]:
            friction = float((fast["|r|"][n] / fast["V"][n]) / (slow["|r|"][n] / slow["V"][n]))
        alpha = _alpha(_last(returns, n, params.tail_steps), params)
        row = MarketState(
            int(starts[n]) + params.step_ns,
            float(mass),
            _momentum(_last(returns, n, params.momentum_steps), float(mass), float(sigma[n]), params),
            friction,
            _entropy(bins[max(0, n + 1 - params.entropy_steps) : n + 1], params),
            _nash(steps, n, params),
            alpha,
            "Unknown" if alpha is None else "Levy" if alpha < 2 else "Gaussian",
            "Bullish" if score >= params.bullish else "Bearish" if score <= params.bearish else "Neutral",
            float(score),
        )
        rows.append(row)
    return rows


def _steps(data: Ticks, params: Params, until_ns: int) -> tuple[dict[str, Column], Column]:
    first, end = int(data["ts_ns"].min()) // params.step_ns, until_ns // params.step_ns
    index = data["ts_ns"] // params.step_ns - first
    kept, count = index < end - first, end - first
    index = index[kept]
    price, size = data["price"][kept].astype(EXACT), data["size"][kept].astype(EXACT)
    centre = EXACT(np.median(data["price"]))
    columns = {
        "size": size,
        "moment": size * (price - centre),
        "square": size * (price - centre) ** 2,
        "turnover": price * size,
        "signed": price * size * data["side"][kept],
    }
    out = {name: np.zeros(count, EXACT) for name in columns}
    for name, column in columns.items():
        np.add.at(out[name], index, column)
    last = np.zeros(count, EXACT)
    last[index] = price  # of several the last
    for n in range(1, count):
        last[n] = last[n] or last[n - 1]
    return out | {"last": last, "centre": np.full(count, centre)}, (first + np.arange(count)) * params.step_ns


def _returns(last: Column) -> Column:
    return np.append(EXACT(0), np.log(last[1:] / last[:-1]))


def _last(column: Column, n: int, length: int) -> Column:
    return column[max(0, n + 1 - length) : n + 1]


def _momentum(returns: Column, mass: float, sigma: float, params: Params) -> float | None:
    if len(returns) < params.momentum_steps:
        return None
    return mass * float(returns.sum()) / (sigma * params.momentum_steps**0.5) if sigma else 0.0


def _bin(r: float, sigma: float) -> int:
    if sigma:
        return int(np.digitize(r / sigma, EDGES))
    return 3 if r == 0 else 6 if r > 0 else 0


def _entropy(bins: list[int], params: Params) -> float | None:
    if len(bins) < params.entropy_needs:
        return None
    shares = np.bincount(bins) / len(bins)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(7))


def _nash(steps: dict[str, Column], n: int, params: Params) -> float | None:
    size, moment, square = (
        _last(steps[name], n, params.equilibrium_steps).sum() for name in ("size", "moment", "square")
    )
    if not size:
        return None
    price, mean = steps["last"][n], moment / size
    variance = square / size - mean**2
    sigma = np.sqrt(max(variance, EXACT(0)))
    return float(abs(price - steps["centre"][n] - mean) / sigma) if sigma > 1e-9 * price else 0.0


def _alpha(returns: Column, params: Params) -> float | None:
    x = np.sort(abs(returns[returns != 0]))[::-1]
    if len(x) < params.tail_needs:
        return None
    k = max(params.tail_least, len(x) * 5 // 100)
    bracket = float(np.log(x[:k] / x[k]).mean())
    return min(10.0, 1 / bracket) if bracket > 0 else 10.0


def same(got: MarketState, expected: MarketState, rtol: float = 1e-9) -> bool:
    """Tell whether times, labels and nulls are equal and numbers to 1e-9; of a sum near 0, to 1e-12."""
    for a, b in zip(got, expected, strict=True):
        if isinstance(a, float) and isinstance(b, float):
            if not abs(a - b) <= max(rtol * abs(b), 1e-12):
                return False
        elif a != b:
            return False
    return True


def differences(got: list[MarketState], expected: list[MarketState]) -> list[tuple[MarketState, MarketState]]:
    return [(a, b) for a, b in zip(got, expected, strict=True) if not same(a, b)]
