from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from actors.spec import LiveSource
from daemon.checks import Finding, check
from daemon.lock import FolderLock
from daemon.settings import (
    EmbeddingsSettings,
    PairSettings,
    PushSettings,
    QuestDBSettings,
    RaySettings,
    RedisSettings,
    Settings,
)
from feeds.sim.exchange import SimExchange
from feeds.sim.faults import Halt
from feeds.sim.history import GeneratedHistory
from market.pairs import Pair
from storage.embedded_redis import EmbeddedRedis


def settings(folder: Path, rest_url: str, *symbols: str) -> Settings:
    pairs = [Pair("binance", "spot", symbol) for symbol in symbols]
    return Settings(
        data_dir=folder / "data",
        pairs=tuple(PairSettings(pair=pair, alias=pair.key) for pair in pairs),
        exchanges={("binance", "spot"): LiveSource("ws://127.0.0.1:1", rest_url)},
        redis=RedisSettings(enabled=False),
        questdb=QuestDBSettings(enabled=False),
        embeddings=EmbeddingsSettings(enabled=False),
    )


@asynccontextmanager
async def venue(clock_ns: Callable[[], int] = time.time_ns) -> AsyncIterator[SimExchange]:
    symbols = ("BTCUSDT", "ETHUSDT")
    sim = SimExchange({s: GeneratedHistory(s, 7, 1.0, time.time_ns()) for s in symbols}, clock_ns)
    await sim.start()
    try:
        yield sim
    finally:
        await sim.stop()


async def findings(wanted: Settings) -> list[Finding]:
    return await asyncio.to_thread(check, wanted)


def about(found: list[Finding], word: str) -> Finding:
    (one,) = [f for f in found if f.text.startswith(word)]
    return one


async def test_all_is_well(tmp_path: Path) -> None:
    async with venue() as sim:
        wanted = settings(tmp_path, sim.rest_url, "BTCUSDT", "ETHUSDT")
        found = await findings(replace(wanted, redis=RedisSettings()))
    assert [f.text for f in found if not f.ok] == []
    told = [f.text for f in found]
    assert told[0] == "configuration: 2 pairs: binance:spot:BTCUSDT, binance:spot:ETHUSDT"
    assert told[1].startswith(f"data_dir {tmp_path}/data: writable, ")
    assert told[2] == "lock: free"
    assert told[3:] == [
        "binance spot: BTCUSDT: TRADING",
        "binance spot: ETHUSDT: TRADING",
        "redis: the embedded server starts",
        "questdb: disabled",
        "embeddings: disabled",
        "ray: a head of its own",
    ]
    assert not await asyncio.to_thread(os.listdir, tmp_path)  # looking changes nothing


async def test_a_symbol_that_is_unknown_or_not_trading(tmp_path: Path) -> None:
    async with venue() as sim:
        sim.inject(Halt(symbol="ETHUSDT"))
        found = await findings(settings(tmp_path, sim.rest_url, "TYPO", "ETHUSDT"))
    assert about(found, "binance spot: TYPO:").fatal
    assert "Invalid symbol" in about(found, "binance spot: TYPO:").text
    halted = about(found, "binance spot: ETHUSDT:")
    assert (halted.ok, halted.fatal, halted.text) == (False, False, "binance spot: ETHUSDT: HALT")


async def test_a_clock_that_is_off(tmp_path: Path) -> None:
    async with venue(lambda: time.time_ns() - 50_000_000_000) as sim:
        off = about(await findings(settings(tmp_path, sim.rest_url, "BTCUSDT")), "binance spot: BTCUSDT")
    assert (off.ok, off.fatal) == (False, False)
    assert 45 < int(off.text.rpartition(" s off")[0].rpartition(" ")[2]) < 55


def test_a_venue_that_cannot_be_reached(tmp_path: Path) -> None:
    lost = about(
        check(settings(tmp_path, "http://127.0.0.1:1", "BTCUSDT")), "binance spot: BTCUSDT: http://127"
    )
    assert lost.fatal
    assert "refused" in lost.text


def test_a_pushed_pair_is_asked_of_no_venue_even_one_that_is_spoken(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "http://127.0.0.1:1")
    pairs = [Pair("uniswap", "dex", "WETH-USDC"), Pair("binance", "spot", "BTCUSDT")]
    pushed = tuple(PairSettings(pair=pair, alias=pair.key, push=PushSettings()) for pair in pairs)
    found = check(replace(wanted, pairs=pushed))
    for word in ("uniswap dex: WETH-USDC", "binance spot: BTCUSDT"):
        assert about(found, word) == Finding(ok=True, fatal=False, text=f"{word}: pushed, has no venue")


def test_a_folder_that_is_in_use_or_cannot_be(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "http://127.0.0.1:1")
    with FolderLock(wanted.data_dir):
        assert about(check(wanted), "lock: another marketd").fatal
    assert about(check(wanted), "lock").ok
    (tmp_path / "file").write_text("")
    assert about(check(replace(wanted, data_dir=tmp_path / "file")), "data_dir").fatal
    assert about(check(replace(wanted, data_dir=Path("/proc/data"))), "data_dir").fatal


def test_a_redis_of_the_users(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "http://127.0.0.1:1")
    server = EmbeddedRedis(tmp_path / "redis")
    url = server.start()
    try:
        assert about(check(replace(wanted, redis=RedisSettings(url=url))), "redis").ok
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        warned = about(check(replace(wanted, redis=RedisSettings(url=url))), "redis")
        assert (warned.ok, warned.fatal) == (False, False)
        assert "allkeys-lru" in warned.text
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["redis://user:secret@127.0.0.1:1", "redis://127.0.0.1:1/?password=secret"])
def test_a_redis_that_is_gone_and_no_secret_is_told(tmp_path: Path, url: str) -> None:
    found = about(check(replace(settings(tmp_path, ""), redis=RedisSettings(url=url))), "redis")
    assert found.fatal
    assert "secret" not in found.text


def test_a_cluster_that_is_gone(tmp_path: Path) -> None:
    wanted = replace(settings(tmp_path, ""), ray=RaySettings(address="127.0.0.1:1"))
    assert about(check(wanted), "Ray at 127.0.0.1:1: ").fatal


def test_a_folder_too_long_for_ray(tmp_path: Path) -> None:
    wanted = replace(settings(tmp_path, ""), ray=RaySettings(temp_dir="/var/tmp/" + "long" * 10))
    assert about(check(wanted), "ray.temp_dir /var/tmp/longlong").fatal


def test_ports_beside_those_of_its_workers(tmp_path: Path) -> None:
    ray = RaySettings(dashboard_port=20_000, metrics_port=0)
    assert about(check(replace(settings(tmp_path, ""), ray=ray)), "ray: a head").ok


def test_a_questdb_that_is_gone_keeps_nothing_from_starting(tmp_path: Path) -> None:
    url = "http::addr=127.0.0.1:1;username=me;password=secret;"
    wanted = replace(settings(tmp_path, ""), questdb=QuestDBSettings(url=url))
    found = about(check(wanted), "questdb")
    assert (found.ok, found.fatal) == (False, False)
    assert "secret" not in found.text
