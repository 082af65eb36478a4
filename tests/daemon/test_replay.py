"""`marketd replay`: recorded files through the whole daemon, against DuckDB's own reading of them."""

# ruff: noqa: S608  the paths in SQL are the test's own

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from storage.embedded_redis import EmbeddedRedis
from tests.daemon.support import Daemon, announced, daemon, key, left
from tests.recordings import HERE

pytestmark = pytest.mark.timeout(300)  # a busy machine starts a daemon in a minute

BTC, HOLES = "BTCUSDT", "HOLESUSDT"
RECORDED = HERE / "binance_spot_btcusdt_20260216.csv.gz"
NOWHERE = {"ws_url": "ws://127.0.0.1:1", "rest_url": "http://127.0.0.1:1"}  # a replay asks nobody
RESAMPLED = """
    WITH trades AS (
        SELECT *, make_timestamp_ns(ts_event_ns // 5_000_000_000 * 5_000_000_000) AS timestamp
        FROM read_csv('{file}')
    )
    SELECT timestamp::VARCHAR AS timestamp, arg_min(price, trade_id) AS open, max(price) AS high,
        min(price) AS low, arg_max(price, trade_id) AS close, round(sum(size), 6) AS volume,
        coalesce(round(sum(size) FILTER (side = 'buy'), 6), 0) AS buy_volume, count(*) AS trade_count
    FROM trades GROUP BY ALL ORDER BY ALL
"""
CANDLES = """
    SELECT timestamp::VARCHAR AS timestamp, open, high, low, close, round(volume, 6) AS volume,
        round(buy_volume, 6) AS buy_volume, trade_count
    FROM candles_5s WHERE trade_count > 0 ORDER BY ALL
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """The user's own Redis."""
    made = EmbeddedRedis(tmp_path / "redis")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def made(tmp_path: Path, server: EmbeddedRedis) -> Iterator[Daemon]:
    with daemon(tmp_path / "one", NOWHERE, BTC, redis=server.url) as it:
        yield it


def rows(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as con:
        return con.execute(sql).fetchall()


async def test_candles_are_those_of_the_file(made: Daemon, server: EmbeddedRedis) -> None:
    ended = await made.ask("replay", str(RECORDED))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(f"replayed: 10,215 trades of {key(BTC)} in {made.data}/binance/spot/{BTC}\n")
    assert left(made.folder) == []
    candles = [tuple(row.values()) for row in await made.query(BTC, CANDLES)]
    assert candles == rows(RESAMPLED.format(file=RECORDED))
    assert (await made.ask("verify", key(BTC))).returncode == 0
    assert await announced(made, server.url, BTC) > 300


async def test_a_hole_is_said_and_formats_are_alike(made: Daemon, tmp_path: Path) -> None:
    """Parquet, ids as text, sides in capitals, a column nobody knows; then CSV, at twice the pace."""
    one, two = tmp_path / "one.parquet", tmp_path / "two.csv"
    texts = "trade_id::VARCHAR AS trade_id, price, size, upper(side) AS side, ts_event_ns, 'x' AS mystery"
    plain = "trade_id, price, size, side, ts_event_ns"
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE trades AS FROM read_csv('{RECORDED}') ORDER BY trade_id")
        con.execute(f"COPY (SELECT {texts} FROM trades LIMIT 500) TO '{one}'")
        con.execute(f"COPY (SELECT {plain} FROM trades LIMIT 200 OFFSET 507) TO '{two}'")
    ((first, last),) = rows(f"SELECT min(ts_event_ns), max(ts_event_ns) FROM '{two}'")
    whole = await made.ask("replay", str(one), "--pair", key(HOLES))
    assert whole.returncode == 0, whole.stderr
    began_s = time.monotonic()
    slow = await made.ask("replay", str(two), "--pair", key(HOLES), "--speed", "2")
    assert slow.returncode == 0, slow.stderr
    assert time.monotonic() - began_s > (last - first) / 2e9
    (gap,) = await made.query(HOLES, "FROM data_gaps")
    assert (gap["status"], gap["rows_filled"]) == ("UNFILLABLE", 0)
    assert gap["last_missing_id"] - gap["first_missing_id"] == 6
    files = f"SELECT trade_id::BIGINT AS id FROM '{one}' UNION ALL SELECT trade_id FROM '{two}' ORDER BY id"
    stored = await made.query(HOLES, "SELECT trade_id::BIGINT AS id FROM ticks ORDER BY seq")
    assert [tuple(row.values()) for row in stored] == rows(files)
    proof = await made.ask("verify", key(HOLES))
    assert proof.returncode == 0, proof.stdout


async def test_a_file_that_is_none_is_refused_in_one_line(made: Daemon, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    ended = await made.ask("replay", str(wrong))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1].startswith(f"marketd: {wrong}: ")
    assert "Traceback" not in ended.stderr
    assert left(made.folder) == []
