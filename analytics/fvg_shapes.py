"""A fair value gap: prices that three bars leave between the first and the third (definitions §4).

M. J. Huddleston (ICT), mentorship material 2016-2022.
"""

from __future__ import annotations

import msgspec

from market.rows import Candle, FairValueGap
from market.times import rfc3339


class Gap(msgspec.Struct, array_like=True):
    """An open gap; `reach` is the price furthest into it since it was there, at first its near edge."""

    middle_ns: int  # open time of its middle bar: no other gap has it
    sign: int  # +1 bullish: filled downwards; -1 bearish: filled upwards
    top: float
    bottom: float
    created_ns: int
    reach: float
    touched_ns: int | None = None  # end of the first bar that came to the near edge

    @property
    def rank(self) -> tuple[float, int]:
        """Order the gaps of one side: prices come to the highest first."""
        return self.sign * self.reach, self.middle_ns

    @property
    def is_filled(self) -> bool:
        return self.reach <= self.bottom if self.sign > 0 else self.reach >= self.top


def between(first: Candle, middle: Candle, last: Candle, width_ns: int) -> Gap | None:
    """Find the gap of three consecutive bars, whatever the direction of the middle one."""
    created_ns = last.ts_ns + width_ns
    if last.low > first.high:
        return Gap(middle.ts_ns, 1, last.low, first.high, created_ns, last.low)
    if last.high < first.low:
        return Gap(middle.ts_ns, -1, first.low, last.high, created_ns, last.high)
    return None


def row(gap: Gap, timeframe: str) -> FairValueGap:
    """Describe a gap as long as it is open."""
    depth = gap.top - gap.reach if gap.sign > 0 else gap.reach - gap.bottom
    return FairValueGap(
        f"{timeframe}:{rfc3339(gap.middle_ns)}",
        timeframe,
        "BULLISH" if gap.sign > 0 else "BEARISH",
        gap.top,
        gap.bottom,
        gap.created_ns,
        100.0 if gap.is_filled else 100.0 * depth / (gap.top - gap.bottom),
        "PARTIAL" if depth > 0 else "OPEN",
        None,
    )
