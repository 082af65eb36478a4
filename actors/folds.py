"""The analytics of one pair, run over the same ticks. Pure."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from actors import facts, frames, profiling
from actors.facts import Fact
from actors.frames import Frame
from analytics import anomaly, candles, market_state, order_flow
from analytics.panes import Pane, merge, panes
from analytics.params import AnalyticsParams
from market.rows import Candle, Flags, OrderFlow, Row
from market.ticks import Ticks
from market.times import DAY_NS, NS_PER_S

TickSizes: TypeAlias = list[tuple[int, float]]
"""Tick sizes, each from a time (ns) on; before the first it is not known, and the profile waits."""

Living: TypeAlias = dict[str, dict[str, Row]]
"""Rows that may still change, by table and key."""


class Made(NamedTuple):
    """What ticks made, in the order of time; `flags` tell the outliers among them."""

    facts: list[Fact]
    flags: Flags


class Folds(msgspec.Struct):
    """States of every fold; `day` is the UTC day's pane, for the pair's snapshot.

    One that is None is not followed. `sized_ns` is the time of the tick size in use (-1: none), `sizes` are
    those that come later.
    """

    frames: list[Frame]
    flow: order_flow.State
    day: Pane | None = None
    profile: profiling.Profile | None = None
    state: market_state.State | None = None
    outliers: anomaly.State | None = None
    sized_ns: int = -1
    sizes: TickSizes = []

    @classmethod
    def new(cls, timeframes_s: tuple[int, ...], params: AnalyticsParams) -> Folds:
        return cls(
            [frames.new(s, params) for s in sorted(timeframes_s)],
            order_flow.init(),
            None,
            profiling.Profile(params.profile),
            market_state.init(params.state),
            anomaly.init(params.outliers),
        )

    @classmethod
    def plain(cls, timeframes_s: tuple[int, ...], params: AnalyticsParams) -> Folds:
        """Begin those that need no more of the past than a UTC day of ticks."""
        made = [frames.new(s, params, whole=False) for s in sorted(timeframes_s)]
        return cls(made, order_flow.init(), None, profiling.Profile(params.profile))

    @classmethod
    def framed(cls, timeframes_s: tuple[int, ...], params: AnalyticsParams) -> Folds:
        """Begin timeframes, and nothing that a pair has once."""
        return cls([frames.new(s, params) for s in sorted(timeframes_s)], order_flow.init())

    @property
    def closed_ns(self) -> int:
        """End of the last closed row of any kind, -1 before the first trade: a tick before it is late."""
        closed = [order_flow.closed_ns(self.flow), *(candles.closed_ns(f.candles) for f in self.frames)]
        return max(closed) if self.state is None else max(*closed, market_state.closed_ns(self.state))

    @property
    def next_close_ns(self) -> int | None:
        """End of the earliest open bar or step; None before the first trade."""
        if self.flow.bars.open_ns < 0:
            return None
        every = [self.flow.bars, *(frame.candles.bars for frame in self.frames)]
        least = min(bars.open_ns + bars.width_ns for bars in every)
        step_ns = None if self.state is None else market_state.next_close_ns(self.state)
        return least if step_ns is None else min(least, step_ns)

    def step(self, ticks: Ticks) -> Made:
        """Fold ticks in order; return the rows that they close, by end and then by width."""
        parts, made = [], list[Fact]()
        while self.sizes and len(ticks) and ticks["ts_ns"][-1] >= self.sizes[0][0]:
            at = int(np.searchsorted(ticks["ts_ns"], self.sizes[0][0]))
            parts.append(self._step(ticks[:at], made))
            made += self._next_size()
            ticks = ticks[at:]
        parts.append(self._step(ticks, made))
        return Made(made, parts[0] if len(parts) == 1 else np.concatenate(parts))

    def advance(self, watermark_ns: int) -> list[Fact]:
        """Close what ends at or before the watermark."""
        made = list[Fact]()
        while self.sizes and watermark_ns >= self.sizes[0][0]:
            made += self._next_size()
        return made + self._advance(watermark_ns)

    def know(self, sizes: TickSizes, watermark_ns: int) -> list[Fact]:
        """Learn the tick sizes there are and will be; return what waited for one."""
        self.sizes = [size for size in sizes if size[0] > self.sized_ns]
        if not sizes or self.profile is None:
            return []
        _, first = sizes[0]
        return _sorted([facts.profile(row) for row in profiling.begin(self.profile, first, watermark_ns)])

    def open_rows(self) -> dict[str, Candle | OrderFlow]:
        """Show the open bars by table; empty before the first trade."""
        shown: dict[str, Candle | OrderFlow | None] = {
            f"candles_{frame.timeframe}": candles.open_row(frame.candles) for frame in self.frames
        }
        shown["order_flow"] = order_flow.open_row(self.flow)
        return {table: row for table, row in shown.items() if row is not None}

    def living(self) -> Living:
        """Show the rows that may still change; every table of such is named."""
        out: Living = {facts.GAPS: {}, facts.ZONES: {}}
        for frame in self.frames:
            for table, key, row in frame.living():
                out[table][key] = row
        return out

    @property
    def timeframes_s(self) -> tuple[int, ...]:
        return tuple(frame.width_ns // NS_PER_S for frame in self.frames)

    def set_timeframes(self, timeframes_s: tuple[int, ...]) -> tuple[int, ...]:
        """Drop what is not wanted; return what is missing."""
        missing = set(timeframes_s).difference(self.timeframes_s)
        self.frames = [f for f in self.frames if f.width_ns // NS_PER_S in timeframes_s]
        return tuple(sorted(missing))

    def foreign(self, params: AnalyticsParams) -> set[str]:
        """Name what is not there, or has other parameters than these."""
        out = {"profile"} if self.profile is None or self.profile.params != params.profile else set()
        if self.state is None or self.state.params != params.state:
            out.add("state")
        if self.outliers is None or _params(self.outliers) != params.outliers:
            out.add("outliers")
        if any(frame.gaps is None or frame.gaps.params != params.gaps for frame in self.frames):
            out.add("gaps")
        if any(frame.zones is None or frame.zones.params != params.zones for frame in self.frames):
            out.add("zones")
        return out

    def drop(self, what: set[str]) -> None:
        """Follow no more what is named."""
        for name in what & {"profile", "state", "outliers"}:
            setattr(self, name, None)
        for frame in self.frames:
            for name in what & {"gaps", "zones"}:
                setattr(frame, name, None)

    def fill(self, other: Folds) -> None:
        """Follow what is not followed as `other`, which has the same timeframes, does."""
        self.profile = self.profile or other.profile
        self.state = self.state or other.state
        self.outliers = self.outliers or other.outliers
        for frame, its in zip(self.frames, other.frames, strict=True):
            frame.gaps, frame.zones = frame.gaps or its.gaps, frame.zones or its.zones

    def adopt(self, other: Folds) -> None:
        """Take over the timeframes of `other`."""
        self.frames = sorted([*self.frames, *other.frames], key=lambda frame: frame.width_ns)

    def _step(self, ticks: Ticks, made: list[Fact]) -> Flags:
        if not len(ticks):
            return np.zeros(0, np.int8)
        width_ns = gcd(order_flow.WIDTH_NS, *(frame.width_ns for frame in self.frames))
        parts = panes(ticks, width_ns)
        new = [fact for frame in self.frames for fact in frame.step(parts)]
        new += map(facts.flow, order_flow.step(self.flow, parts))
        if self.profile is not None:
            new += map(facts.profile, profiling.step(self.profile, ticks))
        if self.state is not None:
            new += map(facts.state, market_state.step(self.state, ticks))
        made += _sorted(new)
        for part in parts:
            same = self.day is not None and self.day.first[0] // DAY_NS == part.first[0] // DAY_NS
            self.day = merge(self.day, part) if same and self.day else part
        return (
            np.zeros(len(ticks), np.int8)
            if self.outliers is None
            else anomaly.step(self.outliers, ticks).price
        )

    def _advance(self, watermark_ns: int) -> list[Fact]:
        made = [fact for frame in self.frames for fact in frame.advance(watermark_ns)]
        made += map(facts.flow, order_flow.advance(self.flow, watermark_ns))
        if self.profile is not None:
            made += map(facts.profile, profiling.advance(self.profile, watermark_ns))
        if self.state is not None:
            made += map(facts.state, market_state.advance(self.state, watermark_ns))
        return _sorted(made)

    def _next_size(self) -> list[Fact]:
        """Close what ends before the next tick size's time, and go on with that."""
        self.sized_ns, size = self.sizes.pop(0)
        made = self._advance(self.sized_ns)
        if self.outliers is not None:
            self.outliers.prices.tick_size = size
        for frame in self.frames:
            if frame.gaps is not None:
                frame.gaps.tick_size = size
        if self.profile is not None:
            profiling.change(self.profile, size)
        return made


def _params(state: anomaly.State) -> anomaly.Params:
    return anomaly.Params(state.prices.params, state.sizes.params)


def _sorted(made: list[Fact]) -> list[Fact]:
    """Order as a watermark rising without jumps would close them: the sort is stable, narrow frames first."""
    return sorted(made, key=lambda fact: fact.end_ns) if len(made) > 1 else made
