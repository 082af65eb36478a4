from __future__ import annotations

import csv
import io
import json
import math
import random
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market.errors import MarketdError, UsageError
from market.rows import OrderFlow, Rows, TickRows
from market.times import rfc3339
from storage.hot import HotFile
from storage.reads import FORMATS, TABLE_ROWS, begin, export
from tests.storage.hot_rows import MINUTE, T0, candle, make_ticks, open_hot, some_of_each


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotFile]:
    file = open_hot(tmp_path / "pair/trading.duckdb")
    file.flush(some_of_each(1, 30), 1)
    yield file
    file.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "it's out"


def ask(hot: HotFile, out: Path, sql: str, open_rows: Any = None) -> Any:
    export(begin(hot.connection), open_rows or {}, sql, "json", out)
    return json.loads(out.read_bytes())


def test_json_is_exact_and_speaks_rfc3339(hot: HotFile, out: Path) -> None:
    assert ask(
        hot,
        out,
        """
        SELECT 1e-8 AS small, 0.1::DOUBLE + 0.2::DOUBLE AS sum, 1e12::DOUBLE AS large,
            'nan'::DOUBLE AS nothing, '-inf'::FLOAT AS below, NULL AS "null", '' AS empty,
            9007199254740993 AS big, true AS yes,
            make_timestamp_ns(1766318460123456789) AS ns, make_timestamp_ns(1766318460500000000) AS ms,
            make_timestamp_ns(1766318460000000000) AS s, NULL::TIMESTAMP_NS AS never,
            TIMESTAMP '2025-12-21 12:01:00.1234' AS us, TIMESTAMPTZ '2025-12-21 14:01:00.5+02' AS zoned,
            make_timestamp_ns(-1) AS before, '{"a": [1e-8, null]}'::JSON AS data, 'BUY'::ENUM('BUY') AS side
        """,
    ) == [
        {
            "small": 1e-8,
            "sum": 0.1 + 0.2,
            "large": 1e12,
            "nothing": None,
            "below": None,
            "null": None,
            "empty": "",
            "big": 9007199254740993,
            "yes": True,
            "ns": "2025-12-21T12:01:00.123456789Z",
            "ms": "2025-12-21T12:01:00.500Z",
            "s": "2025-12-21T12:01:00Z",
            "never": None,
            "us": "2025-12-21T12:01:00.123400Z",
            "zoned": "2025-12-21T12:01:00.500Z",
            "before": "1969-12-31T23:59:59.999999999Z",
            "data": {"a": [1e-8, None]},
            "side": "BUY",
        },
    ]


def odd_doubles(count: int) -> list[float]:
    rng = random.Random(7)
    found = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(count)]
    return [x for x in found if math.isfinite(x)] + [
        rng.random() * 10 ** rng.randint(-9, 13) for _ in range(count)
    ]


@pytest.mark.parametrize("fmt", ["csv", "json", "parquet"])
def test_doubles_round_trip_bit_for_bit(hot: HotFile, out: Path, fmt: str) -> None:
    numbers = odd_doubles(4_000)
    flows = [OrderFlow(T0 + i, x, -x, 0.0, 1.0, None, 1) for i, x in enumerate(numbers)]
    hot.connection.execute("DELETE FROM order_flow")
    hot.flush(Rows(inserted={"order_flow": list(flows)}), 2)
    export(
        begin(hot.connection),
        {},
        "SELECT buy_volume, sell_volume FROM order_flow ORDER BY timestamp",
        fmt,
        out,
    )
    if fmt == "csv":
        found = [(float(a), float(b)) for a, b in list(csv.reader(out.read_text().splitlines()))[1:]]
    elif fmt == "json":
        found = [(row["buy_volume"], row["sell_volume"]) for row in json.loads(out.read_bytes())]
    else:
        found = duckdb.read_parquet(str(out)).fetchall()
    assert found == [(x, -x) for x in numbers]


