from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis.asyncio
from structlog.testing import capture_logs

from actors.lane_frames import Outgoing
from actors.payloads import payload
from actors.signals import SignalService
from market.events import Event
from market.rows import MarketState
from market.times import NS_PER_S
from storage.embedded_redis import EmbeddedRedis
from storage.state_keys import StateBus
from tests.actors.record import Record, running
from tests.actors.signals_support import expected, served, stream_of
from tests.support import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with served(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signals.sock"


@pytest.fixture
def service(server: EmbeddedRedis, path: Path) -> SignalService:
    return SignalService(path, StateBus(server.url, timeout_s=0.5))


@pytest.fixture
async def reader(server: EmbeddedRedis) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
        yield client


SHOWN = {
    "mass": 1.25,
    "momentum": None,
    "friction": 0.5,
    "entropy": 0.75,
    "nash_dist": 2.0,
    "regime": "Levy",
    "alpha_coefficient": 1.5,
}


def physics(record: Record, second: int, mass: float) -> None:
    """Put a market state on record."""
    seq, ts_ns = len(record.events) + 1, 1_766_318_460_000_000_000 + second * NS_PER_S
    row = MarketState(ts_ns, mass, None, 0.5, 0.75, 2.0, 1.5, "Levy", "Neutral", 0.5)
    event = Event(seq, ts_ns, "PHYSICS_UPDATE", payload(row))
    record.events.append(Outgoing(seq, 0, event.message(record.symbol)))


async def acknowledged(record: Record) -> None:
    await eventually(lambda: record.cursor == len(record.events), timeout_s=20)


async def shown(reader: Any, symbol: str = "s") -> Any:
    value = await reader.get(f"physics:state:{symbol}")
    return value and orjson.loads(value)


async def test_the_newest_market_state_stands_in_a_key_that_does_not_expire(
    service: SignalService, path: Path, reader: Any
) -> None:
    record = Record(path)
    physics(record, 0, 1.25)
    record.add(1)
    async with running(service, record):
        await acknowledged(record)
        assert await shown(reader) == SHOWN
        assert list(await shown(reader)) == list(SHOWN)
        assert await reader.ttl("physics:state:s") == -1
        physics(record, 2, 3.0)
        physics(record, 1, 2.0)  # restated; the other is still the newest
        record.lane.push(record.events[2:])
        await acknowledged(record)
        assert (await shown(reader))["mass"] == 3.0


async def test_a_server_that_comes_back_empty_shows_the_state_again(
    service: SignalService, server: EmbeddedRedis, path: Path, reader: Any
) -> None:
    record = Record(path)
    physics(record, 0, 1.25)
    async with running(service, record):
        await acknowledged(record)
        os.kill(server.pid or 0, signal.SIGKILL)
        await eventually(lambda: not service.status()["redis_ok"])
        server.start()
        await eventually(lambda: reader.exists("physics:state:s"))
        assert await shown(reader) == SHOWN


async def test_a_pair_that_catches_up_shows_its_newest_state_alone(
    service: SignalService, path: Path, reader: Any
) -> None:
    record = Record(path)
    for at in range(5_000):
        physics(record, at * 60 // 5_000, at)
    async with reader.monitor() as seen:
        async with running(service, record):
            await acknowledged(record)
            await eventually(lambda: reader.exists("physics:state:s"))
        await reader.set("end", "1")
        told = []
        while not (command := (await seen.next_command())["command"]).startswith("SET end"):
            told.append(command)
    sets = [command for command in told if command.startswith("SET physics:state:s")]
    assert len(sets) == 1
    assert '"mass":4999.0' in sets[0].replace("\\", "")
    assert sum(command.startswith("XADD") for command in told) == 5_000


async def test_a_state_that_is_not_understood_keeps_nothing_back(
    service: SignalService, path: Path, reader: Any
) -> None:
    record = Record(path)
    event = Event(1, 0, "PHYSICS_UPDATE", b'{"mass":"much"}')
    record.events.append(Outgoing(1, 0, event.message("s")))
    with capture_logs() as logs:
        async with running(service, record):
            await acknowledged(record)
    assert await stream_of(reader) == expected(record)
    assert await shown(reader) is None
    assert "state_not_understood" in {entry["event"] for entry in logs}
