"""Cut time into bars: the part that every fold over panes shares.

A bar [k*width, (k+1)*width) closes when event time reaches its end, said by a later pane or by the watermark.
From the first trade on there is no hole: a bar without trades closes with None. A call makes as many bars as
it closes; whoever crosses a long silence in small portions closes up to times between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from analytics.panes import Pane, merge

Closed: TypeAlias = list[tuple[int, Pane | None]]
"""(start in ns, its trades) of bars in time order."""


class Bars(msgspec.Struct):
    """The open bar; `open_ns` is -1 before the first trade."""

    width_ns: int
    open_ns: int = -1
    pane: Pane | None = None


def take(bars: Bars, panes: Iterable[Pane]) -> Closed:
    """Merge panes in time order; raise ValueError, and change nothing, if one belongs before the open bar."""
    closed: Closed = []
    for pane in panes:
        start = pane.first[0] - pane.first[0] % bars.width_ns
        if start > bars.open_ns:
            closed += close(bars, start)
            bars.open_ns, bars.pane = start, pane
        elif start == bars.open_ns:
            bars.pane = pane if bars.pane is None else merge(bars.pane, pane)
        else:
            raise ValueError(f"trade {pane.first[1]} at {pane.first[0]} belongs before {bars.open_ns}")
    return closed


def close(bars: Bars, watermark_ns: int) -> Closed:
    """Close every bar that ends at or before `watermark_ns`."""
    start, width = bars.open_ns, bars.width_ns
    if start < 0 or watermark_ns < start + width:
        return []
    bars.open_ns = watermark_ns - watermark_ns % width
    pane, bars.pane = bars.pane, None
    return [(start, pane), *((at, None) for at in range(start + width, bars.open_ns, width))]
