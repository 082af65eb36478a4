"""Made-up bars that leave gaps often, and a plain reference that looks at every later bar for each gap."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from analytics import fvg
from analytics.fvg import Change, Params
from market.rows import Candle, FairValueGap
from market.times import DAY_NS, NS_PER_MS, rfc3339
from tests.analytics.worlds import MINUTE_NS, START_NS
from tests.recordings import beside, table

HOUR_NS = 60 * MINUTE_NS
WIDTH_NS = 3 * HOUR_NS  # eight bars are a gap's life
TICK_SIZE = 0.01
NO_FILTER = Params()


def candle(k: int, cents: Sequence[int], width_ns: int = WIDTH_NS) -> Candle:
    """Make bar `k` of open, high, low and close in cents."""
    opened, high, low, close = (x / 100 for x in cents)
    ts_ns = START_NS // DAY_NS * DAY_NS + k * width_ns
    return Candle(ts_ns, opened, high, low, close, 1.0, 1.0, 0.0, close, 1, True, 0)


def flat(k: int, cents: int) -> Candle:
    return candle(k, (cents,) * 4)


@st.composite
def worlds(draw: st.DrawFn, max_size: int = 100) -> list[Candle]:
    """Draw bars of small and large steps, flat ones, and at times holes between them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    step = draw(st.sampled_from([2, 6, 25]))
    hole = draw(st.sampled_from([0.0, 0.0, 0.1]))
    price, k, out = draw(st.sampled_from([1_000, 6_183_763])), 0, list[Candle]()
    for _ in range(draw(st.integers(0, max_size))):
        k += 1 + (int(rng.integers(1, 12)) if rng.random() < hole else 0)
        if rng.random() < 0.1:
            out.append(flat(k, price))
            continue
        opened, body = price + int(rng.integers(-1, 2)), int(rng.integers(-step, step + 1))
        price = max(opened + body, 100)
        up, down = (int(x) for x in rng.integers(0, max(step // 3, 2), 2))
        out.append(candle(k, (opened, max(opened, price) + up, min(opened, price) - down, price)))
    return out


def fold(
    bars: list[Candle],
    params: Params = NO_FILTER,
    width_ns: int = WIDTH_NS,
    tick_size: float = TICK_SIZE,
) -> list[list[Change]]:
    """Take bars one by one; return the changes of each."""
    state = fvg.init(width_ns, "3h", params, tick_size)
    return [fvg.step(state, [bar]) for bar in bars]


def reference(
    bars: list[Candle],
    params: Params = NO_FILTER,
    width_ns: int = WIDTH_NS,
    tick_size: float = TICK_SIZE,
) -> list[list[Change]]:
    """Follow each gap of each three bars through all the bars after it (definitions §4, line by line)."""
    out: list[list[Change]] = [[] for _ in bars]
    for i in range(2, len(bars)):
        gap = _gap(bars[i - 2], bars[i - 1], bars[i], width_ns, directed=params.require_middle_direction)
        if gap is not None and _passes(gap, bars[: i + 1], params, tick_size):
            out[i].append(Change(gap, "FVG_OPENED"))
            for j, change in _life(gap, bars, i, width_ns):
                out[j].append(change)
    return out


def same(got: list[list[Change]], expected: list[list[Change]]) -> bool:
    """Compare bar by bar; in which order a bar comes to different gaps is open."""
    return [_ordered(changes) for changes in got] == [_ordered(changes) for changes in expected]


def published(name: str) -> list[Candle]:
    """Read recorded bars."""
    out: list[Candle] = []
    for row in table(beside(f"bars/{name}.csv.gz")):
        ts_ns = int(row["ts_open_ns"]) if "ts_open_ns" in row else int(row["open_time_ms"]) * NS_PER_MS
        opened, high, low, close, volume = (float(row[x]) for x in ("open", "high", "low", "close", "volume"))
        out.append(Candle(ts_ns, opened, high, low, close, volume, 0.0, 0.0, close, 1, True, 0))
    return out


def touches(bars: list[Candle], width_ns: int = WIDTH_NS) -> dict[int, int]:
    """Tell of the gaps that were touched, by the open time of the middle bar, when that was first."""
    state, out = fvg.init(width_ns, "3h", NO_FILTER, TICK_SIZE), dict[int, int]()
    for bar in bars:
        before = dict(state.gaps)
        fvg.step(state, [bar])
        out |= {key: gap.touched_ns for key, gap in (before | state.gaps).items() if gap.touched_ns}
    return out


def reference_touches(bars: list[Candle], width_ns: int = WIDTH_NS) -> dict[int, int]:
    out: dict[int, int] = {}
    for i in range(2, len(bars)):
        gap = _gap(bars[i - 2], bars[i - 1], bars[i], width_ns, directed=True)
        if gap is None:
            continue
        up, last_ns = gap.gap_type == "BULLISH", gap.created_ns + DAY_NS - width_ns
        later = (bar for bar in bars[i + 1 :] if bar.ts_ns <= last_ns)
        first = next((x for x in later if (x.low <= gap.top if up else x.high >= gap.bottom)), None)
        if first is not None:
            out[bars[i - 1].ts_ns] = first.ts_ns + width_ns
    return out


def _gap(one: Candle, two: Candle, three: Candle, width_ns: int, *, directed: bool) -> FairValueGap | None:
    if three.low > one.high and (not directed or two.close > two.open):
        kind, bottom, top = "BULLISH", one.high, three.low
    elif three.high < one.low and (not directed or two.close < two.open):
        kind, bottom, top = "BEARISH", three.high, one.low
    else:
        return None
    name = f"3h:{rfc3339(two.ts_ns)}"
    return FairValueGap(name, "3h", kind, top, bottom, three.ts_ns + width_ns, 0.0, "OPEN", None)


def _passes(gap: FairValueGap, until: list[Candle], params: Params, tick_size: float) -> bool:
    height = Decimal(repr(gap.top)) - Decimal(repr(gap.bottom))
    if height < Decimal(repr(params.min_gap_ticks)) * Decimal(repr(tick_size)):
        return False
    if params.min_gap_atr == 0:
        return True
    average = _wilder(until)
    return average is not None and gap.top - gap.bottom >= params.min_gap_atr * average


def _wilder(bars: list[Candle]) -> float | None:
    if len(bars) < 14:
        return None
    ranges = [bars[0].high - bars[0].low]
    ranges += [max(b.high - b.low, abs(b.high - a.close), abs(b.low - a.close)) for a, b in pairwise(bars)]
    average = sum(ranges[:14]) / 14
    for one in ranges[14:]:
        average = (13 * average + one) / 14
    return average


def _life(gap: FairValueGap, bars: list[Candle], i: int, width_ns: int) -> list[tuple[int, Change]]:
    """List what becomes of a gap confirmed by bar `i`, with the bar that tells it."""
    out: list[tuple[int, Change]] = []
    for j in range(i + 1, len(bars)):
        end_ns, since = bars[j].ts_ns + width_ns, bars[i + 1 : j + 1]
        if end_ns <= gap.created_ns + DAY_NS:
            if gap.gap_type == "BULLISH":
                fraction = (gap.top - min(bar.low for bar in since)) / (gap.top - gap.bottom)
            else:
                fraction = (max(bar.high for bar in since) - gap.bottom) / (gap.top - gap.bottom)
            filled_pct = 100.0 * min(max(fraction, 0.0), 1.0)
            if filled_pct == 100.0:
                now = gap._replace(filled_pct=100.0, status="FILLED", filled_ns=end_ns)
                return [*out, (j, Change(now, "FVG_FILLED"))]
            if filled_pct != gap.filled_pct:
                gap = gap._replace(filled_pct=filled_pct, status="PARTIAL")
                out.append((j, Change(gap, "")))
        if end_ns >= gap.created_ns + DAY_NS:
            return [*out, (j, Change(gap._replace(status="EXPIRED"), ""))]
    return out


def _ordered(changes: list[Change]) -> list[Change]:
    rounded = [x._replace(row=x.row._replace(filled_pct=round(x.row.filled_pct, 7))) for x in changes]
    return sorted(rounded, key=lambda change: change.row.gap_id)
