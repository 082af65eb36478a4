"""Made-up bars that make zones often, and a plain reference that looks at the whole list for each bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from analytics import zones
from analytics.zone_shapes import Params
from analytics.zones import Change
from market.rows import Candle, Zone
from market.times import rfc3339
from tests.analytics.worlds import MINUTE_NS, START_NS

EIGHTHS = 8.0  # sums, differences and mirror images of doubles are exact
CENTS = 100.0  # they are not, and bodies of exactly half a range are common


def candle(k: int, prices: tuple[float, float, float, float], volume: float = 1.0) -> Candle:
    opened, high, low, close = prices
    ts_ns = START_NS + k * MINUTE_NS
    return Candle(ts_ns, opened, high, low, close, volume, volume, 0.0, close, int(volume > 0), True, 0)


def made(seed: int, size: int, drift: float = 0.5, calm: float = 0.55, grid: float = EIGHTHS) -> list[Candle]:
    """Make bars: mostly quiet ones and impulses, which rise with probability `drift`."""
    rng = np.random.default_rng(seed)
    price, out = 8_000, list[Candle]()
    for k in range(size):
        kind = rng.choice(["quiet", "impulse", "flat", "wild"], p=[calm, 0.85 - calm, 0.1, 0.05])
        opened = price + int(rng.choice([0, 0, 0, -1, 2]))
        way = 1 if rng.random() < drift else -1
        if kind == "flat":
            body, up, down = 0, 0, 0
        elif kind == "quiet":
            body, up, down = way * int(rng.integers(0, 3)), *map(int, rng.integers(0, 4, 2))
        elif kind == "impulse":
            body, up, down = way * int(rng.integers(8, 50)), *map(int, rng.integers(0, 8, 2))
        else:
            body, up, down = int(rng.integers(-60, 61)), *map(int, rng.integers(0, 60, 2))
        price = max(opened + body, 200)
        high, low = max(opened, price) + up, min(opened, price) - down
        volume = 0.0 if kind == "flat" else float(rng.integers(0, 100)) / grid
        prices = (opened / grid, high / grid, low / grid, price / grid)
        out.append(candle(k, prices, volume))
    return out


@st.composite
def worlds(draw: st.DrawFn, max_size: int = 160) -> list[Candle]:
    size, seed = draw(st.integers(0, max_size)), draw(st.integers(0, 2**32))
    drift = draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
    calm = draw(st.sampled_from([0.4, 0.6, 0.75]))
    return made(seed, size, drift, calm, draw(st.sampled_from([EIGHTHS, CENTS])))


def fold(bars: list[Candle], params: Params | None = None, width_ns: int = MINUTE_NS) -> list[list[Change]]:
    state = zones.init(width_ns, "1m", params)
    return [zones.step(state, [bar]) for bar in bars]


def same(got: list[list[Change]], expected: list[list[Change]]) -> bool:
    """Tell whether everything is equal, strengths to 1e-9."""
    return [[_exact(x) for x in step] for step in got] == [
        [_exact(x) for x in step] for step in expected
    ] and all(
        math.isclose(x.row.strength, y.row.strength, rel_tol=1e-9)
        for a, b in zip(got, expected, strict=True)
        for x, y in zip(a, b, strict=True)
    )


def _exact(change: Change) -> Change:
    return change._replace(row=change.row._replace(strength=0.0))


@dataclass(frozen=True)
class Life:
    """A zone made by bar `at`, as all the bars after it treat it."""

    at: int
    demand: bool
    proximal: float
    distal: float
    strength0: float
    entries: list[int]
    broken: int  # the bar that breaks it, or one past the last


def reference(bars: list[Candle], max_active: int = 50, width_ns: int = MINUTE_NS) -> list[list[Change]]:
    """Follow the text of §5 with everything looked up in the whole list, in decimal arithmetic."""
    ranges = true_ranges(bars)
    lives: dict[int, Life] = {}
    displaced: set[int] = set()
    out: list[list[Change]] = []
    for i in range(len(bars)):
        changes: list[Change] = []
        for life in [x for x in lives.values() if x.at not in displaced]:
            if life.broken == i:
                changes.append(Change(_row(bars, life, i, width_ns), "ZONE_BROKEN", gone=True))
            elif i in life.entries:
                changes.append(Change(_row(bars, life, i, width_ns), "ZONE_TESTED", gone=False))
        new = _life(bars, i, ranges)
        if new is not None:
            unbroken = [x for x in lives.values() if x.at not in displaced and x.broken > i]
            if len(unbroken) == max_active:
                rows = [(_row(bars, x, i, width_ns), x.at) for x in unbroken]
                row, at = min(rows, key=lambda pair: (round(pair[0].strength, 12), pair[1]))
                displaced.add(at)
                changes.append(Change(row, "", gone=True))
            lives[i] = new
            changes.append(Change(_row(bars, new, i, width_ns), "ZONE_CREATED", gone=False))
        out.append(changes)
    return out


def _row(bars: list[Candle], life: Life, i: int, width_ns: int) -> Zone:
    tests = [j for j in life.entries if j <= i]
    is_broken = life.broken <= i
    ends = [bars[j].ts_ns + width_ns for j in [life.at, *tests, *([life.broken] if is_broken else [])]]
    return Zone(
        zone_id=f"1m:{rfc3339(bars[life.at].ts_ns)}",
        timeframe="1m",
        zone_type="DEMAND" if life.demand else "SUPPLY",
        price_low=min(life.proximal, life.distal),
        price_high=max(life.proximal, life.distal),
        strength=life.strength0 * math.pow(0.75, len(tests)),
        status="BROKEN" if is_broken else ("TESTED" if tests else "FRESH"),
        touches=len(tests),
        created_ns=ends[0],
        updated_ns=ends[-1],
        broken_ns=ends[-1] if is_broken else None,
    )


def _life(bars: list[Candle], i: int, ranges: list[Decimal | None]) -> Life | None:
    a, x = (ranges[i - 1] if i else None), bars[i]
    body, reach = _body(x), _reach(x)
    if a is None or a == 0 or reach <= 0 or body < Decimal("1.5") * a or body < Decimal("0.6") * reach:
        return None
    base: list[Candle] = []
    for j in range(i - 1, max(-1, i - 7), -1):
        scale = ranges[j - 1] if j else None
        if scale is None or _reach(bars[j]) > scale or _body(bars[j]) > _reach(bars[j]) / 2:
            break
        base.append(bars[j])
    if base and x.close > x.open and x.close > max(y.high for y in base):
        demand, proximal = True, max(max(y.open, y.close) for y in base)
        distal = min([x.low, *(y.low for y in base)])
    elif base and x.close < x.open and x.close < min(y.low for y in base):
        demand, proximal = False, min(min(y.open, y.close) for y in base)
        distal = max([x.high, *(y.high for y in base)])
    else:
        return None
    if abs(proximal - distal) <= 0:
        return None
    volumes = [y.volume for y in bars[max(0, i - 20) : i]]
    mean = math.fsum(volumes) / len(volumes)
    effort = 0.0 if mean == 0 else min(1.0, x.volume / (2 * mean))
    departure = abs(_exact_price(x.close) - _exact_price(proximal)) / (3 * a)
    strength0 = 0.5 * min(1.0, float(departure)) + 0.3 * effort + 0.2 / len(base)
    beyond = [y.close < distal if demand else y.close > distal for y in bars]
    broken = next((j for j in range(i + 1, len(bars)) if beyond[j]), len(bars))
    inside = [y.low <= proximal if demand else y.high >= proximal for y in bars]
    entries = [j for j in range(i + 1, broken) if inside[j] and (j == i + 1 or not inside[j - 1])]
    return Life(i, demand, proximal, distal, strength0, entries, broken)


def true_ranges(bars: list[Candle]) -> list[Decimal | None]:
    """Give Wilder's ATR (n = 14) after each bar."""
    true = [_reach(x) for x in bars[:1]]
    for before, x in pairwise(bars):
        gaps = [abs(_exact_price(edge) - _exact_price(before.close)) for edge in (x.high, x.low)]
        true.append(max(_reach(x), *gaps))
    out: list[Decimal | None] = [None] * min(13, len(bars))
    value = sum(true[:14], Decimal(0)) / 14
    for i in range(13, len(bars)):
        value = value if i == 13 else (13 * value + true[i]) / 14
        out.append(value)
    return out


def _body(x: Candle) -> Decimal:
    return abs(_exact_price(x.close) - _exact_price(x.open))


def _reach(x: Candle) -> Decimal:
    return _exact_price(x.high) - _exact_price(x.low)


def _exact_price(price: float) -> Decimal:
    """Give the decimal that a venue printed: the shortest that reads as this double."""
    return Decimal(repr(price))
