"""The analytics of one pair, run over the same panes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import msgspec

from actors.payloads import payload
from analytics import candles, order_flow
from analytics.panes import Pane, merge, panes
from market.rows import Candle, OrderFlow, timeframe_text
from market.ticks import Ticks
from market.times import DAY_NS, NS_PER_S


@dataclass(frozen=True, slots=True)
class Bar:
    """A closed row of a bar table, and how it is announced."""

    table: str
    row: Candle | OrderFlow
    end_ns: int
    closing: str  # the event's name when it closes
    changing: str  # and when it is restated
    timeframe: str = ""

    @property
    def key(self) -> str:
        return f"{self.table}:{self.row.ts_ns}"

    @property
    def payload(self) -> bytes:
        return payload(self.row, timeframe=self.timeframe) if self.timeframe else payload(self.row)

    def revised(self, revision: int) -> Bar:
        assert isinstance(self.row, Candle)  # noqa: S101 - order flow has no revision column
        row = self.row._replace(revision=revision)
        return Bar(self.table, row, self.end_ns, self.closing, self.changing, self.timeframe)


class Folds(msgspec.Struct):
    """States of every fold; `day` is the UTC day's pane, for the pair's snapshot."""

    frames: list[candles.State]
    flow: order_flow.State
    day: Pane | None = None

    @classmethod
    def new(cls, timeframes_s: tuple[int, ...]) -> Folds:
        return cls([candles.init(s * NS_PER_S) for s in sorted(timeframes_s)], order_flow.init())

    @property
    def closed_ns(self) -> int:
        """End of the last closed bar of any kind, -1 before the first trade: a tick before it is late."""
        return max(order_flow.closed_ns(self.flow), *map(candles.closed_ns, self.frames))

    @property
    def next_close_ns(self) -> int | None:
        """End of the earliest open bar; None before the first trade."""
        every = [self.flow.bars, *(frame.bars for frame in self.frames)]
        return min(bars.open_ns + bars.width_ns for bars in every) if self.flow.bars.open_ns >= 0 else None

    def step(self, ticks: Ticks) -> list[Bar]:
        """Fold ticks; return the bars that they close, by end and then by width."""
        width_ns = gcd(order_flow.WIDTH_NS, *(frame.bars.width_ns for frame in self.frames))
        parts = panes(ticks, width_ns)
        bars = [_candle(frame, row) for frame in self.frames for row in candles.step(frame, parts)]
        bars += [_flow(row) for row in order_flow.step(self.flow, parts)]
        for part in parts:
            same = self.day is not None and self.day.first[0] // DAY_NS == part.first[0] // DAY_NS
            self.day = merge(self.day, part) if same and self.day else part
        return _sorted(bars)

    def advance(self, watermark_ns: int) -> list[Bar]:
        """Close what ends at or before the watermark."""
        bars = [_candle(frame, row) for frame in self.frames for row in candles.advance(frame, watermark_ns)]
        return _sorted(bars + [_flow(row) for row in order_flow.advance(self.flow, watermark_ns)])

    def open_rows(self) -> dict[str, Candle | OrderFlow]:
        """Show the open bars by table; empty before the first trade."""
        shown: dict[str, Candle | OrderFlow | None] = {
            _table(frame): candles.open_row(frame) for frame in self.frames
        }
        shown["order_flow"] = order_flow.open_row(self.flow)
        return {table: row for table, row in shown.items() if row is not None}

    @property
    def timeframes_s(self) -> tuple[int, ...]:
        return tuple(frame.bars.width_ns // NS_PER_S for frame in self.frames)

    def set_timeframes(self, timeframes_s: tuple[int, ...]) -> tuple[int, ...]:
        """Drop what is not wanted; return what is missing."""
        missing = set(timeframes_s).difference(self.timeframes_s)
        self.frames = [f for f in self.frames if f.bars.width_ns // NS_PER_S in timeframes_s]
        return tuple(sorted(missing))

    def adopt(self, other: Folds) -> None:
        """Take over the timeframes of `other`."""
        self.frames = sorted([*self.frames, *other.frames], key=lambda frame: frame.bars.width_ns)


def _table(frame: candles.State) -> str:
    return f"candles_{timeframe_text(frame.bars.width_ns // NS_PER_S)}"


def _candle(frame: candles.State, row: Candle) -> Bar:
    timeframe = timeframe_text(frame.bars.width_ns // NS_PER_S)
    end_ns = row.ts_ns + frame.bars.width_ns
    return Bar(f"candles_{timeframe}", row, end_ns, "CANDLE_CLOSED", "CANDLE_RESTATED", timeframe)


def _flow(row: OrderFlow) -> Bar:
    return Bar("order_flow", row, row.ts_ns + order_flow.WIDTH_NS, "ORDER_FLOW", "ORDER_FLOW")


def _sorted(bars: list[Bar]) -> list[Bar]:
    """Order as a watermark rising without jumps would close them: the sort is stable, narrow frames first."""
    return sorted(bars, key=lambda bar: bar.end_ns) if len(bars) > 1 else bars
