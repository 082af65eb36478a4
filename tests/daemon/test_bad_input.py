"""Whatever comes in from outside is refused, counted and shown, and the rest goes on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from storage.embedded_redis import EmbeddedRedis
from storage.hot import HotFile
from tests.daemon.support import (
    BACK_S,
    Daemon,
    Exchange,
    announced,
    complete,
    daemon,
    exchange,
    key,
)
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)  # a busy machine starts a daemon in a minute

BTC, ETH, NEWER, UNLISTED = "BTCUSDT", "ETHUSDT", "ADAUSDT", "NOPEUSDT"
REFUSED = ("json", "nan", "negative", "zero", "future")
FLAWS = (*REFUSED, "event")  # an event of a kind that nobody knows is not for us


@pytest.fixture(scope="module")
def venue() -> Iterator[Exchange]:
    with exchange(BTC, ETH, NEWER) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, venue: Exchange) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("d") / "one", venue.urls, BTC, ETH, NEWER, UNLISTED) as made:
        HotFile.open(hot(made, NEWER), key(NEWER), (1, 5, 60)).close()
        with duckdb.connect(str(hot(made, NEWER))) as con:
            con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        yield made


@pytest.fixture
async def live(shared: Daemon) -> Daemon:
    """A daemon that finds a symbol unlisted and a file of a later version, and goes on with two pairs."""
    if not shared.running:
        shared.start()
    await shared.streaming(BTC, ETH)
    return shared


def hot(made: Daemon, symbol: str) -> Path:
    return made.data / "binance/spot" / symbol / "trading.duckdb"


async def reports(made: Daemon, symbol: str, **wanted: object) -> dict[str, Any]:
    """Wait until a pair says so of itself; return all it says."""

    async def says() -> dict[str, Any] | None:
        report = (await made.pairs()).get(symbol, {})
        return report if all(report.get(name) == value for name, value in wanted.items()) else None

    found: Any = await eventually(says, BACK_S)
    return dict(found)


async def test_an_unknown_symbol_is_shown_and_recorded(live: Daemon) -> None:
    await reports(live, UNLISTED, state="unlisted")
    (row,) = await live.query(UNLISTED, "SELECT DISTINCT reason FROM rejected")
    assert row == {"reason": f"the venue does not list {UNLISTED}"}
    assert f"actor=pair:{key(UNLISTED)} trouble=unlisted\n" in live.log.read_text()


async def test_a_damaged_file_is_rebuilt_from_the_journal(live: Daemon, venue: Exchange) -> None:
    before = (await live.pairs())[ETH]
    first = await live.query(ETH, "SELECT seq, trade_id FROM ticks ORDER BY seq LIMIT 1")
    with hot(live, ETH).open("r+b") as file:
        file.write(b"no database" * 2_000)
    os.kill(before["pid"], signal.SIGKILL)
    await live.streaming(BTC, ETH, not_pids=frozenset({before["pid"]}), timeout_s=BACK_S)
    assert hot(live, ETH).with_suffix(".duckdb.damaged").exists()
    assert await live.query(ETH, "SELECT seq, trade_id FROM ticks ORDER BY seq LIMIT 1") == first
    await complete(live, venue, ETH)


async def test_a_file_of_a_later_version_is_left_alone(live: Daemon) -> None:
    report = await reports(live, NEWER, state="failed")
    assert report["error"].endswith("schema version 99; this marketd knows 1")
    asked = await live.ask("query", key(NEWER), "FROM ticks")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "schema version 99" in asked.stderr
    assert "Traceback" not in asked.stderr


async def test_malformed_frames_are_counted_and_their_trades_fetched(live: Daemon, venue: Exchange) -> None:
    before = (await live.pairs())[ETH]
    soon = venue.last_ids()[BTC] + 20
    for nth, flaw in enumerate(FLAWS):
        venue.fault("malformed", symbol=BTC, flaw=flaw, at_id=soon + 3 * nth)
    await eventually(lambda: venue.faults().get("malformed") == len(FLAWS), BACK_S)
    last = venue.last_ids()[BTC]

    async def passed() -> bool:
        report = (await live.pairs())[BTC]
        return bool(report["last_trade_id"] > last and report["state"] == "streaming")

    await eventually(passed, BACK_S)
    rows = await live.query(BTC, "SELECT reason, raw FROM rejected")
    assert len(rows) == len(REFUSED)
    assert all(row["reason"] and row["raw"] for row in rows)
    await complete(live, venue, BTC)
    assert await live.query(BTC, "FROM data_gaps WHERE status <> 'FILLED'") == []
    after = (await live.pairs())[ETH]
    assert [after[name] for name in ("rejected", "gaps", "connects", "pid")] == [
        before[name] for name in ("rejected", "gaps", "connects", "pid")
    ]


async def test_a_disk_that_refuses_holds_one_pair_up_and_costs_nothing(live: Daemon, venue: Exchange) -> None:
    """A limit on file sizes stands for a disk that is full for one pair."""
    before = await live.pairs()
    actor = psutil.Process(before[ETH]["pid"])
    actor.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
    try:
        await eventually(lambda: blocked(live), BACK_S)
        went_on = (await live.pairs())[BTC]["ticks"]
        await eventually(lambda: more(live, BTC, went_on))
    finally:
        actor.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    await reports(live, ETH, blocked="", state="streaming", pid=actor.pid)
    await eventually(lambda: more(live, ETH, before[ETH]["ticks"]), BACK_S)
    await complete(live, venue, ETH)
    assert (await live.pairs())[ETH]["gaps"] == before[ETH]["gaps"]


async def blocked(made: Daemon) -> object:
    return (await made.pairs())[ETH]["blocked"]


async def more(made: Daemon, symbol: str, ticks: int) -> bool:
    return bool((await made.pairs())[symbol]["ticks"] > ticks)


async def test_venue_and_redis_may_come_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    urls = {"ws_url": f"ws://127.0.0.1:{port}", "rest_url": f"http://127.0.0.1:{port}"}
    server = EmbeddedRedis(tmp_path / "redis")  # the user's own
    url = f"unix://{tmp_path}/redis/redis.sock"
    with daemon(tmp_path / "one", urls, BTC, redis=url) as made:
        made.start()
        report = await reports(made, BTC, state="stale", ticks=0)
        assert "refused" in report["last_error"]
        with exchange(BTC, port=port) as venue:
            await made.streaming()
            await eventually(lambda: lags(made, 3), BACK_S)
            assert not (await made.status())["supervisors"]["signal"]["redis_ok"]
            assert server.start() == url
            try:
                await announced(made, url, BTC)
                await complete(made, venue, BTC)
                server.stop()
                await made.stop(signal.SIGTERM)
                await complete(made, venue, BTC)
            finally:
                server.stop()


async def lags(made: Daemon, events: int) -> bool:
    return bool((await made.pairs())[BTC]["sinks"]["redis"]["lag"] >= events)


async def test_a_data_folder_that_cannot_be_is_refused_in_one_line(tmp_path: Path, venue: Exchange) -> None:
    with daemon(tmp_path / "one", venue.urls, BTC) as made:
        made.data.write_text("a file")
        ended = await made.ask("run")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"marketd: data_dir {made.data}: ")
        assert ended.stderr.count("\n") == 1
