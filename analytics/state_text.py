"""A market state in words that a sentence model can compare, and as the metadata stored beside its vector.

Everything is a ratio, so a state reads the same at any price and in any unit of volume. Numbers become words:
a sentence model hears `steep fall`, it does not count. Each fact has words of its own on either side, because
such a model puts a sentence and its plain negation close together.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from market.rows import Candle, OrderFlow

VERSION = 2
"""Of the words below; vectors of different versions are not comparable."""

_SIZE_BPS = (1.0, 3.0, 7.0, 15.0, 30.0, 60.0, 120.0)
_SIZES = ("a hair", "a little", "modestly", "clearly", "strongly", "very strongly", "violently", "extremely")
_CALM = ("motionless", "very calm", "calm", "ordinary", "lively", "wide", "stormy", "extreme")
_PLACE = (0.1, 0.35, 0.65, 0.9)
_PLACES = ("at its low", "near its low", "in the middle", "near its high", "at its high")
_LEAN = (-0.8, -0.4, -0.1, 0.1, 0.4, 0.8)
_LEANS = (
    "panic selling, no buyers",
    "heavy selling pressure",
    "slight selling pressure",
    "balanced order flow",
    "slight buying pressure",
    "heavy buying pressure",
    "eager buying, no sellers",
)
_TRADES = (10, 50, 200, 1_000, 5_000)
_CROWD = ("sparse trades", "few trades", "some trades", "many trades", "a crowd", "a flood")
_AVERAGE_BPS = (-10.0, -3.0, -1.0, 1.0, 3.0, 10.0)
_AVERAGES = (
    "far below the average price paid",
    "below the average price paid",
    "just below the average price paid",
    "at the average price paid",
    "just above the average price paid",
    "above the average price paid",
    "far above the average price paid",
)
_DAYS_BARS = (-30.0, -5.0, 5.0, 30.0)
_DAYS = ("heavily sold", "sold", "even", "bought", "heavily bought")
_PHYSICS: dict[str, tuple[str, Sequence[float], Sequence[str]]] = {
    "mass": ("turnover", (0.25, 0.7, 1.4, 3.0), ("dried up", "low", "usual", "high", "huge")),
    "momentum": ("momentum", (-2, -0.7, 0.7, 2), ("plunging", "downward", "absent", "upward", "soaring")),
    "friction": ("liquidity", (0.5, 0.8, 1.25, 2.0), ("very deep", "deep", "usual", "thin", "gone")),
    "entropy": ("moves", (0.4, 0.7, 0.9), ("one-way", "orderly", "mixed", "random")),
    "nash_dist": ("equilibrium", (0.5, 1.5, 3.0), ("reached", "near", "left behind", "far away")),
    "alpha": ("tails", (1.5, 2.0, 3.0, 4.0), ("wild", "heavy", "fat", "moderate", "thin")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """The pair's physics at the state's time; None is what is not computed yet."""

    mass: float | None = None
    momentum: float | None = None
    friction: float | None = None
    entropy: float | None = None
    nash_dist: float | None = None
    alpha: float | None = None
    regime: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentiment:
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketState:
    """One closed candle and what was known at its end; `ts_ns` is the candle's open."""

    symbol: str
    ts_ns: int
    candle: Candle
    flow: OrderFlow | None = None
    physics: Physics = Physics()
    sentiment: Sentiment = Sentiment()


def text(state: MarketState) -> str:
    """Describe the state in one sentence, the same for every state whose figures share their buckets.

    Symbol and time are left out: states of different pairs and days are to be comparable.
    """
    facts = _candle(state.candle) + _day(state) + _physics(state.physics) + _sentiment(state.sentiment)
    return "; ".join(facts) + "."


def metadata(state: MarketState) -> dict[str, Any]:
    """Give the contract's metadata; what is not known, or not finite, is None."""
    parts = {"physics": asdict(state.physics), "sentiment": asdict(state.sentiment)}
    return {name: {key: _known(value) for key, value in part.items()} for name, part in parts.items()}


def _candle(candle: Candle) -> list[str]:
    if not candle.trade_count:
        return ["dead market: nothing was traded, the price stands still"]
    low, high = candle.low, candle.high
    place = (candle.close - low) / (high - low) if high > low else 0.5
    return [
        _move(_bps(candle.close, candle.open)),
        f"{_word(_bps(high, low), _SIZE_BPS, _CALM)} range",
        f"it closes {_word(place, _PLACE, _PLACES)}",
        _lean(candle.buy_volume, candle.sell_volume),
        _word(candle.trade_count, _TRADES, _CROWD),
        _word(_bps(candle.close, candle.vwap), _AVERAGE_BPS, _AVERAGES),
    ]


def _move(bps: float) -> str:
    if abs(bps) < 0.1:
        return "sideways: the price is unchanged"
    much = _word(abs(bps), _SIZE_BPS, _SIZES)
    return (
        f"bullish rally: the price climbs {much}" if bps > 0 else f"bearish sell-off: the price drops {much}"
    )


def _lean(buy: float, sell: float) -> str:
    """Say who took liquidity; of sides that are not known, nothing can be said."""
    both = buy + sell
    return _word((buy - sell) / both, _LEAN, _LEANS) if both > 0 else "the sides are unknown"


def _day(state: MarketState) -> list[str]:
    """Compare the day's cumulative delta with the bar's volume."""
    if state.flow is None or not math.isfinite(state.flow.cvd) or state.candle.volume <= 0:
        return []
    return [f"the day so far is {_word(state.flow.cvd / state.candle.volume, _DAYS_BARS, _DAYS)}"]


def _physics(physics: Physics) -> list[str]:
    said = [_said(getattr(physics, field), *words) for field, words in _PHYSICS.items()]
    regime = [f"{physics.regime} regime"] if physics.regime in {"Levy", "Gaussian"} else []
    return [one for one in said if one] + regime


def _sentiment(sentiment: Sentiment) -> list[str]:
    return [f"{sentiment.label.lower()} sentiment"] if sentiment.label else []


def _said(value: float | None, name: str, edges: Sequence[float], words: Sequence[str]) -> str:
    return "" if value is None or not math.isfinite(value) else f"{name} {_word(value, edges, words)}"


def _word(value: float, edges: Sequence[float], words: Sequence[str]) -> str:
    """Name the bucket of a value; one on an edge belongs above it."""
    return words[bisect_right(edges, value)]


def _bps(value: float, base: float) -> float:
    return (value / base - 1.0) * 10_000.0 if base > 0 else 0.0


def _known(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
