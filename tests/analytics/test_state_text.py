from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.state_text import MarketState, Physics, Sentiment, metadata, text
from market.rows import Candle, OrderFlow

PRICES = st.floats(1e-6, 1e6)
SHARES = st.floats(0, 1)


def candle(bps: float = 20.0, buy: float = 6.0, sell: float = 4.0, trades: int = 100) -> Candle:
    close = 100 * (1 + bps / 10_000)
    low, high = min(100.0, close) - 0.01, max(100.0, close) + 0.01
    vwap = (100 + close) / 2
    return Candle(0, 100.0, high, low, close, buy + sell, buy, sell, vwap, trades, True, 0)


FLAT = Candle(0, 5.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 5.0, 0, True, 0)
PHYSICS = Physics(
    mass=3.5, momentum=-2.5, friction=0.4, entropy=0.95, nash_dist=2.0, alpha=1.8, regime="Levy"
)
KNOWN = MarketState(
    symbol="BTC", ts_ns=7, candle=candle(), physics=PHYSICS, sentiment=Sentiment(label="Bearish", score=0.3)
)
NOTHING = dict.fromkeys(("mass", "momentum", "friction", "entropy", "nash_dist", "alpha", "regime"))


def state(bar: Candle, **known: object) -> MarketState:
    return MarketState(symbol="BTC", ts_ns=bar.ts_ns, candle=bar, **known)  # type: ignore[arg-type]


def test_a_candle_in_words() -> None:
    assert text(state(candle())) == (
        "bullish rally: the price climbs strongly; lively range; it closes at its high; "
        "slight buying pressure; some trades; above the average price paid."
    )
    assert text(state(candle(-2, 0, 9, 3))) == (
        "bearish sell-off: the price drops a little; calm range; it closes near its low; "
        "panic selling, no buyers; sparse trades; just below the average price paid."
    )


def test_what_is_known_besides_the_candle_follows_it() -> None:
    flow = OrderFlow(0, 6.0, 4.0, 2.0, -100.0, 1.5, 100)
    assert text(replace(KNOWN, flow=flow)).removeprefix(text(state(candle()))[:-1]) == (
        "; the day so far is sold; turnover huge; momentum plunging; liquidity very deep; moves random; "
        "equilibrium left behind; tails heavy; Levy regime; bearish sentiment."
    )


def test_a_bar_without_trades_and_a_bar_of_one_price() -> None:
    assert text(state(FLAT)) == "dead market: nothing was traded, the price stands still."
    one = Candle(0, 5.0, 5.0, 5.0, 5.0, 2.0, 2.0, 0.0, 5.0, 1, True, 0)
    assert text(state(one)) == (
        "sideways: the price is unchanged; motionless range; it closes in the middle; "
        "eager buying, no sellers; sparse trades; at the average price paid."
    )
    assert "the sides are unknown" in text(state(candle(buy=0, sell=0)))


def test_metadata_is_the_contracts_with_nulls_for_what_is_not_known() -> None:
    assert metadata(state(FLAT)) == {"physics": NOTHING, "sentiment": {"label": None, "score": None}}
    assert metadata(KNOWN) == {
        "physics": {
            "mass": 3.5,
            "momentum": -2.5,
            "friction": 0.4,
            "entropy": 0.95,
            "nash_dist": 2.0,
            "alpha": 1.8,
            "regime": "Levy",
        },
        "sentiment": {"label": "Bearish", "score": 0.3},
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_known(value: float) -> None:
    odd = state(candle(), physics=Physics(mass=value, alpha=2.5), sentiment=Sentiment(score=value))
    assert metadata(odd)["physics"] == NOTHING | {"alpha": 2.5}
    assert metadata(odd)["sentiment"] == {"label": None, "score": None}
    assert text(odd) == text(state(candle(), physics=Physics(alpha=2.5)))


@given(PRICES, st.floats(0.5, 2), SHARES, SHARES, st.integers(0, 10**6))
def test_any_candle_has_a_text_that_depends_on_no_time_pair_or_call(
    base: float, factor: float, place: float, buy: float, trades: int
) -> None:
    close = base * factor
    low, high = min(base, close), max(base, close)
    bar = Candle(5, base, high, low, close, 1.0, buy, 1 - buy, low + (high - low) * place, trades, True, 0)
    said = text(state(bar))
    assert said.endswith(".")
    assert "nan" not in said
    other = MarketState(symbol="ETH", ts_ns=99, candle=bar._replace(ts_ns=99, revision=3))
    assert text(other) == said


@given(PRICES, SHARES, st.integers(-12, 12), st.integers(-12, 12))
def test_neither_the_price_level_nor_the_unit_of_volume_matters(
    base: float, buy: float, prices: int, sizes: int
) -> None:
    bar = Candle(0, base, base * 1.003, base * 0.998, base * 1.001, 1.0, buy, 1 - buy, base, 40, True, 0)
    p, q = 2.0**prices, 2.0**sizes  # exact, so that no figure moves over an edge by its last bit
    scaled = Candle(
        0,
        bar.open * p,
        bar.high * p,
        bar.low * p,
        bar.close * p,
        q,
        bar.buy_volume * q,
        bar.sell_volume * q,
        bar.vwap * p,
        40,
        True,
        0,
    )
    assert text(state(scaled)) == text(state(bar))
