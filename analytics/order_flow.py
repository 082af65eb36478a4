"""Order flow of each minute, and cumulative volume delta (CVD) since 00:00 UTC."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analytics.bars import Bars, Closed, close, take
from analytics.panes import Pane
from market.rows import OrderFlow
from market.times import DAY_NS, NS_PER_S

WIDTH_NS = 60 * NS_PER_S


class State(msgspec.Struct):
    bars: Bars
    cvd: float = 0.0  # at the end of the last closed minute, 0 when that ended its day


def init() -> State:
    return State(Bars(WIDTH_NS))


def step(state: State, panes: Sequence[Pane]) -> list[OrderFlow]:
    """Take a batch's panes; return the minutes it closes.

    Raises ValueError, and changes nothing, if a pane belongs before the open minute.
    """
    return _rows(state, take(state.bars, panes))


def advance(state: State, watermark_ns: int) -> list[OrderFlow]:
    """Let event time pass; return the minutes it closes."""
    return _rows(state, close(state.bars, watermark_ns))


def closed_ns(state: State) -> int:
    """Tell the end of the last closed minute, the start of the open one; -1 before the first trade."""
    return state.bars.open_ns


def open_row(state: State) -> OrderFlow | None:
    """Show the open minute as it stands; None before the first trade."""
    return None if state.bars.open_ns < 0 else _row(state.bars.open_ns, state.bars.pane, state.cvd)


def cvd(state: State) -> float:
    """Tell the day's CVD now, the open minute included."""
    row = open_row(state)
    return 0.0 if row is None else row.cvd


def _rows(state: State, closed: Closed) -> list[OrderFlow]:
    out: list[OrderFlow] = []
    for start_ns, pane in closed:
        row = _row(start_ns, pane, state.cvd)
        state.cvd = 0.0 if (start_ns + WIDTH_NS) % DAY_NS == 0 else row.cvd
        out.append(row)
    return out


def _row(start_ns: int, pane: Pane | None, before: float) -> OrderFlow:
    if pane is None:
        return OrderFlow(start_ns, 0.0, 0.0, 0.0, before, None, 0)
    buy, sell = pane.buy_volume, pane.sell_volume
    delta = buy - sell
    return OrderFlow(
        start_ns, buy, sell, delta, before + delta, buy / sell if sell else None, pane.trade_count
    )
