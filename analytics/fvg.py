"""Fair value gaps of one timeframe (definitions §4): they open, are filled bit by bit, and expire."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from analytics import atr
from analytics.fvg_shapes import Gap, between, row
from market.rows import Candle, FairValueGap
from market.times import DAY_NS

LIFE_NS = DAY_NS


class Params(msgspec.Struct, frozen=True):
    """What makes a gap; `min_gap_atr` is in average true ranges after the third bar, none before bar 14."""

    require_middle_direction: bool = True
    min_gap_ticks: float = 0.0
    min_gap_atr: float = 0.0


class Change(NamedTuple):
    """A gap as it is now; `event` is FVG_OPENED, FVG_FILLED, or empty where nothing is announced."""

    row: FairValueGap
    event: str


Side: TypeAlias = list[tuple[float, int]]
"""Ranks of gaps in ascending order."""


class State(msgspec.Struct):
    """Open gaps: each has a middle bar of its own and lives for 24 h, which bounds their number."""

    width_ns: int
    timeframe: str
    params: Params
    tick_size: float
    atr: atr.State
    first: Candle | None = None  # the last two bars
    middle: Candle | None = None
    gaps: dict[int, Gap] = {}  # by middle_ns, oldest first
    bullish: Side = []
    bearish: Side = []


def init(width_ns: int, timeframe: str, params: Params, tick_size: float) -> State:
    """Begin a timeframe; a tick size of 0, not known, leaves `min_gap_ticks` out."""
    return State(width_ns, timeframe, params, tick_size, atr.init())


def step(state: State, bars: Sequence[Candle]) -> list[Change]:
    """Take the next complete bars; return the gaps that opened or changed, once for each bar that did it."""
    return [change for bar in bars for change in _step(state, bar)]


def open_gaps(state: State) -> list[FairValueGap]:
    """Show the gaps that are neither filled nor expired, oldest first."""
    return [row(gap, state.timeframe) for gap in state.gaps.values()]


def _step(state: State, bar: Candle) -> list[Change]:
    end_ns = bar.ts_ns + state.width_ns
    # A bar that ends with a gap's life may still fill it, one that ends later is too late.
    changes = _expire(state, end_ns - 1)
    changes += _reach(state, state.bullish, bar.low, end_ns)
    changes += _reach(state, state.bearish, bar.high, end_ns)
    changes += _expire(state, end_ns)
    changes += _open(state, bar)
    state.first, state.middle = state.middle, bar
    return changes


def _open(state: State, bar: Candle) -> list[Change]:
    average = atr.step(state.atr, bar) if state.params.min_gap_atr > 0 else None
    if state.first is None or state.middle is None:
        return []
    gap = between(state.first, state.middle, bar, state.width_ns)
    if gap is None or not _counts(state, gap, state.middle, average):
        return []
    state.gaps[gap.middle_ns] = gap
    insort(_side(state, gap), gap.rank)
    return [Change(row(gap, state.timeframe), "FVG_OPENED")]


def _counts(state: State, gap: Gap, middle: Candle, average: float | None) -> bool:
    height, params = gap.top - gap.bottom, state.params
    if params.require_middle_direction and gap.sign * middle.close <= gap.sign * middle.open:
        return False
    # The difference of two prices misses a whole number of ticks by its last bits.
    if height < (params.min_gap_ticks - 1e-6) * state.tick_size:
        return False
    return params.min_gap_atr <= 0 or (average is not None and height >= params.min_gap_atr * average)


def _reach(state: State, side: Side, price: float, end_ns: int) -> list[Change]:
    """Let a bar that came to `price` reach into the gaps of one side, the nearest first."""
    changes: list[Change] = []
    reached: list[Gap] = []
    sign = 1 if side is state.bullish else -1
    while side and side[-1][0] >= sign * price:
        reached.append(state.gaps[side.pop()[1]])
    for gap in reached:
        gap.touched_ns = gap.touched_ns or end_ns
        if gap.reach != price:
            gap.reach = price
            changes.append(_changed(state, gap, end_ns))
        if gap.middle_ns in state.gaps:
            insort(side, gap.rank)
    return changes


def _changed(state: State, gap: Gap, end_ns: int) -> Change:
    now = row(gap, state.timeframe)
    if not gap.is_filled:
        return Change(now, "")
    del state.gaps[gap.middle_ns]
    return Change(now._replace(status="FILLED", filled_ns=end_ns), "FVG_FILLED")


def _expire(state: State, now_ns: int) -> list[Change]:
    changes: list[Change] = []
    while (gap := next(iter(state.gaps.values()), None)) and gap.created_ns + LIFE_NS <= now_ns:
        del state.gaps[gap.middle_ns]
        side = _side(state, gap)
        del side[bisect_left(side, gap.rank)]
        changes.append(Change(row(gap, state.timeframe)._replace(status="EXPIRED"), ""))
    return changes


def _side(state: State, gap: Gap) -> Side:
    return state.bullish if gap.sign > 0 else state.bearish