def test_times_are_spelt_as_messages_spell_them(hot: HotFile, out: Path) -> None:
    rng = random.Random(3)
    times = [rng.randrange(4 * 10**18) // 10**drop * 10**drop for drop in range(10) for _ in range(30)]
    hot.connection.execute("DELETE FROM order_flow")
    hot.flush(Rows(inserted={"order_flow": [OrderFlow(t, 0.0, 0.0, 0.0, 0.0, None, 0) for t in times]}), 2)
    found = ask(hot, out, "SELECT timestamp FROM order_flow")
    assert [row["timestamp"] for row in found] == [rfc3339(t) for t in times]


def test_csv_has_a_header_and_empty_nulls(hot: HotFile, out: Path) -> None:
    sql = """
        SELECT NULL AS "a b", '' AS empty, 'x,"y"' AS text, 1e-8 AS price, make_timestamp_ns(500000000) AS t
    """
    export(begin(hot.connection), {}, sql, "csv", out)
    assert out.read_text() == 'a b,empty,text,price,t\n,"","x,""y""",1e-08,1970-01-01T00:00:00.500Z\n'
    assert next(csv.DictReader(io.StringIO(out.read_text())))["text"] == 'x,"y"'


def test_parquet_keeps_types(hot: HotFile, out: Path) -> None:
    export(begin(hot.connection), {}, "FROM ticks", "parquet", out)
    found = duckdb.read_parquet(str(out))
    assert found.columns[:3] == ["seq", "timestamp", "price"]
    assert str(found.types[1]) == "TIMESTAMP_NS"
    assert (
        found.fetchall()
        == hot.connection.execute("SELECT * REPLACE (side::VARCHAR AS side) FROM ticks").fetchall()
    )


def test_a_table_is_drawn_and_limited(hot: HotFile, out: Path) -> None:
    export(
        begin(hot.connection),
        {},
        "SELECT 7 AS n, 'a\nb' AS text, NULL AS nothing, make_timestamp_ns(0) AS t",
        "table",
        out,
    )
    assert out.read_text().splitlines() == [
        "┌───┬──────┬─────────┬──────────────────────┐",
        "│ n │ text │ nothing │ t                    │",
        "├───┼──────┼─────────┼──────────────────────┤",
        "│ 7 │ a\\nb │ NULL    │ 1970-01-01T00:00:00Z │",
        "└───┴──────┴─────────┴──────────────────────┘",
        "1 row",
    ]
    export(begin(hot.connection), {}, f"FROM range({TABLE_ROWS + 1})", "table", out)
    lines = out.read_text().splitlines()
    assert len(lines) == TABLE_ROWS + 5
    assert "1,000 rows" in lines[-1]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM candles_1m",
        "select 1;",
        "FROM ticks -- all ; of them",
        "WITH a AS (FROM ticks) SELECT count(*) FROM a ; -- done;",
        "DESCRIBE ticks",
        "SHOW TABLES",
        "SUMMARIZE candles_1m",
        "VALUES (1), (NULL)",
        "EXPLAIN SELECT 1",
        "explain analyze (format json) select 'é;' ;",
        "SELECT 1 AS a, 2 AS a",
        "SELECT * FROM ticks WHERE false",
    ],
)
def test_every_reading_statement_is_answered_in_every_format(
    hot: HotFile, out: Path, fmt: str, sql: str
) -> None:
    export(begin(hot.connection), {}, sql, fmt, out)
    assert out.stat().st_size > 0
    if fmt == "json":
        json.loads(out.read_bytes())


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM ticks", "nope"),
        ("FROM no_such_table", "no_such_table"),
        ("SELECT 'x'::INT", "x"),
        ("INSERT INTO ticks FROM ticks", "only SELECT"),
        ("DELETE FROM ticks", "only SELECT"),
        ("DROP TABLE ticks", "only SELECT"),
        ("CHECKPOINT", "only SELECT"),
        ("PRAGMA version", "only SELECT"),
        ("SET threads = 4", "only SELECT"),
        ("ATTACH 'other.duckdb'", "only SELECT"),
        ("COPY ticks TO 'stolen.csv'", "only SELECT"),
        ("EXPLAIN ANALYZE COPY ticks TO 'stolen.csv'", "only SELECT"),
        ("EXPLAIN ANALYZE DELETE FROM ticks", "only SELECT"),
        ("WITH gone AS (DELETE FROM ticks RETURNING seq) SELECT * FROM gone", "read-only"),
        ("FROM checkpoint()", "checkpoint"),
        ("FROM force_checkpoint ()", "force_checkpoint"),
        ("SELECT 1) TO 'x' (FORMAT csv); --", "syntax error"),
    ],
)
def test_everything_else_is_refused_in_one_line(hot: HotFile, out: Path, sql: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        export(begin(hot.connection), {}, sql, "csv", out)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert hot.connection.execute("SELECT count(*) FROM ticks").fetchall() == [(30,)]


def test_an_unknown_format_is_refused(hot: HotFile, out: Path) -> None:
    with pytest.raises(UsageError, match="table, csv, json, parquet"):
        export(begin(hot.connection), {}, "SELECT 1", "xml", out)


def test_the_open_bar_is_shown_and_not_kept(hot: HotFile, out: Path) -> None:
    bar = candle(T0 + 2 * MINUTE, close=1e-8)._replace(is_complete=False)
    rows = {
        "candles_1m": [bar],
        "order_flow": [OrderFlow(bar.ts_ns, 1.0, 0.0, 1.0, 2.0, None, 1)],
        "candles_5m": [],
    }
    found = ask(hot, out, "SELECT timestamp, close, is_complete FROM candles_1m ORDER BY timestamp", rows)
    assert found == [
        {"timestamp": "2025-12-21T12:01:00Z", "close": 1.5, "is_complete": True},
        {"timestamp": "2025-12-21T12:02:00Z", "close": 1e-8, "is_complete": False},
    ]
    joined = """
        SELECT c.close, f.cvd FROM main.Candles_1M c JOIN order_flow f USING (timestamp) WHERE NOT is_complete
    """
    assert ask(hot, out, joined, rows) == [{"close": 1e-8, "cvd": 2.0}]
    assert ask(hot, out, "SELECT count(*) AS n FROM candles_1m") == [{"n": 1}]
    assert ask(hot, out, "SHOW TABLES", rows) == ask(hot, out, "SHOW TABLES")


def test_a_bar_that_closed_in_the_meantime_is_shown_once(hot: HotFile, out: Path) -> None:
    stale = candle(T0 + MINUTE, close=0.7)._replace(is_complete=False)
    assert ask(hot, out, "SELECT close FROM candles_1m", {"candles_1m": [stale]}) == [{"close": 1.5}]


def test_large_answers_stream_beside_the_writer(tmp_path: Path, out: Path) -> None:
    hot = open_hot(tmp_path / "pair/trading.duckdb")
    for number in range(1, 25):
        hot.flush(Rows(ticks=[TickRows(hot.last_tick_seq() + 1, make_ticks(16_384))]), number)
    faults: list[MarketdError] = []

    def read() -> None:
        try:
            export(begin(hot.connection), {}, "FROM ticks ORDER BY trade_id, price DESC", "csv", out)
        except MarketdError as fault:
            faults.append(fault)

    reader = threading.Thread(target=read)
    reader.start()
    flushes = 0
    while reader.is_alive():
        hot.flush(some_of_each(hot.last_tick_seq() + 1, 3), hot.position + 1)
        flushes += 1
    reader.join()
    with out.open() as file:
        lines = sum(1 for _ in file)
    assert (faults, lines >= 24 * 16_384 + 1, flushes > 0) == ([], True, True)
    hot.close()


def test_now_is_utc(hot: HotFile, out: Path) -> None:
    (row,) = ask(hot, out, "SELECT now() AS t, current_setting('TimeZone') AS zone")
    assert row["zone"] == "UTC"
    assert abs((datetime.fromisoformat(row["t"]) - datetime.now(UTC)).total_seconds()) < 60
