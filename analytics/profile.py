"""Market profile of the UTC day: how much was traded at which price (definitions §3)."""

from __future__ import annotations

from typing import cast

import msgspec
import numpy as np

from analytics.profile_area import Rows, Volumes, area
from analytics.profile_rows import prices_of, row_of, rows_of
from analytics.profile_session import Session, add, arrays, copied
from market.rows import MarketProfile
from market.ticks import Ticks
from market.times import DAY_NS, NS_PER_S, floor_ns

WIDTH_NS = 60 * NS_PER_S
_FEW = 48  # up to here a plain loop is cheaper than numpy
_NEAR = 65_536  # rows: up to here counting empty ones as well is cheaper than sorting


class Params(msgspec.Struct, frozen=True):
    bin_ticks: int = 1
    va_share: float = 0.70
    va_step: int = 2


class State(msgspec.Struct):
    """The session at the last closed minute, and the open minute."""

    params: Params
    tick_size: float
    session: Session
    open_ns: int = -1  # start of the open minute, -1 before the first trade
    minute: dict[int, float] = {}  # volume by row


def init(params: Params, tick_size: float) -> State:
    """Begin a profile; raises ValueError for a tick size that is not known."""
    if not tick_size > 0:
        raise ValueError(f"tick size {tick_size}: expected one above 0")
    return State(params, tick_size, Session())


def step(state: State, ticks: Ticks) -> list[MarketProfile]:
    """Take ticks in order; return a row for each minute with trades that they close.

    Raises ValueError, and changes nothing, if a tick belongs before the open minute.
    """
    if not len(ticks):
        return []
    if ticks["ts_ns"][0] < state.open_ns:
        first = ticks[0]
        raise ValueError(f"trade {first['trade_id']} at {first['ts_ns']} belongs before {state.open_ns}")
    return _few(state, ticks) if len(ticks) <= _FEW else _many(state, ticks)


def advance(state: State, watermark_ns: int) -> list[MarketProfile]:
    """Let event time pass; return the row of the open minute if it ends and had trades."""
    if state.open_ns < 0 or watermark_ns < state.open_ns + WIDTH_NS:
        return []
    closed = [_close(state, *_minute(state.minute))] if state.minute else []
    state.open_ns, state.minute = floor_ns(watermark_ns, WIDTH_NS), {}
    return closed


def closed_ns(state: State) -> int:
    """Tell the end of the last closed minute, the start of the open one; -1 before the first trade."""
    return state.open_ns


def open_row(state: State) -> MarketProfile | None:
    """Show the session as it stands, as the open minute's row; None while that has no trades."""
    if not state.minute:
        return None
    return _close(msgspec.structs.replace(state, session=copied(state.session)), *_minute(state.minute))


def _few(state: State, ticks: Ticks) -> list[MarketProfile]:
    out: list[MarketProfile] = []
    tick_size, bin_ticks = state.tick_size, state.params.bin_ticks
    for _, ts_ns, price, size, _, _ in ticks.tolist():
        if ts_ns >= state.open_ns + WIDTH_NS or state.open_ns < 0:
            out += advance(state, ts_ns)
            state.open_ns = floor_ns(ts_ns, WIDTH_NS)
        row = row_of(price, tick_size, bin_ticks)
        state.minute[row] = state.minute.get(row, 0.0) + size
    return out


def _many(state: State, ticks: Ticks) -> list[MarketProfile]:
    ts_ns, size = np.ascontiguousarray(ticks["ts_ns"]), np.ascontiguousarray(ticks["size"])
    rows = rows_of(np.ascontiguousarray(ticks["price"]), state.tick_size, state.params.bin_ticks)
    out: list[MarketProfile] = []
    start = 0
    while start < len(ticks):
        first_ns = int(ts_ns[start])
        out += advance(state, first_ns)
        state.open_ns = floor_ns(first_ns, WIDTH_NS)
        end = int(ts_ns.searchsorted(state.open_ns + WIDTH_NS))
        minute = _summed(state.minute, rows[start:end], size[start:end])
        if end == len(ticks):
            state.minute = dict(zip(minute[0].tolist(), minute[1].tolist(), strict=True))
        else:
            out.append(_close(state, *minute))
            state.minute = {}
        start = end
    return out


def _summed(minute: dict[int, float], rows: Rows, sizes: Volumes) -> tuple[Rows, Volumes]:
    """Add trades to a minute's volumes; bincount adds in order, so any batching gives the same bits."""
    if minute:
        known, volumes = _minute(minute)
        rows, sizes = np.concatenate((known, rows)), np.concatenate((volumes, sizes))
    low = int(rows.min())
    if int(rows.max()) - low < _NEAR:
        sums = cast("Volumes", np.bincount(rows - low, sizes))
        traded = np.flatnonzero(sums)
        return traded + low, sums[traded]
    unique = np.unique(rows)
    return unique, cast("Volumes", np.bincount(unique.searchsorted(rows), sizes, len(unique)))


def _minute(minute: dict[int, float]) -> tuple[Rows, Volumes]:
    rows = np.array(sorted(minute), np.int64)
    return rows, np.array([minute[row] for row in rows.tolist()])


def _close(state: State, rows: Rows, volumes: Volumes) -> MarketProfile:
    """Add the open minute's volumes to its session; return the session's row."""
    session_ns = floor_ns(state.open_ns, DAY_NS)
    if session_ns != state.session.start_ns:
        state.session = Session(session_ns)
    add(state.session, rows, volumes)
    return _row(state)


def _row(state: State) -> MarketProfile:
    params, session = state.params, state.session
    rows, volumes = arrays(session)
    found = area(rows, volumes, params.va_share, params.va_step)
    poc, high, low, bin_size = prices_of((*found, 1), state.tick_size, params.bin_ticks)
    total = float(volumes.sum())
    return MarketProfile(session.start_ns, state.open_ns + WIDTH_NS, poc, high, low, total, bin_size)
