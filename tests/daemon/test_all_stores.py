"""The whole daemon with every store: the same rows in each, whatever is killed in mid-stream."""

# ruff: noqa: S608 - names of this test only

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from market.errors import Retryable
from storage.questdb_sql import Sql
from storage.questdb_url import parse
from tests.daemon.support import Daemon, Exchange, called, complete, daemon, exchange, key
from tests.support import eventually

pytestmark = [pytest.mark.timeout(600), pytest.mark.embeddings]

BTC, ETH = SYMBOLS = ("BTCUSDT", "ETHUSDT")
ALL_STORES = """
[embeddings]
timeframe = "5s"
[retention]
sweep_s = 3
ticks_s = 10
quotes_s = 10
order_flow_s = 70
events_s = 10
candles_1m_s = 10
candles_s = 10
"""
SETTLE_S = 120.0


def sql(made: Daemon) -> Sql:
    return Sql(parse((made.data / "run/questdb.url").read_text()), 10.0)


def in_questdb(made: Daemon, select: str) -> list[list[Any]]:
    """Read rows of QuestDB; none as long as a killed server has not come back."""
    try:
        return [list(row) for row in sql(made).rows(select)]
    except Retryable:
        return []


async def settled(made: Daemon) -> None:
    """Wait until no store is behind by more than what has just come."""

    async def up() -> object:
        pairs = await made.pairs()
        return pairs and all(
            sink["connected"] and sink["acked"] and sink["lag_s"] < 5
            for one in pairs.values()
            for sink in one.get("sinks", {"": {"connected": False}}).values()
        )

    await eventually(up, SETTLE_S)


async def supervisors(made: Daemon) -> dict[str, Any]:
    return dict((await made.status()).get("supervisors", {}))


async def has_come_back(made: Daemon, name: str, pid: int) -> None:
    async def back() -> object:
        one = (await supervisors(made)).get(name, {})
        return one.get("pid") not in {None, pid}

    await eventually(back, SETTLE_S)


def java(made: Daemon) -> list[psutil.Process]:
    return called(made.pid, "java")


async def assert_questdb(made: Daemon, symbol: str) -> None:
    """Compare with the pair's record: every trade up to now, every complete minute up to now."""
    ticks = await made.query(
        symbol, "SELECT seq, trade_id, price, volume, side[1] AS s FROM ticks ORDER BY seq"
    )
    mine = [list(row.values()) for row in ticks]
    trades = (
        f"SELECT seq, trade_id, price, size, side FROM trades WHERE symbol = '{key(symbol)}' "
        f"AND seq <= {len(mine)} ORDER BY seq"
    )
    await eventually(lambda: in_questdb(made, trades) == mine, SETTLE_S)
    select = "SELECT open, high, low, close, volume, vwap, trade_count FROM"
    bars = await made.query(symbol, f"{select} candles_1m WHERE is_complete ORDER BY timestamp")
    wanted = [list(row.values()) for row in bars]
    ohlcv = f"{select} ohlcv_1m WHERE symbol = '{key(symbol)}' ORDER BY timestamp"
    await eventually(lambda: in_questdb(made, ohlcv)[: len(wanted)] == wanted, SETTLE_S)
    assert wanted


async def assert_lancedb(made: Daemon, symbol: str) -> None:
    import lancedb  # noqa: PLC0415 - it is not in every installation

    bars = await made.query(
        symbol, "SELECT epoch_us(timestamp) AS t FROM candles_5s WHERE is_complete ORDER BY t"
    )
    wanted = [row["t"] for row in bars]

    def stored() -> list[int]:
        table = lancedb.connect(str(made.data / "lancedb")).open_table("market_state_embeddings").to_arrow()
        rows = zip(table["symbol"].to_pylist(), table["timestamp"].cast("int64").to_pylist(), strict=True)
        return sorted(us for name, us in rows if name == key(symbol))

    await eventually(lambda: stored()[: len(wanted)] == wanted, SETTLE_S)
    assert wanted


def archived(made: Daemon, table: str, symbol: str, column: str) -> list[int]:
    """Read the archive's files as anybody would."""
    files = f"{made.data}/archive/{table}/source=binance.spot/date=*/{symbol}-*.parquet"
    with duckdb.connect() as con:
        rows = con.execute(
            f"SELECT DISTINCT {column} AS n FROM read_parquet('{files}') ORDER BY n"
        ).fetchall()
    return [number for (number,) in rows]


async def test_every_store_has_the_same_rows(tmp_path: Path) -> None:
    with (
        exchange(*SYMBOLS, rate=60.0) as venue,
        daemon(tmp_path, venue.urls, *SYMBOLS, more=ALL_STORES) as made,
    ):
        made.start()
        await made.streaming(timeout_s=120)
        await settled(made)
        for name in ("questdb", "embeddings", "retention", "health", "signal"):
            pid = (await supervisors(made))[name]["pid"]
            os.kill(pid, signal.SIGKILL)
            await has_come_back(made, name, pid)
        (server,) = java(made)
        server.kill()
        await eventually(lambda: java(made) not in ([], [server]), SETTLE_S)
        os.kill((await made.pairs())[BTC]["pid"], signal.SIGKILL)
        await made.streaming(timeout_s=120)
        await _minute_closed(made)
        await settled(made)
        for symbol in SYMBOLS:
            await assert_questdb(made, symbol)
            await assert_lancedb(made, symbol)
            await _assert_archive(made, symbol)
            await complete(made, venue, symbol)
        assert (await supervisors(made))["retention"]["troubles"] == {}
        await _loaded_again(made)
        await _stopped_well(made, venue)


async def _minute_closed(made: Daemon) -> None:
    async def closed() -> object:
        counts = [
            (await made.query(symbol, "SELECT count(*) AS n FROM candles_1m WHERE is_complete"))[0]["n"]
            for symbol in SYMBOLS
        ]
        return all(counts)

    await eventually(closed, SETTLE_S)


async def _assert_archive(made: Daemon, symbol: str) -> None:
    """See that swept ticks are in files, without a hole, and no longer in the pair's own file."""
    await eventually(lambda: len(archived(made, "ticks", symbol, "seq")) > 100, SETTLE_S)
    numbers = archived(made, "ticks", symbol, "seq")
    assert numbers == list(range(1, len(numbers) + 1))


async def _loaded_again(made: Daemon) -> None:
    """Lose what the stores have, and load it from hot rows and archive."""
    for table in ("trades", "ohlcv_1m"):
        sql(made).rows(f"TRUNCATE TABLE {table}")
    shutil.rmtree(made.data / "lancedb")
    for store in ("questdb", "lancedb"):
        told = await made.ask("resync", store)
        assert told.returncode == 0, told.stderr
        streams = 2 if store == "questdb" else 1
        assert told.stdout.splitlines() == [f"{key(s)}: {streams} streams begin again" for s in SYMBOLS]
    for symbol in SYMBOLS:
        await assert_questdb(made, symbol)
        await assert_lancedb(made, symbol)


async def _stopped_well(made: Daemon, venue: Exchange) -> None:
    await made.stop(signal.SIGTERM)
    for symbol in SYMBOLS:
        await complete(made, venue, symbol)
        with duckdb.connect(str(made.data / f"binance/spot/{symbol}/trading.duckdb"), read_only=True) as con:
            ((first,),) = con.execute("SELECT min(seq) FROM ticks").fetchall()
        assert first == len(archived(made, "ticks", symbol, "seq")) + 1
