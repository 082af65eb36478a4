from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.errors import Fatal
from market.rows import EventRow, GapRow, OrderFlow, RejectedRow, Rows, TickRows
from market.ticks import EMPTY, TICK
from storage.hot import REJECTED_CAP, HotFile
from storage.inserts import FEW
from tests.storage.hot_rows import MINUTE, T0, candle, make_ticks, open_hot, some_of_each


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "binance/spot/BTCUSDT/trading.duckdb"


@pytest.fixture
def hot(path: Path) -> Iterator[HotFile]:
    file = open_hot(path)
    yield file
    file.close()


def ask(hot: HotFile, sql: str) -> list[tuple[Any, ...]]:
    return hot.connection.execute(sql).fetchall()


def test_columns_are_those_of_the_contract(hot: HotFile) -> None:
    def columns(table: str) -> str:
        return " ".join(row[0] for row in ask(hot, f"DESCRIBE {table}"))

    candles = (
        "timestamp open high low close volume buy_volume sell_volume vwap trade_count is_complete revision"
    )
    gaps = (
        "first_missing_id last_missing_id from_time to_time detected_at status filled_at rows_filled reason"
    )
    assert {table: columns(table) for (table,) in ask(hot, "SHOW TABLES")} == {
        "ticks": "seq timestamp price volume side trade_id received_at outlier_flag",
        "quotes": "timestamp bid_price bid_size ask_price ask_size received_at",
        "market_ticks": "timestamp bid_price ask_price last_price volume received_at",
        "candles_1m": candles,
        "candles_5m": candles,
        "candles_15m": candles,
        "order_flow": "timestamp buy_volume sell_volume delta cvd imbalance_ratio trade_count",
        "market_profile": "session_start timestamp poc value_area_high value_area_low total_volume bin_size",
        "fair_value_gaps": "gap_id timeframe gap_type top bottom created_at filled_pct status filled_at",
        "supply_demand_zones": (
            "zone_id timeframe zone_type price_low price_high strength status touches created_at updated_at "
            "broken_at"
        ),
        "market_state": (
            "timestamp mass momentum friction entropy nash_dist alpha regime sentiment_label sentiment_score"
        ),
        "amended": "table_name key flag",
        "events": "seq timestamp event data",
        "data_gaps": f"gap_id {gaps}",
        "rejected": "received_at reason raw",
        "sink_cursors": "sink seq updated_at",
        "meta": "key value",
    }
    types = {kind for table in ("ticks", "candles_1m") for _, kind, *_ in ask(hot, f"DESCRIBE {table}")}
    assert {"TIMESTAMP_NS", "ENUM('BUY', 'SELL')"} <= types
    assert "TIMESTAMP" not in types


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 3_000])
def test_everything_flushed_is_there_after_reopening(path: Path, count: int) -> None:
    hot = open_hot(path)
    assert (hot.position, hot.last_tick_seq()) == (0, 0)
    hot.flush(some_of_each(1, count), 7)
    hot.flush(Rows(meta={"tick_size": "0.5"}), 7)
    hot.flush(Rows(meta={"tick_size": "0.01"}), 7)
    hot.flush(some_of_each(count + 1, count), 8)
    tables = [name for (name,) in ask(hot, "SHOW TABLES")]
    before = {table: ask(hot, f"FROM {table}") for table in tables}
    hot.close()
    again = open_hot(path)
    assert (again.position, again.last_tick_seq(), again.meta["tick_size"]) == (8, 2 * count, "0.01")
    assert {table: ask(again, f"FROM {table}") for table in tables} == before
    assert len(before["ticks"]) == len(before["events"]) == 2 * count
    again.close()


odd_floats = st.sampled_from([1e-8, 1e12, 0.1 + 0.2, 5e-324, 1.7976931348623157e308]) | st.floats(
    allow_nan=False, allow_infinity=False, min_value=1e-12
)
times = st.integers(min_value=0, max_value=4 * 10**18)
ticks_of = st.lists(
    st.tuples(st.integers(0, 2**62), times, odd_floats, odd_floats, times, st.sampled_from([-1, 0, 1])),
    min_size=1,
    max_size=2 * FEW,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ticks_of)
