"""Ticks that are nothing but their ids."""

from __future__ import annotations

import numpy as np

from market.ticks import TICK, Ticks
from market.times import NS_PER_S

T0 = 1_700_000_000 * NS_PER_S


def ticks(*ids: int) -> Ticks:
    out = np.zeros(len(ids), TICK)
    out["trade_id"] = ids
    out["ts_ns"] = T0 + np.array(ids, "i8") * 1_000
    return out


def span(first: int, last: int) -> Ticks:
    return ticks(*range(first, last + 1))
