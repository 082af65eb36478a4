"""Made-up trades for the market state: dense and thin seconds, silences, ties, jumps."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from analytics import market_state
from analytics.market_state import Params
from analytics.steps import Floats
from market.rows import MarketState
from market.ticks import TICK, Ticks
from market.times import NS_PER_S
from tests.analytics.worlds import START_NS

SMALL = Params(
    momentum_steps=6,
    entropy_steps=20,
    entropy_needs=5,
    equilibrium_steps=12,
    tail_steps=40,
    tail_least=3,
    tail_needs=12,
)
"""Windows that a few dozen steps fill, go round and leave."""

_GAPS_NS = (0, 0, 1, 30_000_000, 300_000_000, NS_PER_S, NS_PER_S, 7 * NS_PER_S, 25 * NS_PER_S)


@st.composite
def ticks(draw: st.DrawFn, max_size: int = 120) -> Ticks:
    size, seed = draw(st.integers(1, max_size)), draw(st.integers(0, 2**32))
    moves = draw(st.sampled_from([(0,), (-1, 0, 1), (-40, -3, 0, 0, 0, 2, 40)]))
    sides = draw(st.sampled_from([(1,), (-1, 1), (-1, 0, 1, 1)]))
    return made(seed, size, moves, sides)


def made(seed: int, size: int, moves: tuple[int, ...], sides: tuple[int, ...]) -> Ticks:
    rng = np.random.default_rng(seed)
    out = np.zeros(size, TICK)
    out["trade_id"] = 1_000 + np.arange(size)
    out["ts_ns"] = START_NS + np.cumsum(rng.choice(_GAPS_NS, size))
    out["price"] = (60_000 + np.cumsum(rng.choice(moves, size))) / 100
    out["size"] = rng.integers(1, 10**6, size) / 10**5
    out["side"] = rng.choice(sides, size)
    return out


def walk(prices: Floats) -> Ticks:
    """Make one trade a step, of size 1, sides in turn."""
    out = np.zeros(len(prices), TICK)
    out["trade_id"] = np.arange(len(prices))
    out["ts_ns"] = START_NS + np.arange(len(prices)) * NS_PER_S
    out["price"], out["size"] = prices, 1.0
    out["side"] = np.where(np.arange(len(prices)) % 2, 1, -1)
    return out


def after(data: Ticks) -> int:
    return int(data["ts_ns"].max()) + 20 * NS_PER_S


def fold(data: Ticks, params: Params, until_ns: int, batches: list[slice] | None = None) -> list[MarketState]:
    state = market_state.init(params)
    rows = [row for cut in batches or [slice(None)] for row in market_state.step(state, data[cut])]
    return rows + market_state.advance(state, until_ns)
