"""The proof is proven: it holds for a record made the plain way, and can fail."""

# ruff: noqa: S608 - SQL of these tests, put together from their own names

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from market.rows import Candle, GapRow, OrderFlow, Rows, TickRows
from market.ticks import Ticks
from storage.hot import HotFile
from storage.proof import prove
from storage.reads import begin
from tests.storage.hot_rows import T0, make_ticks, open_hot
from tests.storage.record import Opened, announcement, keep_gap, record

MIDNIGHT = T0 - 12 * 3600 * 10**9
TIMEFRAMES = (60, 300, 900)

SEQ = "ticks.seq counts 1, 2, 3 without hole or double"
EVENT_SEQ = "events.seq counts 1, 2, 3 without hole or double"
IDS = "every trade id is stored once"
HOLES = "trade ids are contiguous, or data_gaps says which are missing"
GAPS = "every FILLED gap has all its trades, and no OPEN one"
FLOW = "order_flow equals the ticks, cvd begins at 00:00 UTC, no minute missing"
FLOW_SAID = "order_flow is what its latest events said"
FLOW_CAME = "ORDER_FLOW came for every minute of order_flow that is over"
GAPS_SAID = "data_gaps is what its latest events said"
GAP_IDS = "data_gaps.gap_id counts 1, 2, 3 without hole or double"


def bars(timeframe: str) -> str:
    flat = "flat bars between them, none missing, all complete but the last"
    return f"candles_{timeframe} equals the ticks, {flat}"


def merged(timeframe: str) -> str:
    return f"candles_{timeframe} equals candles_1m merged"


def once(timeframe: str) -> str:
    return f"CANDLE_CLOSED came once for every complete bar of candles_{timeframe}"


def said(timeframe: str) -> str:
    return f"candles_{timeframe} is what its latest events said"


class Made(NamedTuple):
    hot: HotFile
    opened: Opened

    def failing(self) -> dict[str, str]:
        claims = prove(begin(self.hot.connection), self.opened, TIMEFRAMES)
        return {claim.text: claim.detail for claim in claims if not claim.ok}


def some_ticks() -> Ticks:
    """Two hours across midnight: pauses, shared times, ids 41..45 and 301..310 missing, 501..519 late."""
    ticks = make_ticks(1_500, first_id=1, start_ns=MIDNIGHT - 3600 * 10**9 + 17, step_ns=4_100_000_001)
    ticks["ts_ns"][700:] += 13 * 60 * 10**9
    ticks["ts_ns"][100:140] = ticks["ts_ns"][100]
    missing = np.isin(ticks["trade_id"], [*range(41, 46), *range(301, 311)])
    late = (ticks["trade_id"] > 500) & (ticks["trade_id"] < 520)
    return np.concatenate([ticks[~missing & ~late], ticks[late]])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Opened]:
    path = tmp_path_factory.mktemp("original") / "trading.duckdb"
    rows, opened = record(some_ticks(), TIMEFRAMES)
    for gap_id, first, last, status in (
        (1, 41, 43, "OPEN"),
        (2, 44, 45, "UNFILLABLE"),
        (3, 301, 310, "UNFILLABLE"),
        (4, 501, 519, "FILLED"),
    ):
        keep_gap(rows, GapRow(gap_id, first, last, T0, T0, T0, status, None, 0, "reconnect"))
    hot = open_hot(path)
    hot.flush(rows, 1)
    hot.checkpoint()
    hot.close()
    return path, opened


@pytest.fixture
def made(original: tuple[Path, Opened], tmp_path: Path) -> Iterator[Made]:
    path, opened = original
    hot = open_hot(Path(shutil.copy(path, tmp_path)))
    yield Made(hot, opened)
    hot.close()


def test_a_true_record_is_proven(made: Made) -> None:
    claims = prove(begin(made.hot.connection), made.opened, TIMEFRAMES)
    assert [claim for claim in claims if not claim.ok] == []
    details = {claim.text: claim.detail for claim in claims}
    assert details[SEQ] == "1,485 rows"
    assert details[HOLES] == "1,500 rows"
    assert details[GAPS] == "4 rows"
    assert details[bars("1m")] == "116 rows"
    assert details[once("1m")] == "115 rows"
    assert details[bars("15m")] == "8 rows"
    assert details[FLOW] == "116 rows"


