"""Order imbalance of the last minutes, exact to the trade: (B - S) / (B + S) of trades in (t - W, t].

T. Chordia, R. Roll and A. Subrahmanyam, Order Imbalance, Liquidity, and Market Returns, Journal of Financial
Economics 2002. Trades are kept in cells, one for each time at which there were any, and cells in blocks of
a minute. A complete block holds for each cell the sums from it to the block's end, so a window is the rest of
its oldest block, at most a few whole ones, and the open one: nothing is subtracted when a trade leaves.

Bound: at most 2,000 cells of 24 bytes a second, and as many minutes as the longest window touches, 17 MB for
five minutes at any rate; at 30 trades a second it is 0.1 MB. Only where a second has trades at more than
1,000 times do its further ones share cells of a millisecond: the edge is exact to that millisecond then.
"""

from __future__ import annotations

from struct import Struct
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from analytics.steps import Floats
from market.ticks import Ticks
from market.times import NS_PER_MS, NS_PER_S, floor_ns

WIDTH_NS = 60 * NS_PER_S
"""Of a block. Bars of a minute close where blocks do, so that no trade comes after its block is complete."""

Times: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Columns: TypeAlias = tuple[Times, Floats, Floats]
_CELL = Struct("<qdd")
_CELLS = np.dtype([("ts_ns", "<i8"), ("buy", "<f8"), ("sell", "<f8")])
_EXACT = 1_000  # times a second that have a cell each
_FEW = 48
_MANY = 4_096  # ticks at a time: larger arrays are slower


class Block(msgspec.Struct):
    """A complete minute; each cell holds the sums from it to the end."""

    start_ns: int
    cells: bytes


class State(msgspec.Struct):
    """The open minute's cells and their sum, and the complete minutes that windows can still reach."""

    keep_ns: int  # the longest window
    start_ns: int = -1  # of the open minute, -1 before the first trade
    cells: bytearray = bytearray()
    buy: float = 0.0
    sell: float = 0.0
    last_ns: int = -1  # time of the last trade
    times: int = 0  # different ones in its second
    blocks: list[Block] = []


def init(*windows_ns: int) -> State:
    """Begin a pair that will be asked for these windows."""
    return State(max(windows_ns))


def step(state: State, ticks: Ticks) -> None:
    """Take ticks in order; of a side that is not known, none counts.

    Raises ValueError, and changes nothing, if the first tick belongs before the open minute.
    """
    if not len(ticks):
        return
    if (first_ns := int(ticks["ts_ns"][0])) < state.start_ns:
        raise ValueError(f"trade {ticks['trade_id'][0]} at {first_ns} belongs before {state.start_ns}")
    if first_ns < state.last_ns:
        _again(state, ticks)
    elif len(ticks) <= _FEW:
        _few(state, ticks)
    else:
        for i in range(0, len(ticks), _MANY):
            _many(state, _columns(ticks[i : i + _MANY]))


def value(state: State, ts_ns: int, window_ns: int) -> float:
    """Tell the imbalance of trades in (ts_ns - window_ns, ts_ns], from -1 to 1; 0 without trades.

    Raises ValueError for a time before the last trade, or a window longer than those foreseen.
    """
    if ts_ns < state.last_ns or window_ns > state.keep_ns:
        raise ValueError(f"{window_ns} ns until {ts_ns}: kept are {state.keep_ns} until {state.last_ns}")
    edge_ns = ts_ns - window_ns
    buy, sell = (state.buy, state.sell) if edge_ns < state.start_ns else _open_after(state, edge_ns)
    for block in reversed(state.blocks):
        if block.start_ns <= edge_ns:
            more_buy, more_sell = _rest(block, edge_ns)
            buy, sell = buy + more_buy, sell + more_sell
            break
        _, more_buy, more_sell = _CELL.unpack_from(block.cells)
        buy, sell = buy + more_buy, sell + more_sell
    return (buy - sell) / (buy + sell) if buy + sell > 0.0 else 0.0


def _open_after(state: State, edge_ns: int) -> tuple[float, float]:
    """Sum what is left of the open minute: only after a silence is the edge inside it."""
    cells = np.frombuffer(state.cells, _CELLS)
    left = cells[cells["ts_ns"] > edge_ns]
    return float(left["buy"].sum()), float(left["sell"].sum())


def _rest(block: Block, edge_ns: int) -> tuple[float, float]:
    at = int(np.searchsorted(np.frombuffer(block.cells, _CELLS)["ts_ns"], edge_ns, "right"))
    if at * _CELL.size == len(block.cells):
        return 0.0, 0.0
    _, buy, sell = _CELL.unpack_from(block.cells, at * _CELL.size)
    return buy, sell


def _few(state: State, ticks: Ticks) -> None:
    for _, ts_ns, _, size, _, side in ticks.tolist():
        if side:
            buy, sell = (size, 0.0) if side > 0 else (0.0, size)
            if _is_own(state, ts_ns):
                _put(state, ts_ns, buy, sell)
            else:
                _share(state, buy, sell)


