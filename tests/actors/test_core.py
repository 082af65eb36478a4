"""PairCore: stories of late ticks, gaps and silences."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from actors.cutting import SILENCE_STEPS
from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Quote,
    Rejected,
    TickBatch,
)
from market.rows import GapRow, OrderFlow, QuoteRow, RejectedRow
from market.times import NS_PER_S, rfc3339
from tests.actors.core_support import (
    HOUR_NS,
    Life,
    assert_announced,
    at,
    bars,
    data,
    key,
    names,
)
from tests.analytics.worlds import (
    MINUTE_NS,
)

# Late ticks


def test_a_late_tick_restates_exactly_the_bars_it_is_in() -> None:
    life = Life()
    for second in (5, 65, 130, 310, 620):
        life.take(TickBatch(at(second)))
    events = bars(life.take(TickBatch(at(70, price=103.0, trade_id=9_999))))
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
    events = bars(life.take(TickBatch(at(50, price=103.0))))
    assert [key(e)[1:] for e in events if e.name == "CANDLE_RESTATED"] == [
        ("1m", rfc3339(HOUR_NS + k * MINUTE_NS)) for k in range(3)
    ]
    assert [row.close for row in life.candles(60)] == [103.0, 103.0, 103.0]
    assert life.candles(60)[1].open == 103.0


def test_bars_before_the_first_are_closed_not_restated() -> None:
    life = Life()
    life.take(TickBatch(at(305)), TickBatch(at(370)))
    events = bars(life.take(TickBatch(at(190))))
    assert [key(e) for e in events if "CANDLE" in e.name] == [
        ("CANDLE_CLOSED", "1m", rfc3339(HOUR_NS + 3 * MINUTE_NS)),
        ("CANDLE_CLOSED", "1m", rfc3339(HOUR_NS + 4 * MINUTE_NS)),
        ("CANDLE_CLOSED", "5m", rfc3339(HOUR_NS)),
    ]


def test_after_a_clock_closed_the_bar() -> None:
    life = Life()
    life.take(TickBatch(at(5)))
    assert [key(e)[1] for e in bars(life.take(Clock(HOUR_NS + MINUTE_NS)))] == ["1m", "flow"]
    events = bars(life.take(TickBatch(at(59))))
    assert names(events) == ["CANDLE_RESTATED", "ORDER_FLOW"]
    assert life.candles(60)[0].trade_count == 2


def test_a_late_batch_that_also_reaches_further_than_any_before() -> None:
    life = Life()
    life.take(TickBatch(at(5)), TickBatch(at(65)))
    both = np.concatenate([at(50, price=101.0), at(130, price=102.0)])
    events = bars(life.take(TickBatch(both)))
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
    events = bars(life.take(TickBatch(at(5)), TickBatch(at(200))))
    rows = life.candles(60)
    assert [row.trade_count for row in rows] == [1, 0, 0]
    assert rows[2][1:9] == (100.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 100.0)
    assert [key(e)[1:] for e in events[:4]] == [
        (kind, rfc3339(HOUR_NS + k * MINUTE_NS)) for k in range(2) for kind in ("1m", "flow")
    ]


def test_events_come_in_the_order_of_time_narrow_bars_first() -> None:
    life = Life((60, 300, 900))
    life.take(TickBatch(at(5)), TickBatch(at(901)))
    by_time = [(e.ts_ns, key(e)[1]) for e in bars(life.events)]
    assert [ts for ts, _ in by_time] == sorted(ts for ts, _ in by_time)
    assert [kind for ts, kind in by_time if ts == HOUR_NS + 900 * NS_PER_S] == ["1m", "5m", "15m", "flow"]


@pytest.mark.parametrize("ending", ["ticks", "clock", "one batch"])
def test_a_long_silence_is_crossed_in_steps(ending: str) -> None:
    life, step_ns = Life(), SILENCE_STEPS * NS_PER_S
    after = at(3.5 * SILENCE_STEPS + 5)
    if ending == "one batch":
        life.take(TickBatch(np.concatenate([at(5), after])))
    else:
        life.take(TickBatch(at(5)))
        life.take(Clock(int(after["ts_ns"][0])) if ending == "clock" else TickBatch(after))
    assert len(life.candles(60)) == (3.5 * SILENCE_STEPS + 5) // 60
    assert len(life.rows("market_state")) == 3.5 * SILENCE_STEPS
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


@pytest.mark.parametrize(
    ("second", "trade_id", "late"),
    [(59.999, 900, True), (64.999, 900, True), (65, 649, True), (65, 651, False), (65.001, 1, False)],
)
def test_what_is_late(second: float, trade_id: int, *, late: bool) -> None:
    life = Life()
    life.take(TickBatch(at(65)), TickBatch(at(second, trade_id=trade_id)))
    assert told_late(life) == [False, late]


@pytest.mark.parametrize(("second", "late"), [(65.999, True), (66.0, False)])
def test_a_clock_makes_late_too(second: float, *, late: bool) -> None:
    life = Life()
    life.take(TickBatch(at(65)), Clock(HOUR_NS + 66 * NS_PER_S), TickBatch(at(second)))
    assert told_late(life) == [False, late]


def told_late(life: Life) -> list[bool]:
    return [x.late for record in life.memory.records for x in record if isinstance(x, TickBatch)]


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
