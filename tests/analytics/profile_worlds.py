"""Made-up trades that tie often, and a plain reference that builds every row of a profile from all trades."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import numpy as np
from hypothesis import strategies as st

from analytics import profile
from analytics.profile import Params
from market.rows import MarketProfile
from market.ticks import TICK, Ticks
from market.times import DAY_NS
from tests.analytics.worlds import MINUTE_NS, START_NS

TICK_SIZE = 0.01
DEFAULTS = Params()
PARAMS = (
    DEFAULTS,
    Params(va_step=1),
    Params(bin_ticks=7),
    Params(va_step=3, va_share=0.5),
    Params(bin_ticks=3, va_share=1.0),
)
_GAPS_NS = (0, 1, 10**9, 20 * 10**9, MINUTE_NS, 5 * MINUTE_NS)


@st.composite
def ties(draw: st.DrawFn, max_size: int = 120) -> Ticks:
    """Draw trades of a few sizes at a few prices: sums are equal often, and as floats hardly ever."""
    size, width = draw(st.integers(1, max_size)), draw(st.sampled_from([1, 3, 9, 30]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    out = np.zeros(size, TICK)
    out["trade_id"] = np.arange(size)
    out["ts_ns"] = START_NS + np.cumsum(rng.choice(_GAPS_NS, size))
    out["price"] = (6_170_000 + rng.integers(0, width, size)) / 100
    out["size"] = rng.choice(draw(st.sampled_from([[0.1, 0.2, 0.3], [1.0], [1e-8, 3e-8], [0.7, 1e3]])), size)
    out["side"] = rng.choice([-1, 0, 1], size)
    return out


def fold(
    data: Ticks,
    params: Params = DEFAULTS,
    batches: list[slice] | None = None,
    tick_size: float = TICK_SIZE,
) -> list[MarketProfile]:
    """Take all ticks, and let the last minute end."""
    state = profile.init(params, tick_size)
    rows = [row for cut in batches or [slice(None)] for row in profile.step(state, data[cut])]
    return rows + profile.advance(state, int(data["ts_ns"].max()) + MINUTE_NS)


def reference(data: Ticks, params: Params = DEFAULTS, tick_size: float = TICK_SIZE) -> list[MarketProfile]:
    """Follow definitions §3 word by word, in decimals."""
    width = Decimal(repr(tick_size)) * params.bin_ticks
    out: list[MarketProfile] = []
    for minute in sorted(set((data["ts_ns"] // MINUTE_NS).tolist())):
        start_ns, end_ns = minute * MINUTE_NS // DAY_NS * DAY_NS, (minute + 1) * MINUTE_NS
        session = data[(data["ts_ns"] >= start_ns) & (data["ts_ns"] < end_ns)]
        volumes: dict[int, Decimal] = defaultdict(Decimal)
        for price, size in zip(session["price"].tolist(), session["size"].tolist(), strict=True):
            volumes[int(Decimal(repr(price)) // width)] += Decimal(repr(size))
        poc, high, low = walked(volumes, Decimal(repr(params.va_share)), params.va_step)
        poc_price, high_price, low_price = (float(row * width) for row in (poc, high, low))
        total = float(sum(volumes.values()))
        out.append(
            MarketProfile(start_ns, end_ns, poc_price, high_price, low_price, total, float(width)),
        )
    return out


def walked(volumes: dict[int, Decimal], share: Decimal, step: int) -> tuple[int, int, int]:
    """Find POC, value area high and low, row by row."""
    bottom, top, total = min(volumes), max(volumes), sum(volumes.values())
    most = max(volumes.values())
    largest = [row for row, volume in volumes.items() if volume == most]
    poc = min(largest, key=lambda row: (abs(2 * row - bottom - top), row))
    low = high = poc
    included = most
    while included < share * total:
        above = range(high + 1, min(high + step, top) + 1)
        below = range(max(low - step, bottom), low)
        up, down = (sum(volumes.get(row, Decimal(0)) for row in rows) for rows in (above, below))
        if above and (not below or up >= down):
            high, included = high + len(above), included + up
        else:
            low, included = low - len(below), included + down
    return poc, high, low


def same(got: list[MarketProfile], expected: list[MarketProfile]) -> bool:
    """Tell whether times and prices are equal, and volumes to 1e-9."""
    exact, expected_exact = ([row._replace(total_volume=0.0) for row in rows] for rows in (got, expected))
    volumes, expected_volumes = ([row.total_volume for row in rows] for rows in (got, expected))
    return exact == expected_exact and bool(np.allclose(volumes, expected_volumes, rtol=1e-9, atol=0.0))