def _is_own(state: State, ts_ns: int) -> bool:
    """Tell whether the next trade begins a cell."""
    last_ns, state.last_ns = state.last_ns, ts_ns
    if ts_ns == last_ns:
        return False
    state.times = state.times + 1 if ts_ns // NS_PER_S == last_ns // NS_PER_S else 1
    return state.times <= _EXACT or ts_ns // NS_PER_MS != last_ns // NS_PER_MS


def _put(state: State, ts_ns: int, buy: float, sell: float) -> None:
    if not state.start_ns <= ts_ns < state.start_ns + WIDTH_NS:
        _turn(state, ts_ns)
    state.cells += _CELL.pack(ts_ns, buy, sell)
    state.buy += buy
    state.sell += sell


def _share(state: State, buy: float, sell: float) -> None:
    """Add to the last cell."""
    at = len(state.cells) - _CELL.size
    ts_ns, more_buy, more_sell = _CELL.unpack_from(state.cells, at)
    _CELL.pack_into(state.cells, at, ts_ns, more_buy + buy, more_sell + sell)
    state.buy += buy
    state.sell += sell


def _columns(ticks: Ticks) -> Columns:
    """Copy out time, buys and sells."""
    ts_ns, size, side = (np.ascontiguousarray(ticks[name]) for name in ("ts_ns", "size", "side"))
    if not side.all():
        ts_ns, size, side = ts_ns[side != 0], size[side != 0], side[side != 0]
    buy = size * (side > 0)
    return ts_ns, buy, size - buy


def _many(state: State, columns: Columns) -> None:
    """Add trades in order."""
    ts_ns, buy, sell = columns
    if not len(ts_ns):
        return
    starts = np.flatnonzero(_are_own(state, ts_ns))
    if head := int(starts[0]) if len(starts) else len(ts_ns):
        _share(state, float(buy[:head].sum()), float(sell[:head].sum()))
    cells = np.empty(len(starts), _CELLS)
    if len(starts):
        cells["ts_ns"] = ts_ns[starts]
        cells["buy"], cells["sell"] = np.add.reduceat(buy, starts), np.add.reduceat(sell, starts)
    while len(cells):
        if not state.start_ns <= (first_ns := int(cells["ts_ns"][0])) < state.start_ns + WIDTH_NS:
            _turn(state, first_ns)
        end = int(np.searchsorted(cells["ts_ns"], state.start_ns + WIDTH_NS))
        state.cells += cells[:end].tobytes()
        state.buy += float(cells["buy"][:end].sum())
        state.sell += float(cells["sell"][:end].sum())
        cells = cells[end:]


def _are_own(state: State, ts_ns: Times) -> Flags:
    """Tell of trades in order what `_is_own` tells of one."""
    last_ns, seen = state.last_ns, state.times
    before = np.empty_like(ts_ns)
    before[0], before[1:] = last_ns, ts_ns[:-1]
    is_new: Flags = ts_ns != before
    state.last_ns, seconds = int(ts_ns[-1]), ts_ns[is_new] // NS_PER_S
    if not len(seconds):
        return is_new
    state.times = len(seconds) - int(np.searchsorted(seconds, seconds[-1]))
    goes_on = int(np.searchsorted(seconds, last_ns // NS_PER_S, "right"))
    if seconds[-1] == last_ns // NS_PER_S:
        state.times += seen
    if goes_on + seen <= _EXACT and not (seconds[_EXACT:] == seconds[:-_EXACT]).any():
        return is_new
    times = np.arange(len(seconds)) - np.searchsorted(seconds, seconds) + 1
    times[:goes_on] += seen
    is_new[is_new] = (times <= _EXACT) | (ts_ns // NS_PER_MS != before // NS_PER_MS)[is_new]
    return is_new


def _again(state: State, ticks: Ticks) -> None:
    """Add ticks of which some belong before others that were there first: build the open minute anew."""
    cells = np.frombuffer(bytes(state.cells), _CELLS)
    state.cells, state.buy, state.sell = bytearray(), 0.0, 0.0
    state.last_ns, state.times = -1, 0
    names = zip(("ts_ns", "buy", "sell"), _columns(ticks), strict=True)
    ts_ns, buy, sell = (np.concatenate((cells[name], column)) for name, column in names)
    order = np.argsort(ts_ns, kind="stable")
    _many(state, (ts_ns[order], buy[order], sell[order]))


def _turn(state: State, ts_ns: int) -> None:
    """Complete the open minute and begin that of `ts_ns`."""
    if state.cells:
        cells = np.frombuffer(state.cells, _CELLS).copy()
        for name in ("buy", "sell"):
            cells[name] = np.cumsum(cells[name][::-1])[::-1]
        state.blocks.append(Block(state.start_ns, cells.tobytes()))
    state.blocks = [x for x in state.blocks if x.start_ns + WIDTH_NS > ts_ns - state.keep_ns]
    state.start_ns, state.cells = floor_ns(ts_ns, WIDTH_NS), bytearray()
    state.buy = state.sell = 0.0
