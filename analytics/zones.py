"""Supply and demand zones of one timeframe (definitions §5): where an impulse left a quiet base.

After S. Seiden: a base, a strong departure, then fresh until price comes back. A bar first changes the zones
there are, then may create one, then may prolong the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from analytics import atr, zone_shapes
from analytics.zone_shapes import Prices, edges, is_base, is_impulse, strength
from market.rows import Candle, Zone
from market.times import rfc3339

CREATED, TESTED, BROKEN = "ZONE_CREATED", "ZONE_TESTED", "ZONE_BROKEN"
DISPLACED = ""  # leaves without an event

Params: TypeAlias = zone_shapes.Params


class Active(msgspec.Struct, array_like=True):
    """A zone that is not broken."""

    impulse_ns: int  # open time of its impulse bar
    is_demand: bool
    proximal: float
    distal: float
    strength: float  # before any test
    updated_ns: int
    touches: int = 0
    was_inside: bool = False  # the bar before


class State(msgspec.Struct):
    """`zones` stand in the order of their creation, at most `max_active`."""

    params: Params
    width_ns: int
    timeframe: str
    atr: atr.State
    base: list[Prices] = []  # the run of base bars that the last bar ends
    volumes: list[float] = []  # of the last bars
    zones: list[Active] = []


class Change(NamedTuple):
    """A row's new version and its event; `gone`: it leaves the table for the archive."""

    row: Zone
    event: str
    gone: bool


def init(width_ns: int, timeframe: str, params: Params | None = None) -> State:
    """Begin a timeframe; `timeframe` is its name in rows."""
    params = params or Params()
    return State(params, width_ns, timeframe, atr.init(params.atr_bars))


def step(state: State, bars: Sequence[Candle]) -> list[Change]:
    """Take the next complete bars, without a hole; return what they change, in order."""
    out: list[Change] = []
    for bar in bars:
        if state.zones:
            out += _updated(state, bar)
        if state.base:
            out += _created(state, bar)
        _remember(state, bar)
    return out


def active(state: State) -> list[Zone]:
    """Show the zones that are not broken, oldest first."""
    return [_row(state, zone) for zone in state.zones]


def _updated(state: State, bar: Candle) -> list[Change]:
    out: list[Change] = []
    kept: list[Active] = []
    end_ns = bar.ts_ns + state.width_ns
    for zone in state.zones:
        if zone.is_demand:
            is_broken, is_inside = bar.close < zone.distal, bar.low <= zone.proximal
        else:
            is_broken, is_inside = bar.close > zone.distal, bar.high >= zone.proximal
        if is_broken:
            zone.updated_ns = end_ns
            out.append(Change(_row(state, zone, broken_ns=end_ns), BROKEN, gone=True))
            continue
        if is_inside and not zone.was_inside:
            zone.updated_ns, zone.touches = end_ns, zone.touches + 1
            out.append(Change(_row(state, zone), TESTED, gone=False))
        zone.was_inside = is_inside
        kept.append(zone)
    state.zones = kept
    return out


def _created(state: State, bar: Candle) -> list[Change]:
    zone = _zone(state, bar)
    if zone is None:
        return []
    out = [_displaced(state)] if len(state.zones) >= state.params.max_active else []
    state.zones.append(zone)
    return [*out, Change(_row(state, zone), CREATED, gone=False)]


def _zone(state: State, bar: Candle) -> Active | None:
    scale, base = state.atr.atr, state.base
    if not scale or not is_impulse(state.params, scale, bar):
        return None
    drawn = edges(base, bar)
    if drawn is None:
        return None
    departure = abs(bar.close - drawn.proximal) / (3 * scale)
    first = strength(departure, bar.volume, state.volumes, len(base))
    return Active(bar.ts_ns, *drawn, first, updated_ns=bar.ts_ns + state.width_ns)


def _displaced(state: State) -> Change:
    """Take the weakest zone out, the oldest of equals."""
    # Strengths come from sums of volumes: those of equals may differ in their last bits.
    at = min(range(len(state.zones)), key=lambda i: float(f"{_strength(state, state.zones[i]):.9g}"))
    return Change(_row(state, state.zones.pop(at)), DISPLACED, gone=True)


def _remember(state: State, bar: Candle) -> None:
    params, scale = state.params, state.atr.atr
    if scale is not None and is_base(params, scale, bar):
        state.base = [*state.base, (bar.open, bar.high, bar.low, bar.close)][-params.base_bars :]
    else:
        state.base = []
    state.volumes = [*state.volumes, bar.volume][-params.volume_bars :]
    atr.step(state.atr, bar)


def _strength(state: State, zone: Active) -> float:
    return zone.strength * state.params.decay**zone.touches


def _row(state: State, zone: Active, broken_ns: int | None = None) -> Zone:
    return Zone(
        f"{state.timeframe}:{rfc3339(zone.impulse_ns)}",
        state.timeframe,
        "DEMAND" if zone.is_demand else "SUPPLY",
        min(zone.proximal, zone.distal),
        max(zone.proximal, zone.distal),
        _strength(state, zone),
        "BROKEN" if broken_ns is not None else "TESTED" if zone.touches else "FRESH",
        zone.touches,
        zone.impulse_ns + state.width_ns,
        zone.updated_ns,
        broken_ns,
    )
