"""A whole pair and QuestDB: what is in the pair's file is in the server, whatever dies in between."""

# ruff: noqa: S608 - names of this test only

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from actors.page_service import PageService
from actors.pair import PairService
from actors.questdb import QuestDBPages
from actors.spec import ReplaySource, SinkSpec
from feeds.sim.exchange import SimExchange
from market.streams import CANDLES, TICKS
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb_sql import Sql
from storage.questdb_url import parse
from tests.actors.pair_support import PAIR, spec, tables, working
from tests.feeds.sim_support import manual_sim
from tests.recordings import HERE, trades
from tests.support import eventually

MINUTE_NS = 60_000_000_000
PAST = 20
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedQuestDB]:
    server = EmbeddedQuestDB(tmp_path_factory.mktemp("questdb"))
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def serving(lane: Path, where: str | Path) -> AsyncIterator[PageService]:
    service = PageService("questdb", lane, QuestDBPages(where))
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def trading(folder: Path, alias: str) -> AsyncIterator[tuple[SimExchange, PairService]]:
    lane = folder / "questdb.sock"
    sinks = (
        SinkSpec("questdb.trades", lane, TICKS),
        SinkSpec("questdb.ohlcv", lane, CANDLES, "1m"),
    )
    async with manual_sim() as sim:
        await sim.emit(PAST)
        wanted = replace(spec(folder / "pair", sim.ws_url, sim.rest_url), alias=alias, sinks=sinks)
        async with working(wanted) as service:
            await eventually(lambda: service.status().get("state") == "streaming")
            yield sim, service


def lag(service: PairService) -> int:
    sinks = service.status()["sinks"]
    return sum(sinks[name]["lag"] for name in ("questdb.trades", "questdb.ohlcv"))


async def settled(sim: SimExchange, service: PairService) -> None:
    await eventually(lambda: service.status().get("ticks") == sim.listings[PAIR.symbol].last_id - PAST, 60)
    await eventually(lambda: lag(service) == 0, 60)


def ask(server: EmbeddedQuestDB, sql: str) -> list[Any]:
    return [list(row) for row in Sql(parse(server.url), 10.0).rows(sql)]


async def assert_equal(server: EmbeddedQuestDB, folder: Path, alias: str) -> None:
    """Compare the server's rows with those of the pair's file, which nobody has open now."""
    read = tables(folder / "pair")
    trades = f"SELECT seq, trade_id, price, size, side FROM trades WHERE symbol = '{alias}' ORDER BY seq"
    expected = [[row[0], row[5], row[2], row[3], row[4][0]] for row in read["ticks"]]
    await eventually(lambda: ask(server, trades) == expected)
    bars = f"SELECT open, high, low, close, volume, vwap, trade_count FROM ohlcv_1m WHERE symbol = '{alias}'"
    complete = [[*row[1:6], row[8], row[9]] for row in read["candles_1m"] if row[10]]
    await eventually(lambda: ask(server, f"{bars} ORDER BY timestamp") == complete)
    assert len(complete) > 1


async def test_every_row_of_the_file_is_in_the_server(tmp_path: Path, server: EmbeddedQuestDB) -> None:
    async with serving(tmp_path / "questdb.sock", server.url), trading(tmp_path, "whole") as (sim, service):
        await sim.emit_until(sim.now_ns + 4 * MINUTE_NS)
        await settled(sim, service)
    await assert_equal(server, tmp_path, "whole")


async def test_text_ids_of_a_file_reach_the_server(tmp_path: Path, server: EmbeddedQuestDB) -> None:
    recorded = trades(HERE / "binance_spot_btcusdt_20260216.csv.gz")[:9_000].tolist()
    lines = [f"{uuid4()},{price},{size},{side},{ts}" for _, ts, price, size, _, side in recorded]
    lines = [line.replace(",-1,", ",sell,").replace(",1,", ",buy,") for line in lines]
    file = tmp_path / "trades.csv"
    file.write_text("\n".join(["trade_id,price,size,side,ts_event_ns", *lines]))
    lane = tmp_path / "questdb.sock"
    sinks = SinkSpec("questdb.trades", lane, TICKS), SinkSpec("questdb.ohlcv", lane, CANDLES, "1m")
    source = ReplaySource((file,))
    wanted = replace(spec(tmp_path / "pair"), source=source, alias="texts", sinks=sinks)
    wanted = replace(wanted, engine=replace(wanted.engine, timeframes_s=(60,)))
    async with serving(lane, server.url), working(wanted) as service:
        await eventually(lambda: service.status().get("finished"), 60)
        await eventually(lambda: lag(service) == 0, 60)
        assert all(claim.ok for claim in await service.prove())
    await assert_equal(server, tmp_path, "texts")
    stored = [row[5] for row in tables(tmp_path / "pair")["ticks"]]
    assert stored == [line.split(",", 1)[0] for line in lines]


async def test_a_supervisor_and_a_server_that_come_and_go(tmp_path: Path) -> None:
    told = tmp_path / "questdb.url"
    server = EmbeddedQuestDB(tmp_path / "questdb")
    lane = tmp_path / "questdb.sock"
    try:
        async with trading(tmp_path, "reborn") as (sim, service):
            await sim.emit_until(sim.now_ns + 2 * MINUTE_NS)
            async with serving(lane, told) as first:
                await eventually(lambda: "has not started yet" in first.status()["error"])
                await asyncio.to_thread(server.start)
                told.write_text(server.url)
                await eventually(lambda: service.status()["sinks"]["questdb.trades"]["acked"])
            await sim.emit_until(sim.now_ns + MINUTE_NS)
            async with serving(lane, told) as second:
                await asyncio.to_thread(server.stop)
                await sim.emit_until(sim.now_ns + MINUTE_NS)
                await eventually(lambda: not second.status()["reached"])
                assert lag(service) > 0
                await asyncio.to_thread(server.start)
                told.write_text(server.url)
                await settled(sim, service)
        await assert_equal(server, tmp_path, "reborn")
    finally:
        server.stop()
