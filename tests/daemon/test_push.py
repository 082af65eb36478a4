"""Pushed pairs through the whole daemon: what a collector was told is kept is in the record, once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis.asyncio

from tests.daemon.support import BACK_S, Daemon, called
from tests.push_support import DurableRedis, durable, trade
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)  # a busy machine starts a daemon in a minute

POOL, DESK = "pool:dex:WETH-USDC", "desk:spot:AAPL"
COUNT, CHUNK = 10_000, 50
CONFIG = """
data_dir = "data"
[[pairs]]
exchange = "pool"
market = "dex"
symbols = ["WETH-USDC"]
feed = "push"
[[pairs]]
exchange = "desk"
market = "spot"
symbols = ["AAPL"]
feed = "push"
contiguous_ids = true
[engine]
timeframes = ["5s", "1m"]
stale_after_s = 3
[redis]
url = "{redis}"
[questdb]
enabled = false
[embeddings]
enabled = false
[ray]
dashboard = false
"""
TICKS = """
SELECT trade_id, price, volume, left(side, 1) AS side, epoch_ns(timestamp) AS ts_ns FROM ticks ORDER BY ts_ns
"""


class Collector:
    """Push trades to one pair's stream; what was not acknowledged is pushed again."""

    def __init__(self, url: str, pair: str, trades: Sequence[dict[str, str]]) -> None:
        self.acknowledged = 0
        self._url, self._stream, self._trades = url, f"ingest:{pair}", trades
        self.task = asyncio.create_task(self._run())

    async def reach(self, count: int) -> None:
        await eventually(lambda: self.task.done() or self.acknowledged >= count, 60.0)

    async def _run(self) -> None:
        async with redis.asyncio.Redis.from_url(self._url) as client:
            while self.acknowledged < len(self._trades):
                await self._push(client, self._trades[self.acknowledged : self.acknowledged + CHUNK])
                await asyncio.sleep(0.02)

    async def _push(self, client: Any, chunk: Sequence[dict[str, str]]) -> None:
        try:
            async with client.pipeline(transaction=False) as pipe:
                for fields in chunk:
                    pipe.xadd(self._stream, fields)
                await pipe.execute()
        except redis.RedisError:
            return
        self.acknowledged += len(chunk)


class Pushed(Daemon):
    """A daemon whose pairs are pushed."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, {"ws_url": "ws://127.0.0.1:1", "rest_url": "http://127.0.0.1:1"})
        (folder / "config.toml").write_text(CONFIG.format(redis=url), encoding="utf-8")

    async def report(self, pair: str) -> dict[str, Any]:
        reports = (await self.status()).get("pairs", [])
        return next((one for one in reports if one["pair"] == pair), {})

    async def are(self, state: str, *pairs: str) -> None:
        async def all_are() -> bool:
            return all([(await self.report(pair)).get("state") == state for pair in pairs])

        await eventually(all_are, 60.0)

    async def have(self, count: int, *pairs: str) -> None:
        async def all_have() -> bool:
            return all([(await self.report(pair)).get("ticks", 0) >= count for pair in pairs])

        await eventually(all_have, BACK_S)

    async def kill_pairs(self) -> None:
        pids = [(await self.report(pair))["pid"] for pair in (POOL, DESK)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    async def rows(self, pair: str, sql: str) -> list[dict[str, Any]]:
        ended = await self.ask("query", pair, sql, "--format", "json")
        assert (ended.returncode, ended.stderr) == (0, "")
        found: list[dict[str, Any]] = json.loads(ended.stdout)
        return found

    async def proven(self, pair: str) -> None:
        proof = await self.ask("verify", pair)
        assert proof.returncode == 0, proof.stdout + proof.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DurableRedis]:
    with durable(tmp_path / "r") as made:
        yield made


def stored(fields: dict[str, str]) -> dict[str, Any]:
    """Say how a pushed trade must read in its table."""
    return {
        "trade_id": fields["id"],
        "price": float(fields["price"]),
        "volume": float(fields["size"]),
        "side": fields["side"][0].upper(),
        "ts_ns": int(fields["ts_ns"]),
    }


def holed(trades: list[dict[str, str]]) -> list[dict[str, str]]:
    """Hold every 97th back for 300 trades: gaps that are filled long after."""
    places = [(k + (300 if k % 97 == 96 else 0), k) for k in range(len(trades))]
    return [trades[k] for _, k in sorted(places)]


async def test_every_acknowledged_trade_is_stored_once_whatever_is_killed(
    tmp_path: Path, server: DurableRedis
) -> None:
    made = Pushed(tmp_path / "d", server.url)
    pool, desk = [trade(k) for k in range(COUNT)], [trade(k, 1_000 + k) for k in range(COUNT)]
    made.start()
    try:
        await made.are("streaming", POOL, DESK)
        collectors = [Collector(server.url, POOL, pool), Collector(server.url, DESK, holed(desk))]
        await collectors[0].reach(COUNT // 5)
        await made.kill_pairs()
        await collectors[0].reach(COUNT // 2)
        server.kill()
        await made.are("stale", POOL, DESK)
        server.start()
        await collectors[0].reach(COUNT * 4 // 5)
        await made.kill_pairs()
        await asyncio.gather(*(one.task for one in collectors))
        await made.have(COUNT, POOL, DESK)
        for pair, trades in ((POOL, pool), (DESK, desk)):
            assert await made.rows(pair, TICKS) == [stored(fields) for fields in trades]
            await made.proven(pair)
        names = await made.rows(POOL, "SELECT DISTINCT event FROM events WHERE event LIKE 'FEED%' ORDER BY 1")
        assert [row["event"] for row in names] == ["FEED_RECOVERED", "FEED_STALE"]
        gaps = await made.rows(DESK, "SELECT status, count(*) AS count FROM data_gaps GROUP BY 1")
        assert [row["status"] for row in gaps] == ["FILLED"]
        assert not await made.rows(POOL, "FROM data_gaps")
        await made.stop(signal.SIGTERM)
        assert len(await made.rows(POOL, "SELECT seq FROM ticks")) == COUNT  # without a daemon, too
        await made.proven(DESK)
    finally:
        made.kill()


async def test_an_embedded_server_is_found_by_status_and_its_loss_is_said(tmp_path: Path) -> None:
    """It keeps nothing: what it had acknowledged and nobody had read is gone, and a gap says so."""
    made = Pushed(tmp_path / "d", "embedded")
    made.start()
    try:
        await made.are("streaming", POOL, DESK)
        told = await made.report(POOL)
        assert told["stream"] == f"ingest:{POOL}"
        before, after = [trade(k) for k in range(200)], [trade(k) for k in range(500, 600)]
        await Collector(told["server"], POOL, before).reach(len(before))
        await made.have(len(before), POOL)
        (old,) = servers(made)
        old.kill()

        async def is_back() -> bool:
            return servers(made) not in ([], [old])

        await eventually(is_back, BACK_S)
        collector = Collector(told["server"], POOL, after)
        await collector.reach(len(after))
        await made.have(len(before) + len(after), POOL)
        assert await made.rows(POOL, TICKS) == [stored(fields) for fields in before + after]
        (gap,) = await made.rows(POOL, "FROM data_gaps")
        assert (gap["status"], gap["first_missing_id"]) == ("UNFILLABLE", None)
        assert "the server lost the stream" in gap["reason"]
        await made.proven(POOL)
        await made.stop(signal.SIGTERM)
    finally:
        made.kill()


def servers(made: Daemon) -> list[psutil.Process]:
    return called(made.pid, "valkey-server", "redis-server")