def test_an_empty_record_is_proven(tmp_path: Path) -> None:
    hot = open_hot(tmp_path / "trading.duckdb")
    assert all(claim.ok for claim in prove(begin(hot.connection), {}, TIMEFRAMES))
    hot.close()


# Ids that are text, or that have holes


CLOSED = "every hole that was noticed is in data_gaps, and none is OPEN"


def unproven(hot: HotFile, opened: Opened, *, contiguous: bool) -> dict[str, str]:
    claims = prove(begin(hot.connection), opened, TIMEFRAMES, contiguous=contiguous)
    assert not {HOLES, GAPS} & {claim.text for claim in claims}
    return {claim.text: claim.detail for claim in claims if not claim.ok}


def test_ids_that_need_not_be_contiguous_leave_only_their_gaps_to_be_closed(made: Made) -> None:
    told = {CLOSED: "1 faults in 4 rows; the first at 1: is OPEN: reconnect"}
    assert unproven(made.hot, made.opened, contiguous=False) == told
    made.hot.connection.execute("UPDATE data_gaps SET status = 'FILLED' WHERE status = 'OPEN'")
    assert unproven(made.hot, made.opened, contiguous=False).keys() == {GAPS_SAID}
    made.hot.connection.execute("UPDATE events SET data = replace(data::VARCHAR, 'OPEN', 'FILLED')")
    assert unproven(made.hot, made.opened, contiguous=False) == {}
    made.hot.connection.execute(
        "INSERT INTO ticks SELECT * REPLACE (1486 AS seq) FROM ticks WHERE seq = 1000"
    )
    broken = unproven(made.hot, made.opened, contiguous=False)
    assert broken.keys() == {IDS, FLOW, *map(bars, ("1m", "5m", "15m"))}


@pytest.fixture
def texts(tmp_path: Path) -> Iterator[Made]:
    """Ids that would be in another order, were they integers; a gap that has none."""
    ticks = some_ticks()
    ticks["trade_id"] = np.arange(1, len(ticks) + 1)
    rows, opened = record(ticks, TIMEFRAMES)
    rows.ticks = [TickRows(1, ticks, tuple(str(10**6 - n) for n in range(len(ticks))))]
    keep_gap(rows, GapRow(1, None, None, T0, T0, T0, "UNFILLABLE", T0, 0, "reconnect"))
    hot = open_hot(tmp_path / "texts.duckdb")
    hot.flush(rows, 1)
    yield Made(hot, opened)
    hot.close()


@pytest.mark.parametrize("contiguous", [True, False])
def test_ids_that_are_text_order_nothing(texts: Made, *, contiguous: bool) -> None:
    assert unproven(texts.hot, texts.opened, contiguous=contiguous) == {}
    texts.hot.connection.execute("UPDATE ticks SET trade_id = 'twice' WHERE seq IN (3, 9)")
    told = {IDS: "1 faults in 1,485 rows; the first at 3: its id, twice, is stored 2 times"}
    assert unproven(texts.hot, texts.opened, contiguous=contiguous) == told


def test_trades_of_one_time_exchanged_are_found_by_their_arrival(texts: Made) -> None:
    texts.hot.connection.execute("""
        UPDATE ticks SET seq = CASE seq WHEN 96 THEN 135 ELSE 96 END WHERE seq IN (96, 135)
    """)
    assert unproven(texts.hot, texts.opened, contiguous=False).keys() == {bars("1m")}


