from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest
from structlog.testing import capture_logs

from market.errors import Fatal, Retryable
from market.rows import Candle
from market.ticks import Ticks
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_frames import TradeRows
from storage.questdb_lines import Lines
from storage.questdb_url import parse
from tests import recordings
from tests.storage.questdb_support import DAY_NS, EIGHTH, MINUTE_NS, ask, ask_ddl, flat, settled, ticks
from tests.support import eventually

BARS = """
    SELECT epoch_ns(time_bucket(INTERVAL 1 minute, make_timestamp_ns(ts_ns))) AS ts_ns,
        arg_min(price, trade_id) AS open, max(price) AS high, min(price) AS low,
        arg_max(price, trade_id) AS close, sum(size) AS volume,
        sum(size) FILTER (side > 0) AS buy_volume, sum(size) FILTER (side < 0) AS sell_volume,
        sum(price * size) / sum(size) AS vwap, count(*) AS trade_count
    FROM ticks GROUP BY 1 ORDER BY 1"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedQuestDB]:
    server = EmbeddedQuestDB(tmp_path_factory.mktemp("questdb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(server: EmbeddedQuestDB) -> Iterator[QuestDB]:
    store = QuestDB(server.url)
    store.prepare()
    yield store
    store.close()


@pytest.fixture(scope="module")
def recorded() -> Ticks:
    return recordings.trades(recordings.HERE / "binance_spot_btcusdt_20240808-09.csv.gz")


def bars_of(ticks: Ticks) -> list[Candle]:
    """Cut bars by DuckDB."""
    columns = {name: np.ascontiguousarray(ticks[name]) for name in ticks.dtype.names or ()}
    with duckdb.connect() as con:
        con.register("ticks", columns)
        return [Candle(*(*row, True, 0)) for row in con.execute(BARS).fetchall()]


async def test_tables_are_as_promised_and_kept_when_they_are_there(
    server: EmbeddedQuestDB, store: QuestDB
) -> None:
    store.prepare()
    ohlcv = [
        ("symbol", "SYMBOL", True),
        *((name, "DOUBLE", False) for name in ("open", "high", "low", "close")),
    ]
    ohlcv += [("volume", "DOUBLE", False), ("vwap", "DOUBLE", False), ("trade_count", "LONG", False)]
    ohlcv += [("timestamp", "TIMESTAMP", True)]
    trades = [("symbol", "SYMBOL", True), ("price", "DOUBLE", False), ("size", "DOUBLE", False)]
    trades += [("timestamp", "TIMESTAMP", True), ("exchange", "SYMBOL", False), ("side", "SYMBOL", False)]
    trades += [("seq", "LONG", True), ("trade_id", "VARCHAR", False)]
    for table, columns in (("trades", trades), ("ohlcv_1m", ohlcv), ("ohlcv_1d", ohlcv)):
        found = ask(server, f"SELECT \"column\", type, upsertKey FROM table_columns('{table}')")  # noqa: S608
        assert [tuple(row) for row in found] == columns
    sizes = "SELECT symbolCapacity, symbolCached FROM table_columns('trades') WHERE type = 'SYMBOL'"
    assert ask(server, sizes) == [[256, True], [32, False], [2, False]]
    shape = "SELECT table_name, partitionBy, walEnabled, dedup, ttlValue FROM tables() ORDER BY 1"
    assert ask(server, shape) == [
        ["dead_letters", "YEAR", True, True, 0],
        ["ohlcv_1d", "YEAR", True, True, 0],
        ["ohlcv_1h", "MONTH", True, False, 0],
        ["ohlcv_1m", "DAY", True, True, 0],
        ["schema_migrations", "YEAR", False, False, 0],
        ["trades", "DAY", True, True, 0],
    ]
    views = "SELECT view_name, base_table_name, view_status FROM materialized_views()"
    await eventually(lambda: ask(server, views) == [["ohlcv_1h", "ohlcv_1m", "valid"]])  # not "refreshing"


async def test_recorded_trades_are_stored_exactly_and_once(
    server: EmbeddedQuestDB, store: QuestDB, recorded: Ticks
) -> None:
    half = len(recorded) // 2
    parts = [(0, half), (half - 700, len(recorded)), (0, len(recorded))]  # the same rows up to three times
    for first, last in parts:
        written = store.write_trades([TradeRows("btc", "binance", first + 1, recorded[first:last])])
        assert written == (last - first, 0)
    await settled(server)
    sql = "SELECT seq, trade_id, cast(timestamp AS LONG), price, size, side, exchange FROM trades"
    ids, times_us = map(str, recorded["trade_id"]), recorded["ts_ns"] // 1_000
    numbers = (recorded[name].tolist() for name in ("price", "size"))
    sides = ["B" if side > 0 else "S" for side in recorded["side"]]
    expected = zip(range(1, len(recorded) + 1), ids, times_us.tolist(), *numbers, sides, strict=True)
    found = ask(server, f"{sql} WHERE symbol = 'btc' ORDER BY seq")
    assert found == [[*row, "binance"] for row in expected]


async def test_one_request_carries_many_pairs_and_any_name(server: EmbeddedQuestDB, store: QuestDB) -> None:
    names = ["kraken:spot:XBT", 'O\'Neil, = \\ "é"', "kraken:spot:XBT"]
    batch = [TradeRows(name, "kraken", 10 * i, ticks((i, i), (i + 1, i))) for i, name in enumerate(names)]
    assert store.write_trades([*batch, TradeRows("none", "kraken", 1, ticks())]) == (6, 0)
    await settled(server)
    sql = "SELECT symbol, seq FROM trades WHERE exchange = 'kraken' ORDER BY seq"
    assert ask(server, sql) == [[names[i], 10 * i + j] for i in range(3) for j in range(2)]


async def test_ids_are_stored_as_the_venue_writes_them(server: EmbeddedQuestDB, store: QuestDB) -> None:
    names = ("6f2b-uuid", "007", 'é "quoted", \\n', "x" * 128)
    texts = ticks(*((n, EIGHTH + n) for n in range(1, 5)))
    batch = [
        TradeRows("texts", "bybit", 1, texts, names),
        TradeRows("texts", "bybit", 5, ticks((2290000000068683805, EIGHTH + 5))),
    ]
    assert store.write_trades(batch) == (5, 0)
    await settled(server)
    sql = "SELECT seq, trade_id FROM trades WHERE symbol = 'texts' ORDER BY seq"
    assert ask(server, sql) == [[n, name] for n, name in enumerate((*names, "2290000000068683805"), 1)]


async def test_ties_within_a_microsecond_stay_apart(server: EmbeddedQuestDB, store: QuestDB) -> None:
    store.write_trades(
        [TradeRows("tie", "binance", 5, ticks((1, EIGHTH), (2, EIGHTH + 1), (3, EIGHTH + 999)))]
    )
    await settled(server)
    sql = "SELECT seq, cast(timestamp AS LONG) FROM trades WHERE symbol = 'tie' ORDER BY seq"
    assert ask(server, sql) == [[seq, EIGHTH // 1_000] for seq in (5, 6, 7)]


async def test_an_unknown_side_is_null(server: EmbeddedQuestDB, store: QuestDB) -> None:
    store.write_trades([TradeRows("sideless", "binance", 1, ticks((1, EIGHTH), side=0))])
    await settled(server)
    assert ask(server, "SELECT side FROM trades WHERE symbol = 'sideless'") == [[None]]


async def test_rows_for_a_table_that_was_made_again_are_good(server: EmbeddedQuestDB, store: QuestDB) -> None:
    def write(seq: int) -> tuple[int, int]:
        rows = ticks((seq, EIGHTH), (seq + 1, EIGHTH + 1_000))
        return store.write_trades([TradeRows("again", "b", seq, rows)])

    types = "SELECT type FROM table_columns('trades') WHERE \"column\" = 'price'"
    assert write(1) == (2, 0)
    ask_ddl(server, "ALTER TABLE trades ALTER COLUMN price TYPE BOOLEAN")
    await eventually(lambda: ask(server, types) == [["BOOLEAN"]])
    write(3)  # the server's memory of the table, on this connection, lasts for one more request
    with pytest.raises(Fatal, match="price is BOOLEAN"):
        write(3)
    ask_ddl(server, "DROP TABLE trades")
    store.prepare()
    assert write(5) == (2, 0)
    await eventually(lambda: ask(server, "SELECT seq FROM trades WHERE symbol = 'again'") == [[5], [6]])
    assert ask(server, "SELECT count() FROM dead_letters WHERE symbol = 'again'") == [[0]]


async def test_a_row_that_cannot_be_stored_is_a_dead_letter_and_the_rest_goes_on(
    server: EmbeddedQuestDB, store: QuestDB
) -> None:
    bad = ticks((1, EIGHTH), (2, -5_000), (3, EIGHTH), (4, np.iinfo(np.int64).min))
    for _ in range(2):  # a replay buries nobody twice
        with capture_logs() as logs:
            assert store.write_trades([TradeRows("bad", "binance", 1, bad)]) == (2, 2)
        assert [(entry["event"], entry["rows"]) for entry in logs] == [("questdb_rows_rejected", 2)]
    assert store.write_candles([("bad", [flat(-MINUTE_NS, 1.0), flat(EIGHTH, 2.0)])]) == (1, 1)
    await settled(server)
    assert ask(server, "SELECT seq FROM trades WHERE symbol = 'bad' ORDER BY seq") == [[1], [3]]
    letters = ask(server, "SELECT table_name, reason, row FROM dead_letters WHERE symbol = 'bad'")
    assert sorted(json.loads(row).get("trade_id", "none") for _, _, row in letters) == ["2", "4", "none"]
    assert {table for table, _, _ in letters} == {"trades", "ohlcv_1m"}
    assert {reason for _, reason, _ in letters} == {"its time is before 1970"}


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (["a", "b"], []),
        (["aa"], [0]),
        (["aa", "bb"], [0, 1]),
        (["a", "bb", "c", "d", "e", "f", "g", "h", "ii", "j", "kk"], [1, 8, 10]),
    ],
)
async def test_the_server_s_own_refusals_are_found_row_by_row(
    server: EmbeddedQuestDB, values: list[str], refused: list[int]
) -> None:
    import pandas as pd  # noqa: PLC0415

    ask_ddl(server, "DROP TABLE IF EXISTS letters")
    ask_ddl(
        server, "CREATE TABLE letters (c CHAR, timestamp TIMESTAMP) TIMESTAMP(timestamp) PARTITION BY DAY WAL"
    )
    frame = pd.DataFrame({"c": values, "timestamp": np.arange(len(values)).view("M8[us]")})
    lines, asked = Lines(parse(server.url), 5.0), []
    found = lines.send("letters", frame, lambda: asked.append(1))
    lines.close()
    assert [refusal.row for refusal in found] == refused
    assert all(
        reason.endswith("cast error from protocol type: STRING to column type: CHAR") for _, reason in found
    )
    assert len(asked) == bool(refused)
    await settled(server)
    taken = [value for row, value in enumerate(values) if row not in refused]
    assert ask(server, "SELECT c FROM letters ORDER BY timestamp") == [[value] for value in taken]
    ask_ddl(server, "DROP TABLE letters")


async def test_bars_replace_and_only_complete_ones_count(server: EmbeddedQuestDB, store: QuestDB) -> None:
    first, second = flat(EIGHTH, 10.0), flat(EIGHTH + MINUTE_NS, 11.0)
    open_bar = flat(EIGHTH + 2 * MINUTE_NS, 12.0)._replace(is_complete=False)
    assert store.write_candles([("bar", [first, second, open_bar])]) == (2, 0)
    restated = second._replace(high=12.5, volume=3.0, trade_count=2, revision=1)
    assert store.write_candles([("bar", [second, restated]), ("other", [first])]) == (2, 0)
    await settled(server)
    columns = "cast(timestamp AS LONG) * 1000, open, high, low, close, volume, vwap, trade_count"
    assert ask(server, f"SELECT {columns} FROM ohlcv_1m WHERE symbol = 'bar' ORDER BY 1") == [  # noqa: S608
        [bar.ts_ns, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trade_count]
        for bar in (first, restated)
    ]


async def test_a_day_equals_its_trades_whatever_flat_bars_and_batches(
    server: EmbeddedQuestDB, store: QuestDB, recorded: Ticks
) -> None:
    eighth = recorded[recorded["ts_ns"] < EIGHTH + DAY_NS]
    bars = bars_of(recorded)
    stale = [flat(EIGHTH + minute * MINUTE_NS, price) for minute, price in ((0, 1.0), (1, 9e9))]
    assert bars[5].ts_ns == EIGHTH + DAY_NS - MINUTE_NS
    store.write_candles([("day", [*stale, *bars[:4]])])
    await settled(server)
    assert ask(server, "SELECT * FROM ohlcv_1d WHERE symbol = 'day'") == []  # its last minute is not there
    store.write_candles([("day", bars[4:])])
    store.write_candles([("day", bars[:4])])  # a replay
    await settled(server)
    (day,) = ask(server, "SELECT * FROM ohlcv_1d WHERE symbol = 'day'")  # the 9th is not over
    price, size = eighth["price"], eighth["size"]
    assert day[:5] == ["day", price[0], price.max(), price.min(), price[-1]]
    assert day[5:7] == pytest.approx([size.sum(), (price * size).sum() / size.sum()], rel=1e-9)
    assert day[7:] == [len(eighth), "2024-08-08T00:00:00.000000Z"]


async def test_a_bar_restated_after_its_day_restates_the_day(server: EmbeddedQuestDB, store: QuestDB) -> None:
    last = EIGHTH + DAY_NS - MINUTE_NS
    store.write_candles(
        [("late", [flat(last, 7.0)]), ("flat", [flat(last - MINUTE_NS, 3.0), flat(last, 3.0)])]
    )
    traded = Candle(EIGHTH, 5.0, 6.0, 4.0, 5.5, 2.0, 1.0, 1.0, 5.25, 3, True, 1)
    store.write_candles([("late", [traded])])
    store.write_candles([("late", [flat(EIGHTH + DAY_NS, 7.0)])])
    await settled(server)
    sql = "SELECT open, high, low, close, volume, vwap, trade_count FROM ohlcv_1d"
    assert ask(server, f"{sql} WHERE symbol = 'late'") == [[5.0, 6.0, 4.0, 5.5, 2.0, 5.25, 3]]
    assert ask(server, f"{sql} WHERE symbol = 'flat'") == [[3.0, 3.0, 3.0, 3.0, 0.0, 3.0, 0]]


async def test_the_hourly_view_follows(server: EmbeddedQuestDB, store: QuestDB, recorded: Ticks) -> None:
    bars = bars_of(recorded)
    store.write_candles([("hour", bars)])
    sql = "SELECT open, high, low, close, volume FROM ohlcv_1h WHERE symbol = 'hour' ORDER BY timestamp"
    await eventually(lambda: len(ask(server, sql)) == 2)
    for hour, some in zip(ask(server, sql), (bars[:6], bars[6:]), strict=True):
        assert hour[0] == some[0].open
        assert hour[1:3] == [max(bar.high for bar in some), min(bar.low for bar in some)]
        assert hour[3:] == [some[-1].close, pytest.approx(sum(bar.volume for bar in some))]


async def test_many_symbols_and_days_at_once(server: EmbeddedQuestDB, store: QuestDB) -> None:
    batch = [
        (f"many-{i}", [flat((day + 1) * DAY_NS - MINUTE_NS, float(i + day)) for day in range(3)])
        for i in range(250)
    ]
    assert store.write_candles(batch) == (750, 0)
    await settled(server)
    sql = "SELECT symbol, sum(close), count() FROM ohlcv_1d WHERE symbol LIKE 'many-%' ORDER BY symbol"
    assert ask(server, sql) == sorted([f"many-{i}", 3.0 * i + 3, 3] for i in range(250))


async def test_a_table_that_is_gone_is_made_again(server: EmbeddedQuestDB, store: QuestDB) -> None:
    ask_ddl(server, "DROP TABLE trades")
    with pytest.raises((Fatal, Retryable), match="trades"):
        store.write_trades([TradeRows("gone", "binance", 1, ticks((1, EIGHTH)))])
    store.prepare()
    for _ in range(2):
        store.write_trades([TradeRows("gone", "binance", 1, ticks((1, EIGHTH)))])
    await settled(server)
    assert store.health().rows["trades"] == 1


async def test_killed_in_mid_stream_nothing_acknowledged_is_lost_and_a_replay_completes(
    server: EmbeddedQuestDB, store: QuestDB, recorded: Ticks
) -> None:
    acknowledged = 0
    batch = 200

    def write(first: int) -> None:
        store.write_trades([TradeRows("killed", "binance", first + 1, recorded[:batch])])

    def stream() -> None:
        nonlocal acknowledged
        while True:
            write(acknowledged)
            acknowledged += batch

    streaming = asyncio.create_task(asyncio.to_thread(stream))
    await eventually(lambda: acknowledged >= 10 * batch)
    os.kill(server.pid or 0, signal.SIGKILL)
    with pytest.raises(Retryable):
        await streaming
    with pytest.raises(Retryable):
        store.ping()
    await eventually(lambda: not server.alive())  # its sockets go before it does
    server.start()
    await settled(server)
    sql = "SELECT count(), count_distinct(seq), min(seq), max(seq) FROM trades WHERE symbol = 'killed'"
    ((count, distinct, first, last),) = ask(server, sql)
    assert (distinct, first) == (count, 1)
    assert acknowledged <= count == last <= acknowledged + batch
    store.prepare()
    for at in range(acknowledged - 2 * batch, acknowledged + 2 * batch, batch):
        write(at)  # as a cursor that moved less often than rows were acknowledged
    await settled(server)
    whole = acknowledged + 2 * batch
    assert ask(server, sql) == [[whole, whole, 1, whole]]


async def test_health_counts_rows_and_lag(server: EmbeddedQuestDB, store: QuestDB) -> None:
    await settled(server)
    health = store.health()
    assert health.rows == {
        table: ask(server, f"SELECT count() FROM {table}")[0][0]  # noqa: S608
        for table in ("trades", "ohlcv_1m", "ohlcv_1d", "dead_letters", "ohlcv_1h")
    }
    assert health.lag == dict.fromkeys(health.rows, 0)
    assert (health.suspended, health.view) == ((), "valid")


def test_a_stopped_server_is_retryable_and_goes_on_later(server: EmbeddedQuestDB, store: QuestDB) -> None:
    hasty = QuestDB(server.url, timeout_s=0.3)
    os.kill(server.pid or 0, signal.SIGSTOP)
    try:
        with pytest.raises(Retryable):
            hasty.write_trades([TradeRows("stopped", "binance", 1, ticks((1, EIGHTH)))])
    finally:
        os.kill(server.pid or 0, signal.SIGCONT)
    hasty.close()
    store.ping()
    assert store.write_trades([TradeRows("stopped", "binance", 1, ticks((1, EIGHTH)))]) == (1, 0)