def test_odd_ticks_come_back_bit_for_bit(hot: HotFile, odd: list[tuple[Any, ...]]) -> None:
    first = hot.last_tick_seq() + 1
    hot.flush(Rows(ticks=[TickRows(first, np.array(odd, TICK))]), hot.position + 1)
    found = ask(
        hot,
        "SELECT trade_id::BIGINT, epoch_ns(timestamp), price, volume, epoch_ns(received_at), "
        "CASE side WHEN 'BUY' THEN 1 WHEN 'SELL' THEN -1 ELSE 0 END, seq, outlier_flag "
        "FROM ticks ORDER BY seq",
    )
    assert found[first - 1 :] == [(*tick, first + i, 0) for i, tick in enumerate(odd)]


flows = st.lists(
    st.tuples(
        times, odd_floats, odd_floats, odd_floats, odd_floats, st.none() | odd_floats, st.integers(0, 2**40)
    ),
    min_size=1,
    max_size=2 * FEW,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.lists(st.text().map(str.encode) | st.binary(max_size=1024), max_size=2 * FEW))
def test_odd_rows_come_back_bit_for_bit(hot: HotFile, flow: list[tuple[Any, ...]], raw: list[bytes]) -> None:
    hot.connection.execute("DELETE FROM order_flow; DELETE FROM rejected")
    rows = Rows()
    for row in flow:
        rows.insert("order_flow", OrderFlow(*row))
    for each in raw:
        rows.insert("rejected", RejectedRow(T0, "reason\n'", each))
    hot.flush(rows, hot.position + 1)
    assert ask(hot, "SELECT epoch_ns(timestamp), * EXCLUDE timestamp FROM order_flow") == flow
    assert ask(hot, "SELECT raw FROM rejected") == [(each,) for each in raw]


def test_columns_that_are_mostly_null_keep_their_type(hot: HotFile) -> None:
    rows = Rows()
    for number in range(2_500):
        filled = T0 if number == 2_499 else None
        rows.insert("data_gaps", GapRow(number, 1, 2, T0, T0, T0, "OPEN", filled, 0, "x"))
    hot.flush(rows, 1)
    assert ask(hot, "SELECT count(*), count(filled_at), epoch_ns(max(filled_at)) FROM data_gaps") == [
        (2_500, 1, T0)
    ]


@pytest.mark.parametrize("count", [2, 40])
def test_replaced_rows_take_the_place_of_the_stored_and_the_last_wins(hot: HotFile, count: int) -> None:
    rows = Rows()
    for i in range(count):
        rows.insert("candles_1m", candle(T0 + i * MINUTE))
        rows.replace("candles_1m", candle(T0 + i * MINUTE, close=7.0, revision=1))
    rows.replace("candles_1m", candle(T0, close=8.0, revision=2))
    rows.replace("candles_1m", candle(T0 + count * MINUTE, close=9.0))
    hot.flush(rows, 1)
    found = ask(hot, "SELECT epoch_ns(timestamp), close, revision FROM candles_1m ORDER BY timestamp")
    middle = [(T0 + i * MINUTE, 7.0, 1) for i in range(1, count)]
    assert found == [(T0, 8.0, 2), *middle, (T0 + count * MINUTE, 9.0, 0)]


def test_a_flush_that_fails_leaves_nothing_behind(hot: HotFile) -> None:
    hot.flush(some_of_each(1), 1)
    bad = some_of_each(4)
    bad.insert("order_flow", ("no time", 1.0, 1.0, 1.0, 1.0, 1.0, 1))
    with pytest.raises(Fatal):
        hot.flush(bad, 2)
    assert (hot.position, hot.last_tick_seq()) == (1, 3)
    assert ask(hot, "SELECT count(*) FROM ticks") == [(3,)]
    hot.flush(some_of_each(4), 2)
    assert (hot.position, hot.last_tick_seq()) == (2, 6)


def test_an_empty_flush_moves_the_position_only(hot: HotFile) -> None:
    hot.flush(Rows(ticks=[TickRows(1, EMPTY)], inserted={"events": []}, replaced={"candles_1m": []}), 5)
    assert hot.position == 5
    assert ask(hot, "SELECT count(*) FROM ticks") == [(0,)]


