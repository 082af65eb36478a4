"""The whole daemon against a simulated exchange: what its users see, kills, signals."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import duckdb
import pytest

from storage.embedded_redis import EmbeddedRedis
from tests.daemon.support import (
    BACK_S,
    Daemon,
    Exchange,
    Subscriber,
    alive,
    announced,
    called,
    complete,
    daemon,
    descendants,
    exchange,
    key,
    left,
)
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)  # a busy machine starts a daemon in a minute

BTC, ETH = SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture(scope="module")
def venue() -> Iterator[Exchange]:
    with exchange(*SYMBOLS) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, venue: Exchange) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("d") / "one", venue.urls, *SYMBOLS) as made:
        yield made


@pytest.fixture
async def live(shared: Daemon) -> Daemon:
    """A daemon whose pairs stream; one for all tests, started again where a test has ended it."""
    if not shared.running:
        shared.start()
    await shared.streaming()
    return shared


def redis_url(made: Daemon) -> str:
    return f"unix://{made.data}/run/redis/redis.sock"


@asynccontextmanager
async def subscribed(made: Daemon) -> AsyncIterator[dict[str, Subscriber]]:
    """Follow every pair, from before whatever happens inside."""
    followers = {symbol: Subscriber(redis_url(made), symbol) for symbol in made.symbols}
    try:
        for one in followers.values():
            await one.reach(1)
        yield followers
    finally:
        for one in followers.values():
            await one.stop()


async def test_what_a_subscriber_has_seen_is_in_the_tables(live: Daemon) -> None:
    async with subscribed(live) as followers:
        for _ in range(3):
            await followers[BTC].reach(followers[BTC].seq + 1)
            closed = [one for one in followers[BTC].events if one["event"] == "CANDLE_CLOSED"][-1]
            bar = {name: value for name, value in closed["data"].items() if name != "timeframe"}
            table = f"candles_{closed['data']['timeframe']}"
            sql = f"SELECT * FROM {table} WHERE timestamp = '{bar['timestamp']}'"  # noqa: S608 - ours
            assert await live.query(BTC, sql) == [bar]
            assert await live.query(BTC, f"SELECT event FROM events WHERE seq = {closed['seq']}")  # noqa: S608


async def test_the_open_bar_is_shown_and_counts_every_tick(live: Daemon) -> None:
    sql = """
        SELECT count(*) FILTER (NOT is_complete) AS open, sum(trade_count)::BIGINT AS trades,
            (SELECT count(*) FROM ticks) AS ticks FROM candles_5s
    """
    for _ in range(5):
        (row,) = await live.query(BTC, sql)
        assert row["open"] == 1
        assert row["trades"] == row["ticks"]


async def test_status_tells_what_a_person_asks_first(live: Daemon) -> None:
    told = (await live.ask("status")).stdout.splitlines()
    assert told[0].startswith(f"marketd (pid {live.pid}) on {live.data}, up ")
    assert [line.split()[0] for line in told[1:3]] == [key(symbol) for symbol in SYMBOLS]
    assert [line.partition(":")[0] for line in told[3:]] == ["redis", "archive", "metrics", "disk"]
    status = json.loads((await live.ask("status", "--json")).stdout)
    assert status["supervisors"]["signal"]["redis_ok"]
    for pair in status["pairs"]:
        assert pair["ticks"] > 0
        assert pair["rss_bytes"] > 10_000_000
        assert (pair["gaps_open"], pair["rejected"], pair["error"]) == (0, 0, "")
        assert pair["sinks"]["redis"]["connected"]


async def test_what_all_pairs_wait_for_goes_before_them_and_history_after(live: Daemon) -> None:
    async def supervised() -> bool:
        return all("pid" in one for one in (await live.status())["supervisors"].values())

    await eventually(supervised, 60)  # they come up after the pairs
    status = await live.status()
    usual = os.getpriority(os.PRIO_PROCESS, live.pid)
    first = usual - 10 * (os.geteuid() == 0)  # nobody else may without the system's leave
    supervisors = {name: one["pid"] for name, one in status["supervisors"].items()}
    assert os.getpriority(os.PRIO_PROCESS, supervisors["signal"]) == first
    assert {os.getpriority(os.PRIO_PROCESS, one["pid"]) for one in status["pairs"]} == {usual}
    assert os.getpriority(os.PRIO_PROCESS, supervisors["health"]) == usual + 10


def named(made: Daemon, *names: str) -> list[int]:
    return [one.pid for one in called(made.pid, *names)]


async def victims(made: Daemon, whom: str) -> tuple[list[int], list[str]]:
    """Find whom to kill, and the pairs that do not survive it."""
    pids = {symbol: one["pid"] for symbol, one in (await made.pairs()).items()}
    match whom:
        case "one pair":
            return [pids[ETH]], [ETH]
        case "all pairs":
            return list(pids.values()), list(SYMBOLS)
        case "the supervisor":
            return [(await made.status())["supervisors"]["signal"]["pid"]], []
        case "Redis":
            return named(made, "valkey-server", "redis-server"), []
        case _:
            return named(made, whom), list(SYMBOLS)


@pytest.mark.parametrize("whom", ["one pair", "all pairs", "the supervisor", "Redis", "raylet", "gcs_server"])
async def test_a_kill_costs_nothing(live: Daemon, venue: Exchange, whom: str) -> None:
    async with subscribed(live) as followers:
        before = await live.pairs()
        killed, lost = await victims(live, whom)
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        gone = frozenset(before[symbol]["pid"] for symbol in lost)
        await live.streaming(not_pids=gone, timeout_s=BACK_S)
        after = await live.pairs()
        for symbol in SYMBOLS:
            await complete(live, venue, symbol)
            events = await announced(live, redis_url(live), symbol)
            await followers[symbol].reach(events)
            if symbol not in lost:
                assert [after[symbol][name] for name in ("pid", "connects", "gaps")] == [
                    before[symbol][name] for name in ("pid", "connects", "gaps")
                ]


async def test_a_killed_daemon_answers_offline_and_goes_on_where_it_was(
    live: Daemon, venue: Exchange
) -> None:
    family = descendants(live.pid)
    seen = {symbol: one["ticks"] for symbol, one in (await live.pairs()).items()}
    os.kill(live.pid, signal.SIGKILL)
    await live.ended()
    for symbol in SYMBOLS:
        await complete(live, venue, symbol)
        (row,) = await live.query(symbol, "SELECT count(*) AS ticks FROM ticks")
        assert row["ticks"] >= seen[symbol]
    live.start()
    await live.streaming()
    assert [one for one in family if alive(one)] == []
    for symbol in SYMBOLS:
        await complete(live, venue, symbol)
        await announced(live, redis_url(live), symbol)


async def test_a_second_daemon_on_the_folder_is_refused(live: Daemon) -> None:
    second = await live.ask("run")
    assert second.returncode == 2
    assert f"data_dir {live.data}: another marketd (pid {live.pid})" in second.stderr
    assert "Traceback" not in second.stderr


async def test_a_pair_that_is_not_followed_is_told_from_those_that_are(live: Daemon) -> None:
    asked = await live.ask("query", key("SOLUSDT"), "FROM ticks")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert f"{key('SOLUSDT')} is not followed here; these are: {key(BTC)}, {key(ETH)}" in asked.stderr


@pytest.mark.parametrize(("store", "section"), [("questdb", "questdb"), ("lancedb", "embeddings")])
async def test_a_store_that_is_off_is_not_loaded_again(live: Daemon, store: str, section: str) -> None:
    told = await live.ask("resync", store)
    assert told.returncode == 2
    assert told.stderr == f"marketd: {store} is off ({section}.enabled, or not installed)\n"


async def test_a_daemon_beside_stops_with_all_stored_and_announced(
    live: Daemon, venue: Exchange, tmp_path: Path
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")  # the user's own
    server.start()
    try:
        with daemon(tmp_path / "two", venue.urls, *SYMBOLS, redis=server.url) as second:
            second.start()
            await second.streaming()
            received = venue.last_ids()
            await second.stop(signal.SIGTERM)
            for symbol in SYMBOLS:
                await complete(second, venue, symbol)
                await announced(second, server.url, symbol)
                (row,) = await second.query(symbol, "SELECT max(trade_id::BIGINT) AS last FROM ticks")
                assert row["last"] >= received[symbol]
    finally:
        server.stop()
    assert live.running
    assert (await live.pairs()).keys() == set(SYMBOLS)


async def test_a_stopped_folder_answers(live: Daemon, venue: Exchange) -> None:
    received = venue.last_ids()
    await live.stop(signal.SIGINT)
    for symbol in SYMBOLS:
        await complete(live, venue, symbol)
        (row,) = await live.query(symbol, "SELECT max(trade_id::BIGINT) AS last FROM ticks")
        assert row["last"] >= received[symbol]
        (row,) = await live.query(symbol, "SELECT count(*) FILTER (NOT is_complete) AS open FROM candles_1m")
        assert row["open"] == 1
        path = live.data / "binance/spot" / symbol / "trading.duckdb"
        with duckdb.connect(str(path)) as plain:
            ((ticks, bars),) = plain.execute(
                "SELECT (SELECT count(*) FROM ticks), (SELECT count(*) FROM candles_1s)"
            ).fetchall()
        assert await live.query(symbol, "SELECT count(*) AS ticks FROM ticks") == [{"ticks": ticks}]
        assert bars > 0
    unknown = await live.ask("query", key("SOLUSDT"), "FROM ticks")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == f"marketd: {live.data}: holds no record of {key('SOLUSDT')}\n"
    assert not (live.data / "binance/spot/SOLUSDT").exists()
    assert left(live.folder) == []
