"""The anomaly rules of §7, read tick by tick from the text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from analytics import anomaly
from market.ticks import Ticks


def flags(
    ticks: Ticks, tick_size: float, params: anomaly.Params | None = None
) -> tuple[list[int], list[int]]:
    """Flag prices and sizes."""
    params = params or anomaly.Params()
    by_price = _price_scores(ticks["price"].tolist(), tick_size, params)
    by_size = _size_scores(ticks["size"].tolist(), params)
    return [int(x is not None and x > 1) for x in by_price], [
        int(z is not None and z > params.size.z) for z in by_size
    ]


def _price_scores(prices: Sequence[float], tick_size: float, params: anomaly.Params) -> list[float | None]:
    """Divide the rule's left side by its right side; None: it needs more trades before this one."""
    rule = params.price
    logs = [math.log(p) for p in prices]
    x = [
        logs[i] - statistics.median(logs[i - rule.level : i]) if i >= rule.level else math.nan
        for i in range(len(logs))
    ]
    out: list[float | None] = []
    for i, price in enumerate(prices):
        if i < rule.level + rule.window:
            out.append(None)
            continue
        window = x[i - rule.window : i]
        m = statistics.median(window)
        mad = statistics.median([abs(v - m) for v in window])
        gamma = max(rule.gamma_ticks * tick_size / price, rule.gamma)
        out.append(abs(x[i] - m) / (rule.factor * 1.4826 * mad + gamma))
    return out


def _size_scores(sizes: Sequence[float], params: anomaly.Params) -> list[float | None]:
    """Give z; None: it needs more trades before this one, or the std of those is 0."""
    u = [math.log(q) for q in sizes]
    out: list[float | None] = []
    for i, value in enumerate(u):
        window = u[max(0, i - params.size.window) : i]
        if len(window) < params.size.least or len(set(window)) == 1:
            out.append(None)
            continue
        mean = math.fsum(window) / len(window)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in window) / (len(window) - 1))
        out.append((value - mean) / std)
    return out