def test_chunks_of_ticks_are_one_run(hot: HotFile) -> None:
    hot.flush(Rows(ticks=[TickRows(1, make_ticks(4)), TickRows(5, EMPTY), TickRows(5, make_ticks(6, 5))]), 1)
    assert ask(hot, "SELECT list(seq), list(trade_id::BIGINT) FROM ticks") == [(list(range(1, 11)),) * 2]


def test_rejected_keeps_the_latest_ten_thousand(hot: HotFile) -> None:
    def reject(first: int, last: int) -> Rows:
        return Rows(inserted={"rejected": [RejectedRow(n, "r", b"%d" % n) for n in range(first, last)]})

    hot.flush(reject(0, REJECTED_CAP - 1), 1)
    hot.flush(reject(REJECTED_CAP - 1, REJECTED_CAP + 4), 2)
    numbers = "SELECT count(*), min(raw::VARCHAR::INT), max(raw::VARCHAR::INT) FROM rejected"
    assert ask(hot, numbers) == [(REJECTED_CAP, 4, REJECTED_CAP + 3)]
    hot.flush(reject(0, 2 * REJECTED_CAP), 3)
    assert ask(hot, numbers) == [(REJECTED_CAP, REJECTED_CAP, 2 * REJECTED_CAP - 1)]


def test_events_are_read_from_a_cursor_on(hot: HotFile) -> None:
    hot.flush(some_of_each(1, 30), 1)
    assert [event.seq for event in hot.events_after(27, 2)] == [28, 29]
    assert hot.events_after(29, 100) == [EventRow(30, T0 + 30, "CANDLE_CLOSED", b'{"close":1e-08}')]
    assert hot.events_after(30, 100) == []


def test_cursors_are_written_with_the_next_flush(path: Path) -> None:
    hot = open_hot(path)
    assert hot.cursor("redis") == 0
    hot.set_cursor("redis", 17)
    hot.flush(Rows(), 0)
    hot.set_cursor("redis", 18)
    assert hot.cursor("redis") == 18
    hot.close()
    again = open_hot(path)
    assert again.cursor("redis") == 17
    again.set_cursor("redis", 19)
    again.set_cursor("questdb", 3)
    again.flush(Rows(), 0)
    assert ask(again, "SELECT sink, seq, year(updated_at) > 2020 FROM sink_cursors ORDER BY seq") == [
        ("questdb", 3, True),
        ("redis", 19, True),
    ]
    again.close()


def test_a_new_timeframe_gets_its_table(path: Path) -> None:
    open_hot(path).close()
    hot = open_hot(path, (60, 300, 900, 3600))
    hot.flush(Rows(inserted={"candles_1h": [candle(T0)]}), 1)
    assert ask(hot, "SELECT epoch_ns(timestamp), revision FROM candles_1h") == [(T0, 0)]
    hot.close()


def test_market_ticks_join_each_tick_to_the_last_quote_this_host_had(hot: HotFile) -> None:
    rows = some_of_each(1)
    hot.flush(rows, 1)
    early = make_ticks(1, 4, start_ns=T0 - MINUTE)
    hot.flush(Rows(ticks=[TickRows(4, early)]), 2)
    found = ask(hot, "SELECT bid_price, ask_price, last_price FROM market_ticks ORDER BY timestamp")
    assert found == [(None, None, 100.0), (99.0, 101.0, 100.0), (99.0, 101.0, 100.01), (99.0, 101.0, 100.02)]


def test_a_checkpoint_empties_the_log_and_removes_its_mark(path: Path) -> None:
    hot = open_hot(path)
    hot.flush(some_of_each(1, 100), 1)
    hot.checkpoint()
    assert [file.name for file in path.parent.iterdir()] == ["trading.duckdb"]
    hot.close()
    again = open_hot(path)
    assert (again.position, again.last_tick_seq()) == (1, 100)
    again.close()


def test_ticks_are_read_back_as_they_came(hot: HotFile) -> None:
    ticks = make_ticks(1_000)
    hot.flush(Rows(ticks=[TickRows(1, ticks[:600]), TickRows(601, ticks[600:])]), 1)
    assert hot.ticks_after(0, 1_000).tobytes() == ticks.tobytes()
    assert hot.ticks_after(597, 6).tobytes() == ticks[597:603].tobytes()
    assert len(hot.ticks_after(1_000, 10)) == 0
