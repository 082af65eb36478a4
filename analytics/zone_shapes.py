"""What makes a supply or demand zone (definitions §5): shapes of bars, measured by the ATR before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from market.rows import Candle

Prices: TypeAlias = tuple[float, float, float, float]
"""Open, high, low, close."""

# Of the price: doubles differ by other last bits than the decimals they stand for, and where ticks are coarse
# a body of exactly half the range is common (of the minutes of ADABTC one in 13 would be misjudged).
_NOISE = 1e-12


class Params(msgspec.Struct, frozen=True):
    atr_bars: int = 14
    base_range: float = 1.0  # at most, in ATR
    base_body: float = 0.5  # at most, of the bar's range
    base_bars: int = 6  # the last of the run that count
    impulse_body: float = 1.5  # at least, in ATR
    impulse_share: float = 0.6  # at least, of the bar's range
    volume_bars: int = 20
    decay: float = 0.75  # of the strength, by each test
    max_active: int = 50


class Edges(NamedTuple):
    """Price that comes back to a zone meets `proximal` first and leaves it for good beyond `distal`."""

    is_demand: bool
    proximal: float
    distal: float


def is_base(params: Params, scale: float, bar: Candle) -> bool:
    reach, body, noise = bar.high - bar.low, abs(bar.close - bar.open), _NOISE * bar.high
    return reach <= params.base_range * scale + noise and body <= params.base_body * reach + noise


def is_impulse(params: Params, scale: float, bar: Candle) -> bool:
    reach, body, noise = bar.high - bar.low, abs(bar.close - bar.open), _NOISE * bar.high
    least = max(params.impulse_body * scale, params.impulse_share * reach)
    return reach > 0 and body >= least - noise


def edges(base: Sequence[Prices], impulse: Candle) -> Edges | None:
    """Draw the zone; None if the impulse does not close outside its base, or the zone has no height."""
    low, high = min(low for _, _, low, _ in base), max(high for _, high, _, _ in base)
    if impulse.close > impulse.open and impulse.close > high:
        proximal = max(max(opened, close) for opened, _, _, close in base)
        zone = Edges(True, proximal, min(low, impulse.low))
    elif impulse.close < impulse.open and impulse.close < low:
        proximal = min(min(opened, close) for opened, _, _, close in base)
        zone = Edges(False, proximal, max(high, impulse.high))
    else:
        return None
    return zone if zone.proximal != zone.distal else None


def strength(departure: float, volume: float, before: Sequence[float], base_bars: int) -> float:
    """Weigh how far price went (in 3 ATR), on what volume, from how short a base: 0 to 1, before any test."""
    mean = sum(before) / len(before)
    effort = min(1.0, volume / (2 * mean)) if mean else 0.0
    return 0.5 * min(1.0, departure) + 0.3 * effort + 0.2 / base_bars
