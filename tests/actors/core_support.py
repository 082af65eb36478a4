"""A core at work without a journal on disk, and what its tables and events must say."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import numpy as np
import orjson

from actors import state
from actors.core import PairCore
from actors.history import Rewind
from analytics import market_state
from analytics.params import AnalyticsParams
from market.events import Event
from market.inputs import (
    Input,
    TickBatch,
)
from market.rows import Candle, MarketProfile, Row, Rows, timeframe_text
from market.ticks import TICK, Ticks
from market.times import NS_PER_S, rfc3339
from tests.analytics.worlds import (
    reference_candles,
    reference_flow,
    same_candles,
    same_flow,
)

TIMEFRAMES_S = (60, 300, 900)
SLOW = AnalyticsParams(state=market_state.Params(step_ns=300 * NS_PER_S))
"""For worlds of hours: few market states."""


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.records: list[list[Input]] = []
        self.heads: list[tuple[int, int, bytes]] = []  # number of the last record, closed_ns, state

    def before(self, number: int, ts_ns: int) -> Rewind:
        at, closed_ns, head = next(h for h in reversed(self.heads) if h[0] < number and h[1] <= ts_ns)
        since = [b for r in self.records[at : number - 1] for b in r if isinstance(b, TickBatch)]
        return Rewind(head, closed_ns, lambda: since)


@dataclass
class Life:
    """A core at work as its engine lets it, its tables and events kept as a reader has them."""

    timeframes_s: tuple[int, ...] = TIMEFRAMES_S
    memory: Memory = field(default_factory=Memory)
    tables: dict[str, dict[object, Row]] = field(default_factory=dict)
    ticks: list[tuple[int, int]] = field(default_factory=list)  # (seq, trade_id)
    events: list[Event] = field(default_factory=list)
    lists: dict[str, list[Row]] = field(default_factory=dict)

    flags: dict[int, int] = field(default_factory=dict)  # by seq
    params: AnalyticsParams | None = None
    contiguous: bool = True

    def __post_init__(self) -> None:
        begun = state.new("binance:spot:BTCUSDT", self.timeframes_s, self.params)
        self.core = PairCore(begun, self.memory, contiguous=self.contiguous)
        self.rotate()

    def take(self, *inputs: Input) -> list[Event]:
        """Let the engine's shell bring inputs; return the events."""
        seen = len(self.events)
        for record in self.core.records(inputs):
            self.memory.records.append(record)
            effects = self.core.handle(len(self.memory.records), record)
            self.write(effects.rows)
            self.events += effects.events
        return self.events[seen:]

    def write(self, rows: Rows) -> None:
        for part in rows.ticks:
            numbers = range(part.first_seq, part.first_seq + len(part))
            self.ticks += zip(numbers, part.ticks["trade_id"].tolist(), strict=True)
            assert part.flags is not None
            self.flags |= zip(numbers, part.flags.tolist(), strict=True)
        self.flags |= rows.flags
        for name, new in rows.inserted.items():
            self.lists.setdefault(name, []).extend(new)
            table = self.tables.setdefault(name, {})
            for row in new:
                assert row_key(row) not in table or name in {"quotes", "rejected"}, f"{row} twice in {name}"
                table[row_key(row)] = row
        for name, changed in rows.replaced.items():
            self.tables.setdefault(name, {}).update((row_key(row), row) for row in changed)
        for name, keyed in rows.living.items():
            table = self.tables.setdefault(name, {})
            for living, now in keyed.items():
                table.pop(living, None)
                if now is not None:
                    table[living] = now

    def rotate(self) -> None:
        """Begin a segment, and go on from what it says, as after a restart."""
        closed_ns, head = self.core.snapshot()
        self.memory.heads.append((len(self.memory.records), closed_ns, head))
        self.core = PairCore(state.load(head), self.memory, contiguous=self.contiguous)

    def rows(self, table: str) -> list[Any]:
        return [row for _, row in sorted(self.tables.get(table, {}).items())]

    def candles(self, timeframe_s: int) -> list[Candle]:
        return self.rows(f"candles_{timeframe_text(timeframe_s)}")


def row_key(row: Row) -> object:
    return row.ts_ns if isinstance(row, MarketProfile) else row[0]


def bars(events: list[Event]) -> list[Event]:
    """Leave out what is found in bars, and what comes with every step or minute."""
    return [event for event in events if event.name in {"CANDLE_CLOSED", "CANDLE_RESTATED", "ORDER_FLOW"}]


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def data(event: Event) -> dict[str, Any]:
    return cast("dict[str, Any]", orjson.loads(event.data))


def key(event: Event) -> tuple[str, str, str]:
    """Name the bar that an event is about."""
    told = data(event)
    return event.name, told.get("timeframe", "flow"), told["timestamp"]


def at(second: float, price: float = 100.0, size: float = 1.0, trade_id: int | None = None) -> Ticks:
    """Make one trade, so many seconds after a whole hour."""
    out = np.zeros(1, TICK)
    out["ts_ns"] = HOUR_NS + round(second * NS_PER_S)
    out["trade_id"] = trade_id if trade_id is not None else int(second * 10)
    out["price"], out["size"], out["side"], out["received_ns"] = price, size, 1, 7
    return out


HOUR_NS = 1_723_161_600 * NS_PER_S + 12 * 3_600 * NS_PER_S  # noon


def assert_complete(life: Life, seen: Ticks, until_ns: int) -> None:
    """Compare every table with a fold over the ordered ticks by other means."""
    for timeframe_s in life.timeframes_s:
        expected = reference_candles(seen, timeframe_s * NS_PER_S, until_ns)
        got = life.candles(timeframe_s)
        assert same_candles([row._replace(revision=0) for row in got], expected)
    assert same_flow(life.rows("order_flow"), reference_flow(seen, until_ns), float(seen["size"].sum()))
    assert [event.seq for event in life.events] == list(range(1, len(life.events) + 1))
    assert [row[:3] for row in life.rows("events")] == [(e.seq, e.ts_ns, e.name) for e in life.events]
    assert [seq for seq, _ in life.ticks] == list(range(1, len(seen) + 1))
    assert sorted(i for _, i in life.ticks) == sorted(seen["trade_id"].tolist())


def assert_announced(life: Life) -> None:
    """See each bar closed once, then restated once per revision, each time with other numbers."""
    by_bar: dict[tuple[str, ...], list[Event]] = {}
    for event in bars(life.events):
        by_bar.setdefault(key(event)[1:], []).append(event)
    for timeframe_s in life.timeframes_s:
        text = timeframe_text(timeframe_s)
        for row in life.candles(timeframe_s):
            told = by_bar[text, rfc3339(row.ts_ns)]
            assert names(told) == ["CANDLE_CLOSED"] + ["CANDLE_RESTATED"] * row.revision
            assert [data(e)["revision"] for e in told] == list(range(row.revision + 1))
            assert data(told[-1])["volume"] == row.volume
            shown = [[data(e)[k] for k in ("open", "high", "low", "close", "trade_count")] for e in told]
            assert all(a != b for a, b in pairwise(shown))
            assert {e.ts_ns for e in told} == {row.ts_ns + timeframe_s * NS_PER_S}