FLAT = "(SELECT min(timestamp) FROM candles_1m WHERE trade_count = 0)"
FOURTH = "(SELECT timestamp FROM candles_1m ORDER BY timestamp OFFSET 3 LIMIT 1)"
FIRST_15M = "(SELECT min(timestamp) FROM candles_15m)"
NEXT = "(SELECT max(seq) + 1 FROM events)"
DAMAGE: dict[str, tuple[str, set[str]]] = {
    "a tick renumbered": ("UPDATE ticks SET seq = 9999 WHERE seq = 1485", {SEQ}),
    "two ticks of one number": ("UPDATE ticks SET seq = 7 WHERE seq = 8", {SEQ}),
    "a tick gone": (
        "DELETE FROM ticks WHERE seq = 1000",
        {SEQ, HOLES, FLOW, *map(bars, ("1m", "5m", "15m"))},
    ),
    "a tick twice": (
        "INSERT INTO ticks SELECT * REPLACE (1486 AS seq) FROM ticks WHERE seq = 1000",
        {IDS, FLOW, *map(bars, ("1m", "5m", "15m"))},
    ),
    "a price changed": (
        "UPDATE ticks SET price = 200 WHERE seq = 1000",
        set(map(bars, ("1m", "5m", "15m"))),
    ),
    "a side changed": (
        "UPDATE ticks SET side = CASE side WHEN 'BUY' THEN 'SELL' ELSE 'BUY' END WHERE seq = 1000",
        {FLOW, *map(bars, ("1m", "5m", "15m"))},
    ),
    "two trades of one time exchanged": (
        """
        UPDATE ticks SET trade_id = CASE trade_id WHEN '101' THEN '140' ELSE '101' END
        WHERE trade_id IN ('101', '140')
        """,
        {bars("1m")},
    ),
    "a gap not recorded": ("DELETE FROM data_gaps WHERE gap_id = 3", {HOLES, GAPS_SAID, GAP_IDS}),
    "a gap recorded too short": (
        "UPDATE data_gaps SET last_missing_id = 309 WHERE gap_id = 3",
        {HOLES, GAPS_SAID},
    ),
    "a hole between two gaps": (
        "UPDATE data_gaps SET first_missing_id = 45 WHERE gap_id = 2",
        {HOLES, GAPS_SAID},
    ),
    "a gap falsely filled": (
        "UPDATE data_gaps SET status = 'FILLED' WHERE gap_id = 1",
        {HOLES, GAPS, GAPS_SAID},
    ),
    "a gap open although filled": (
        "UPDATE data_gaps SET status = 'OPEN' WHERE gap_id = 4",
        {GAPS, GAPS_SAID},
    ),
    "an event gone": ("DELETE FROM events WHERE seq = 3", {EVENT_SEQ, once("1m")}),
    "an order flow event gone": (
        "DELETE FROM events WHERE seq = (SELECT max(seq) - 1 FROM events WHERE event = 'ORDER_FLOW')",
        {EVENT_SEQ, FLOW_CAME},
    ),
    "an event twice": ("INSERT INTO events FROM events WHERE seq = 3", {EVENT_SEQ, once("1m")}),
    "a bar announced twice": (
        f"INSERT INTO events SELECT {NEXT}, * EXCLUDE seq FROM events WHERE seq = 3",
        {once("1m")},
    ),
    "a bar announced that is not stored": (
        """
        INSERT INTO events SELECT max(seq) + 1, max(timestamp), 'CANDLE_CLOSED',
            '{"timeframe": "5m", "timestamp": "2020-01-01T00:00:00Z"}' FROM events
        """,
        {once("5m")},
    ),
    "an announcement with another number": (
        "UPDATE events SET data = replace(data::VARCHAR, '\"open\":', '\"open\":1') WHERE seq = 3",
        {said("1m")},
    ),
    "an order flow announcement with another number": (
        """
        UPDATE events SET data = replace(data::VARCHAR, '"cvd":', '"cvd":1')
        WHERE seq = (SELECT max(seq) FROM events WHERE event = 'ORDER_FLOW')
        """,
        {FLOW_SAID},
    ),
    "a bar gone": (
        f"DELETE FROM candles_1m WHERE timestamp = {FOURTH}",
        {bars("1m"), merged("5m"), merged("15m"), once("1m")},
    ),
    "a flat bar gone": (f"DELETE FROM candles_1m WHERE timestamp = {FLAT}", {bars("1m"), once("1m")}),
    "a 15m bar gone": (
        f"DELETE FROM candles_15m WHERE timestamp = {FIRST_15M}",
        {bars("15m"), merged("15m"), once("15m")},
    ),
    "a bar twice": (
        "INSERT INTO candles_5m FROM candles_5m LIMIT 1",
        {bars("5m"), merged("5m"), said("5m")},
    ),
    "a bar before the first trade": (
        """
        INSERT INTO candles_1m
        SELECT timestamp - INTERVAL 1 DAY, * EXCLUDE timestamp FROM candles_1m LIMIT 1
        """,
        {bars("1m"), merged("5m"), merged("15m")},
    ),
    "a bar not complete": (
        f"UPDATE candles_1m SET is_complete = false WHERE timestamp = {FOURTH}",
        {bars("1m"), said("1m"), once("1m")},
    ),
    "a revision never announced": (
        f"UPDATE candles_1m SET revision = 1 WHERE timestamp = {FOURTH}",
        {said("1m")},
    ),
    "a session that ran over midnight": (
        f"UPDATE order_flow SET cvd = cvd + 1 WHERE epoch_ns(timestamp) >= {MIDNIGHT}",
        {FLOW, FLOW_SAID},
    ),
    "a minute of order flow gone": ("DELETE FROM order_flow WHERE trade_count = 0", {FLOW, FLOW_SAID}),
    "the newest minutes of order flow gone": ("DELETE FROM order_flow", {FLOW, FLOW_SAID}),
} | {
    f"{column} changed by {factor}": (
        f"UPDATE candles_15m SET {column} = {column} * {factor} WHERE timestamp = {FIRST_15M}",
        {bars("15m"), merged("15m"), said("15m")},
    )
    for column in (
        "open",
        "high",
        "low",
        "close",
        "volume",
        "buy_volume",
        "sell_volume",
        "vwap",
        "trade_count",
    )
    for factor in ("2", "(1 + 4e-9)")
    if (column, factor) != ("trade_count", "(1 + 4e-9)")
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_fails_its_claims_and_no_other(made: Made, damage: str) -> None:
    sql, claims = DAMAGE[damage]
    made.hot.connection.execute(sql)
    assert made.failing().keys() == claims


def test_a_fault_names_the_first_difference(made: Made) -> None:
    made.hot.connection.execute("UPDATE candles_5m SET close = 7 WHERE trade_count > 0")
    detail = made.failing()[bars("5m")]
    assert (
        detail == "21 faults in 24 rows; the first at 2025-12-20T23:00:00Z: close is 7.0, ticks give 100.05"
    )


def test_a_restated_bar_is_proven_by_its_latest_event(made: Made) -> None:
    late = make_ticks(1, first_id=1_501, start_ns=MIDNIGHT - 1800 * 10**9)
    late["price"] = 500.0
    before, _ = record(some_ticks(), TIMEFRAMES)
    after, opened = record(np.concatenate([some_ticks(), late]), TIMEFRAMES)
    rows = Rows(ticks=[TickRows(1_486, late)])
    seq = made.hot.last_event_seq()
    for table in sorted(before.inserted.keys() - {"events"}):  # candles first: a hole is left by theirs
        for old, new in zip(before.inserted[table], after.inserted[table], strict=True):
            if old == new:
                continue
            seq += 1
            if isinstance(new, Candle):
                changed: Candle | OrderFlow = new._replace(revision=1)
                timeframe = table.removeprefix("candles_")
                event = announcement(seq, "CANDLE_RESTATED", changed, timeframe=timeframe)
            else:
                changed = OrderFlow(*new)
                event = announcement(seq, "ORDER_FLOW", changed)
            rows.replace(table, changed)
            rows.insert("events", event)
    made.hot.flush(rows, 2)
    assert Made(made.hot, opened).failing() == {}
    made.hot.connection.execute("DELETE FROM events WHERE event = 'CANDLE_RESTATED'")
    assert Made(made.hot, opened).failing().keys() == {EVENT_SEQ, *map(said, ("1m", "5m", "15m"))}
