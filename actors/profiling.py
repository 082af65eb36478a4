"""The market profile of a pair whose tick size may not be known yet: its first trades wait for it. Pure."""

from __future__ import annotations

import msgspec
import numpy as np

from analytics import profile
from market.rows import MarketProfile
from market.ticks import TICK, Ticks


class Profile(msgspec.Struct):
    """`waiting` holds the ticks since the beginning, in order, while there is no tick size."""

    params: profile.Params
    state: profile.State | None = None
    waiting: bytearray = msgspec.field(default_factory=bytearray)


def begin(state: Profile, tick_size: float, watermark_ns: int) -> list[MarketProfile]:
    """Learn the tick size, and catch up."""
    if state.state is not None:
        return []
    waited = np.frombuffer(bytes(state.waiting), TICK)
    state.state, state.waiting = profile.init(state.params, tick_size), bytearray()
    return profile.step(state.state, waited) + profile.advance(state.state, watermark_ns)


def change(state: Profile, tick_size: float) -> None:
    """Go on with another tick size, at the beginning of a session."""
    if state.state is not None and state.state.tick_size != tick_size:
        state.state = profile.init(state.params, tick_size)


def step(state: Profile, ticks: Ticks) -> list[MarketProfile]:
    """Take ticks in order; return the rows of the minutes that they close."""
    if state.state is None:
        state.waiting += ticks.tobytes()
        return []
    return profile.step(state.state, ticks)


def advance(state: Profile, watermark_ns: int) -> list[MarketProfile]:
    return [] if state.state is None else profile.advance(state.state, watermark_ns)
