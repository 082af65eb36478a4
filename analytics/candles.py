"""Candles of one timeframe (definitions §1: a bar without trades is flat at the previous close).

Prices and counts are exact; volumes are float64 sums, so their last bits depend on how ticks were batched.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analytics.bars import Bars, Closed, close, take
from analytics.panes import Pane
from market.rows import Candle


class State(msgspec.Struct):
    bars: Bars
    close: float = 0.0  # of the last closed bar


def init(width_ns: int) -> State:
    """Begin a timeframe, a multiple of the panes' width."""
    return State(Bars(width_ns))


def step(state: State, panes: Sequence[Pane]) -> list[Candle]:
    """Take a batch's panes; return the bars it closes.

    Raises ValueError, and changes nothing, if a pane belongs before the open bar.
    """
    return _rows(state, take(state.bars, panes))


def advance(state: State, watermark_ns: int) -> list[Candle]:
    """Let event time pass; return the bars it closes."""
    return _rows(state, close(state.bars, watermark_ns))


def closed_ns(state: State) -> int:
    """Tell the end of the last closed bar, the start of the open one; -1 before the first trade."""
    return state.bars.open_ns


def open_row(state: State) -> Candle | None:
    """Show the open bar as it stands; None before the first trade."""
    if state.bars.open_ns < 0:
        return None
    return _candle(state.bars.open_ns, state.bars.pane, state.close, is_complete=False)


def _rows(state: State, closed: Closed) -> list[Candle]:
    out: list[Candle] = []
    for start_ns, pane in closed:
        row = _candle(start_ns, pane, state.close, is_complete=True)
        state.close = row.close
        out.append(row)
    return out


def _candle(start_ns: int, pane: Pane | None, previous: float, *, is_complete: bool) -> Candle:
    if pane is None:
        at = previous
        return Candle(start_ns, at, at, at, at, 0.0, 0.0, 0.0, at, 0, is_complete, 0)
    x = pane
    # The quotient of two rounded sums may leave [low, high] by its last bit.
    vwap = min(x.high, max(x.low, x.quote_volume / x.volume))
    return Candle(
        start_ns,
        x.open,
        x.high,
        x.low,
        x.close,
        x.volume,
        x.buy_volume,
        x.sell_volume,
        vwap,
        x.trade_count,
        is_complete,
        0,
    )
