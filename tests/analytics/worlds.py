"""Made-up trades for laws, and a plain reference that bars are compared with."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from market.rows import Candle, OrderFlow
from market.ticks import TICK, Ticks
from market.times import DAY_NS, NS_PER_S

START_NS = 1_723_161_540 * NS_PER_S  # one minute before a UTC midnight
MINUTE_NS = 60 * NS_PER_S
_GAPS_NS = (0, 0, 1, 400_000_000, 20 * NS_PER_S, MINUTE_NS, 400 * NS_PER_S, 2_000 * NS_PER_S)


@st.composite
def ticks(draw: st.DrawFn, max_size: int = 120) -> Ticks:
    """Draw trades in order, with ties, silences, exact boundaries and unknown sides."""
    size = draw(st.integers(1, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    out = np.zeros(size, TICK)
    out["trade_id"] = 1_000 + np.arange(size)
    out["ts_ns"] = START_NS + np.cumsum(rng.choice(_GAPS_NS, size))
    out["price"] = 61_700 + rng.integers(-50, 50, size) / 100
    out["size"] = rng.integers(1, 10**6, size) / 10**5
    out["side"] = rng.choice([-1, 1, 1, 0] if draw(st.booleans()) else [-1, 1], size)
    return out


@st.composite
def splits(draw: st.DrawFn, size: int) -> list[slice]:
    """Draw a partition of `size` things into batches."""
    cuts = draw(st.sets(st.integers(1, size - 1), max_size=8)) if size > 1 else set()
    return [slice(a, b) for a, b in pairwise([0, *sorted(cuts), size])]


def reference_candles(data: Ticks, width_ns: int, until_ns: int) -> list[Candle]:
    """Make every bar that ends by `until_ns`, trade by trade."""
    bars = defaultdict(list)
    for trade_id, ts, price, size, _, side in sorted(data.tolist(), key=lambda row: (row[1], row[0])):
        bars[ts // width_ns].append((price, size, side, trade_id))
    out: list[Candle] = []
    for k in range(min(bars), until_ns // width_ns):
        trades = bars.get(k)
        if trades:
            prices = [p for p, *_ in trades]
            volume = sum(q for _, q, *_ in trades)
            buy = sum(q for _, q, s, _ in trades if s == 1)
            sell = sum(q for _, q, s, _ in trades if s == -1)
            vwap = sum(p * q for p, q, *_ in trades) / volume
            bar = (prices[0], max(prices), min(prices), prices[-1], volume, buy, sell, vwap, len(trades))
        else:
            close = out[-1].close
            bar = (close, close, close, close, 0.0, 0.0, 0.0, close, 0)
        out.append(Candle(k * width_ns, *bar, is_complete=True, revision=0))
    return out


def reference_flow(data: Ticks, until_ns: int) -> list[OrderFlow]:
    out: list[OrderFlow] = []
    for bar in reference_candles(data, MINUTE_NS, until_ns):
        day = bar.ts_ns // DAY_NS
        delta = bar.buy_volume - bar.sell_volume
        end = bar.ts_ns + MINUTE_NS
        session = data[(data["ts_ns"] // DAY_NS == day) & (data["ts_ns"] < end)]
        cvd = float((session["size"] * session["side"]).sum())
        ratio = bar.buy_volume / bar.sell_volume if bar.sell_volume else None
        out.append(OrderFlow(bar.ts_ns, bar.buy_volume, bar.sell_volume, delta, cvd, ratio, bar.trade_count))
    return out


def same_candles(got: list[Candle], expected: list[Candle]) -> bool:
    """Tell whether prices and counts are equal, and sums to 1e-9."""
    return [_exact(x) for x in got] == [_exact(x) for x in expected] and _close(
        [(x.volume, x.buy_volume, x.sell_volume, x.vwap) for x in got],
        [(x.volume, x.buy_volume, x.sell_volume, x.vwap) for x in expected],
    )


def same_flow(got: list[OrderFlow], expected: list[OrderFlow], scale: float) -> bool:
    """Tell whether counts are equal, and sums to 1e-9 of `scale`, the volume that went into them."""
    return [_counts(x) for x in got] == [_counts(x) for x in expected] and bool(
        np.allclose([_sums(x) for x in got], [_sums(x) for x in expected], rtol=1e-9, atol=1e-9 * scale)
    )


def _exact(x: Candle) -> tuple[object, ...]:
    return (x.ts_ns, x.open, x.high, x.low, x.close, x.trade_count, x.is_complete, x.revision)


def _counts(x: OrderFlow) -> tuple[object, ...]:
    return x.ts_ns, x.trade_count, x.imbalance_ratio is None


def _sums(x: OrderFlow) -> tuple[float, ...]:
    return x.buy_volume, x.sell_volume, x.delta, x.cvd, x.imbalance_ratio or 0.0


def _close(got: list[tuple[float, ...]], expected: list[tuple[float, ...]]) -> bool:
    return bool(np.allclose(got, expected, rtol=1e-9, atol=0.0))
