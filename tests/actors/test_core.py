"""PairCore: the same ticks give the same rows and events, however they come; stories of gaps and silences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import state
from actors.core import SILENCE_BARS, PairCore
from actors.history import Rewind
from market.events import Event
from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Quote,
    Rejected,
    TickBatch,
)
from market.rows import Candle, GapRow, OrderFlow, QuoteRow, RejectedRow, Row, Rows, timeframe_text
from market.ticks import TICK, Ticks
from market.times import NS_PER_S, rfc3339
from tests.analytics.worlds import (
    MINUTE_NS,
    reference_candles,
    reference_flow,
    same_candles,
    same_flow,
    splits,
    ticks,
)
from tests.recordings import HERE, trades

TIMEFRAMES_S = (60, 300, 900)


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

    def __post_init__(self) -> None:
        self.core = PairCore(state.new("binance:spot:BTCUSDT", self.timeframes_s), self.memory)
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
        for first, some in rows.ticks:
            self.ticks += zip(range(first, first + len(some)), some["trade_id"].tolist(), strict=True)
        for name, new in rows.inserted.items():
            self.lists.setdefault(name, []).extend(new)
            table = self.tables.setdefault(name, {})
            for row in new:
                assert row[0] not in table or name in {"quotes", "rejected"}, f"{row} twice in {name}"
                table[row[0]] = row
        for name, changed in rows.replaced.items():
            self.tables.setdefault(name, {}).update((row[0], row) for row in changed)

    def rotate(self) -> None:
        """Begin a segment, and go on from what it says, as after a restart."""
        closed_ns, head = self.core.snapshot()
        self.memory.heads.append((len(self.memory.records), closed_ns, head))
        self.core = PairCore(state.load(head), self.memory)

    def rows(self, table: str) -> list[Any]:
        return [row for _, row in sorted(self.tables.get(table, {}).items())]

    def candles(self, timeframe_s: int) -> list[Candle]:
        return self.rows(f"candles_{timeframe_text(timeframe_s)}")


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
    for event in life.events:
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


# Laws


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_batching_gives_the_same_rows_and_events(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=40))
    lives = []
    for _ in range(2):
        life = Life()
        for part in draw.draw(splits(len(seen))):
            life.take(TickBatch(seen[part]))
            if draw.draw(st.booleans()):
                life.rotate()
            if draw.draw(st.booleans()):  # closes early what the next trade would close
                life.take(Clock(int(seen["ts_ns"][min(part.stop, len(seen) - 1)])))
        lives.append(life)
        assert_complete(life, seen, int(seen["ts_ns"].max()))
        assert_announced(life)
    assert list(map(key, lives[0].events)) == list(map(key, lives[1].events))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_late_ticks_end_in_the_rows_of_an_ordered_fold(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=60))
    order = np.argsort(np.arange(len(seen)) + draw.draw(lateness(len(seen))), kind="stable")
    arriving, life, until_ns = seen[order], Life(), 0
    for part in draw.draw(splits(len(seen))):
        batch = np.sort(arriving[part], order="trade_id")
        life.take(TickBatch(batch))
        until_ns = max(until_ns, int(batch["ts_ns"].max()))
        step = draw.draw(st.sampled_from(["", "rotate", "clock"]))
        if step == "rotate":
            life.rotate()
        elif step == "clock":
            until_ns += draw.draw(st.integers(0, 3)) * 50 * NS_PER_S
            life.take(Clock(until_ns))
    assert_complete(life, seen, until_ns)
    assert_announced(life)


@st.composite
def lateness(draw: st.DrawFn, size: int) -> list[int]:
    """Say of each trade behind how many others it comes."""
    late = draw(st.dictionaries(st.integers(0, size - 1), st.integers(1, size), max_size=6))
    return [late.get(i, 0) for i in range(size)]


@pytest.mark.parametrize("batch", [1, 37, 5_000])
def test_recorded_trades(batch: int) -> None:
    seen = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    if batch == 1:
        seen = seen[:3_000]
    life = Life((5, *TIMEFRAMES_S))
    for start in range(0, len(seen), batch):
        life.take(TickBatch(seen[start : start + batch]))
        if start // batch % 100 == 50:
            life.rotate()
    assert_complete(life, seen, int(seen["ts_ns"].max()))
    assert_announced(life)


def test_recorded_trades_with_a_hole_that_is_filled_last() -> None:
    seen = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    life = Life()
    hole = slice(4_000, 9_000)  # some four minutes
    for part in (slice(0, 4_000), slice(9_000, 15_000), hole, slice(15_000, None)):
        life.take(TickBatch(seen[part]))
        life.rotate()
    assert_complete(life, seen, int(seen["ts_ns"].max()))
    assert_announced(life)
    assert sum(row.revision for row in life.candles(60)) >= 3


# Late ticks


def test_a_late_tick_restates_exactly_the_bars_it_is_in() -> None:
    life = Life()
    for second in (5, 65, 130, 310, 620):
        life.take(TickBatch(at(second)))
    events = life.take(TickBatch(at(70, price=103.0, trade_id=9_999)))
    bar = rfc3339(HOUR_NS + MINUTE_NS)
    assert [key(e) for e in events if e.name == "CANDLE_RESTATED"] == [
        ("CANDLE_RESTATED", "1m", bar),
        ("CANDLE_RESTATED", "5m", rfc3339(HOUR_NS)),
    ]
    # A bar without trades is flat at the close before it, and cumulative delta goes on to the end of the day.
    assert [key(e)[2] for e in events if e.name == "ORDER_FLOW"] == [
        rfc3339(HOUR_NS + k * MINUTE_NS) for k in range(1, 10)
    ]
    assert [(row.close, row.trade_count, row.revision) for row in life.candles(60)[:4]] == [
        (100.0, 1, 0),
        (103.0, 2, 1),
        (100.0, 1, 0),
        (100.0, 0, 0),
    ]


def test_a_late_close_moves_the_flat_bars_behind_it() -> None:
    life = Life()
    life.take(TickBatch(at(5)), TickBatch(at(200)))
    events = life.take(TickBatch(at(50, price=103.0)))
    assert [key(e)[1:] for e in events if e.name == "CANDLE_RESTATED"] == [
        ("1m", rfc3339(HOUR_NS + k * MINUTE_NS)) for k in range(3)
    ]
    assert [row.close for row in life.candles(60)] == [103.0, 103.0, 103.0]
    assert life.candles(60)[1].open == 103.0


def test_bars_before_the_first_are_closed_not_restated() -> None:
    life = Life()
    life.take(TickBatch(at(305)), TickBatch(at(370)))
    events = life.take(TickBatch(at(190)))
    assert [key(e) for e in events if "CANDLE" in e.name] == [
        ("CANDLE_CLOSED", "1m", rfc3339(HOUR_NS + 3 * MINUTE_NS)),
        ("CANDLE_CLOSED", "1m", rfc3339(HOUR_NS + 4 * MINUTE_NS)),
        ("CANDLE_CLOSED", "5m", rfc3339(HOUR_NS)),
    ]


def test_after_a_clock_closed_the_bar() -> None:
    life = Life()
    life.take(TickBatch(at(5)))
    assert [key(e)[1] for e in life.take(Clock(HOUR_NS + MINUTE_NS))] == ["1m", "flow"]
    events = life.take(TickBatch(at(59)))
    assert names(events) == ["CANDLE_RESTATED", "ORDER_FLOW"]
    assert life.candles(60)[0].trade_count == 2


def test_a_late_batch_that_also_reaches_further_than_any_before() -> None:
    life = Life()
    life.take(TickBatch(at(5)), TickBatch(at(65)))
    both = np.concatenate([at(50, price=101.0), at(130, price=102.0)])
    events = life.take(TickBatch(both))
    assert [key(e) for e in events if key(e)[1] == "1m"] == [
        ("CANDLE_RESTATED", "1m", rfc3339(HOUR_NS)),
        ("CANDLE_CLOSED", "1m", rfc3339(HOUR_NS + MINUTE_NS)),
    ]
    shown = life.core.market()
    assert shown is not None
    assert (shown["price"], shown["timestamp"]) == (102.0, rfc3339(HOUR_NS + 130 * NS_PER_S))
    assert_announced(life)


def test_the_last_trade_is_the_last_in_time_not_in_the_batch() -> None:
    life = Life()
    life.take(TickBatch(np.concatenate([at(9, price=101.0, trade_id=1), at(8, price=102.0, trade_id=2)])))
    shown = life.core.market()
    assert shown is not None
    assert shown["price"] == 101.0


def test_late_twice_for_one_bar_counts_two_revisions() -> None:
    life = Life()
    life.take(TickBatch(at(5)), TickBatch(at(65)))
    life.take(TickBatch(at(6)))
    life.rotate()
    life.take(TickBatch(at(7)))
    assert (life.candles(60)[0].revision, life.candles(60)[0].trade_count) == (2, 3)
    assert_announced(life)


# Timeframes


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_new_timeframe_equals_a_fold_from_the_beginning(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=60))
    life, until_ns = Life(), 0
    order = np.argsort(np.arange(len(seen)) + draw.draw(lateness(len(seen))), kind="stable")
    parts = draw.draw(splits(len(seen)))
    change = draw.draw(st.integers(0, len(parts)))
    for index, part in enumerate([*parts, slice(0, 0)]):
        if index == change:
            before = len(life.events)
            life.write(life.core.set_timeframes((60, 180, 900)).rows)
            life.timeframes_s = (60, 180, 900)
            life.rotate()
            assert len(life.events) == before
            life.tables.pop("candles_5m", None)
        if part.stop:
            life.take(TickBatch(seen[order][part]))
            until_ns = max(until_ns, int(seen[order][part]["ts_ns"].max()))
    assert_complete(life, seen, until_ns)
    assert life.core.timeframes_s == (60, 180, 900)
    assert "candles_5m" not in life.tables


# Gaps


def gap_rows(life: Life) -> list[GapRow]:
    return cast("list[GapRow]", life.rows("data_gaps"))


OPENED = GapOpened(10, 12, HOUR_NS, HOUR_NS + 5, 77, "ids jumped")


def three(*ids: int) -> TickBatch:
    return TickBatch(np.concatenate([at(k / 10, trade_id=i) for k, i in enumerate(ids)]))


def test_a_gap_that_is_filled() -> None:
    life = Life()
    assert names(life.take(OPENED)) == ["DATA_GAP"]
    assert gap_rows(life) == [GapRow(1, 10, 12, HOUR_NS, HOUR_NS + 5, 77, "OPEN", None, 0, "ids jumped")]
    (gap,) = life.core.state.ledger.gaps
    life.take(three(10, 11))
    assert (gap.next_id, gap.rows_filled) == (12, 2)
    (event,) = life.take(three(12, 13), GapClosed(10, 99, 0, "given back by REST"))
    assert gap_rows(life) == [GapRow(1, 10, 12, HOUR_NS, HOUR_NS + 5, 77, "FILLED", 99, 3, "ids jumped")]
    assert (event.name, event.ts_ns, data(event)["status"], data(event)["rows_filled"]) == (
        "DATA_GAP_FILLED",
        99,
        "FILLED",
        3,
    )
    assert not life.core.state.ledger.gaps


def test_a_gap_that_the_venue_cannot_fill() -> None:
    life = Life()
    life.take(OPENED, three(11))
    (event,) = life.take(GapClosed(10, 99, 2, "the venue does not list them"))
    (row,) = gap_rows(life)
    assert (row.status, row.filled_ns, row.rows_filled) == ("UNFILLABLE", 99, 1)
    assert row.reason == "ids jumped; 2 missing: the venue does not list them"
    assert (event.name, data(event)["status"]) == ("DATA_GAP", "UNFILLABLE")
    assert life.core.state.ledger.next_id == 13


def test_what_a_gap_lacks_is_counted_in_the_record_not_believed() -> None:
    life = Life()
    life.take(OPENED, three(12))  # a restart between, and nobody remembers what was doubted
    life.take(GapClosed(10, 99, 0, "given back by REST"))
    assert gap_rows(life)[0].status == "UNFILLABLE"


def test_gaps_are_numbered_and_told_apart() -> None:
    life = Life()
    life.take(OPENED, replace(OPENED, first_id=20, last_id=21))
    life.take(three(20, 21), GapClosed(20, 99, 0, ""))
    assert [(row.gap_id, row.status) for row in gap_rows(life)] == [(1, "OPEN"), (2, "FILLED")]
    assert [gap.first_id for gap in life.core.state.ledger.gaps] == [10]


def test_the_live_edge_is_remembered() -> None:
    life = Life()
    life.take(Began(42))
    assert life.core.state.ledger.next_id == 42
    life.take(three(42, 43))
    life.take(three(10))
    assert life.core.state.ledger.next_id == 44


# What else a venue and its connection say


def test_flat_bars_through_a_silence() -> None:
    life = Life()
    events = life.take(TickBatch(at(5)), TickBatch(at(200)))
    rows = life.candles(60)
    assert [row.trade_count for row in rows] == [1, 0, 0]
    assert rows[2][1:9] == (100.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 100.0)
    assert [key(e)[1:] for e in events[:4]] == [
        (kind, rfc3339(HOUR_NS + k * MINUTE_NS)) for k in range(2) for kind in ("1m", "flow")
    ]


def test_events_come_in_the_order_of_time_narrow_bars_first() -> None:
    life = Life((60, 300, 900))
    life.take(TickBatch(at(5)), TickBatch(at(901)))
    by_time = [(e.ts_ns, key(e)[1]) for e in life.events]
    assert [ts for ts, _ in by_time] == sorted(ts for ts, _ in by_time)
    assert [kind for ts, kind in by_time if ts == HOUR_NS + 900 * NS_PER_S] == ["1m", "5m", "15m", "flow"]


@pytest.mark.parametrize("ending", ["ticks", "clock", "one batch"])
def test_a_long_silence_is_crossed_in_steps(ending: str) -> None:
    life, step_ns = Life(), SILENCE_BARS * MINUTE_NS
    after = at(3.5 * SILENCE_BARS * 60)
    if ending == "one batch":
        life.take(TickBatch(np.concatenate([at(5), after])))
    else:
        life.take(TickBatch(at(5)))
        life.take(Clock(int(after["ts_ns"][0])) if ending == "clock" else TickBatch(after))
    assert len(life.candles(60)) == 3.5 * SILENCE_BARS
    clocks = [x.ts_ns - HOUR_NS for record in life.memory.records for x in record if isinstance(x, Clock)]
    assert clocks[:3] == [step_ns * k + 5 * NS_PER_S for k in (1, 2, 3)]
    assert len(life.memory.records) == 5


def test_who_received_what_closed_a_bar() -> None:
    life = Life()
    life.take(TickBatch(at(5)))
    assert {e.received_ns for e in life.take(TickBatch(at(65)))} == {7}
    assert {e.received_ns for e in life.take(Clock(HOUR_NS + 2 * MINUTE_NS))} == {0}


def test_quotes_refusals_and_silence_are_told() -> None:
    life = Life()
    events = life.take(
        Quote(0, 1.0, 2.0, 3.0, 4.0, 55),
        Rejected(66, "price -1", b"raw"),
        FeedStale(77, 31.2, "not connected"),
        FeedRecovered(88),
    )
    assert life.lists["quotes"] == [QuoteRow(55, 1.0, 2.0, 3.0, 4.0, 55)]
    assert life.lists["rejected"] == [RejectedRow(66, "price -1", b"raw")]
    assert [(e.name, e.ts_ns, data(e)) for e in events] == [
        ("FEED_STALE", 77, {"reason": "not connected", "silent_s": 31.2}),
        ("FEED_RECOVERED", 88, {}),
    ]


def test_records_let_no_clock_pass_before_ticks_are_judged() -> None:
    batch, clock, quote = TickBatch(at(5)), Clock(9), Quote(0, 1.0, 2.0, 3.0, 4.0, 55)
    life = Life()
    life.take(quote, batch, clock, batch, quote)
    kinds = [[type(x) for x in record] for record in life.memory.records]
    assert kinds == [[Quote, TickBatch], [Clock], [TickBatch], [Quote]]
    assert list(life.core.records([])) == []


@pytest.mark.parametrize(("second", "late"), [(59.999, True), (60, False), (61, False), (65, False)])
def test_what_is_late(second: float, *, late: bool) -> None:
    life = Life()
    life.take(TickBatch(at(65)), TickBatch(at(second)))
    assert [x.late for record in life.memory.records for x in record if isinstance(x, TickBatch)] == [
        False,
        late,
    ]


def test_open_rows_are_the_bars_not_closed_yet() -> None:
    life = Life()
    assert life.core.open_rows() == {}
    life.take(TickBatch(at(5)), TickBatch(at(65)))
    shown = life.core.open_rows()
    assert {table: (row[0] - HOUR_NS) // MINUTE_NS for table, (row,) in shown.items()} == {
        "candles_1m": 1,
        "candles_5m": 0,
        "candles_15m": 0,
        "order_flow": 1,
    }
    assert isinstance(shown["order_flow"][0], OrderFlow)
