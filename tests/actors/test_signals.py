from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis.asyncio
from structlog.testing import capture_logs

from actors.signal_feed import FEED_EVENTS
from actors.signals import SignalService, SignalSupervisor
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


async def done(*records: Record) -> None:
    await eventually(lambda: all(record.lane.lag == 0 for record in records), timeout_s=20)


async def chatter(*records: Record, rounds: int) -> None:
    """Let each say something every millisecond or so."""
    for _ in range(rounds):
        for record in records:
            record.tell()
        await asyncio.sleep(0.001)


async def test_events_arrive_in_order_and_whole(service: SignalService, path: Path, reader: Any) -> None:
    records = [Record(path, f"s{i}") for i in range(5)]
    records[0].add(3_000)
    async with running(service, *records):
        await chatter(*records, rounds=100)
        records[0].tell(2_500)
        await done(*records)
        status = service.status()
    for record in records:
        assert await stream_of(reader, record.symbol) == expected(record)
        assert record.acks == sorted(record.acks)
    assert orjson.loads(records[0].messages[0]) == {
        "event": "TEST",
        "symbol": "s0",
        "timestamp": "2025-12-21T12:01:00.000000001Z",
        "seq": 1,
        "data": {},
    }
    assert status["redis_ok"]
    assert status["acked"] == {f"x:spot:{r.symbol}": len(r.events) for r in records}
    assert status["published"] == sum(len(record.events) for record in records)
    assert 0 < status["publish_latency_p50_ms"] <= status["publish_latency_p99_ms"]


async def test_a_restarted_empty_server_gets_everything_again(
    service: SignalService,
    server: EmbeddedRedis,
    path: Path,
    reader: Any,
) -> None:
    records = [Record(path, f"s{i}") for i in range(3)]
    quiet = Record(path, "quiet")
    quiet.add(10)
    with capture_logs() as logs:
        async with running(service, quiet, *records):
            await chatter(*records, rounds=100)
            await done(quiet, records[0])
            quiet.lane.snapshot({"price": 1.5})
            await eventually(lambda: reader.exists("market:snapshot:quiet"))
            os.kill(server.pid or 0, signal.SIGKILL)
            await chatter(*records, rounds=200)
            await eventually(lambda: not service.status()["redis_ok"])
            server.start()
            await chatter(*records, rounds=100)
            await done(*records)
            await eventually(lambda: reader.xlen("stream:state_update:quiet"))
            await done(quiet)
            await eventually(lambda: _equal(reader, quiet))
            for record in records:
                assert await _equal(reader, record)
            assert await reader.hgetall("market:snapshot:quiet") == {b"price": b"1.5"}
            assert service.status()["redis_ok"]
            assert service.status()["reconnects"] == 1
    facts = [entry["event"] for entry in logs if entry["event"].startswith("redis")]
    assert facts == ["redis_lost", "redis_back"]


@pytest.mark.parametrize("act", ["flush", "alien"])
async def test_streams_that_somebody_spoils_are_filled_again(
    service: SignalService, path: Path, reader: Any, act: str
) -> None:
    records = [Record(path, f"s{i}") for i in range(3)]
    async with running(service, *records):
        await chatter(*records, rounds=50)
        await done(*records)
        if act == "flush":
            await reader.flushall()
        else:
            await reader.xadd("stream:state_update:s0", {"m": "of somebody else"}, id="99999-0")
        await chatter(*records, rounds=50)
        await eventually(lambda: _all_equal(reader, records))
        await done(*records)


async def _all_equal(reader: Any, records: list[Record]) -> bool:
    return all([await _equal(reader, record) for record in records])


async def _equal(reader: Any, record: Record) -> bool:
    return await stream_of(reader, record.symbol) == expected(record)


async def test_a_service_killed_in_mid_stream_loses_and_doubles_nothing(
    server: EmbeddedRedis,
    path: Path,
    reader: Any,
) -> None:
    records = [Record(path, f"s{i}") for i in range(3)]
    async with running(*records):
        for _ in range(5):
            async with running(SignalService(path, StateBus(server.url))):
                await chatter(*records, rounds=60)
        async with running(SignalService(path, StateBus(server.url))):
            await done(*records)
    for record in records:
        assert await stream_of(reader, record.symbol) == expected(record)


async def test_what_a_killed_pair_may_not_have_published_comes_again(
    service: SignalService,
    path: Path,
    reader: Any,
) -> None:
    record = Record(path)
    async with running(service, record):
        record.tell(100)
        await done(record)
        restarted = Record(path, cursor=60)  # 61..100 are in the stream; were they published?
        restarted.events = list(record.events)
        async with reader.pubsub() as listener:
            await listener.subscribe("state_update:s")
            await listener.get_message(timeout=5)
            async with running(restarted):
                restarted.tell(5)
                await done(restarted)
            heard = await _heard(listener, 45)
    assert heard == restarted.messages[60:]
    assert await stream_of(reader) == expected(restarted)
    assert service.status()["replayed"] == 40


async def _heard(listener: Any, count: int) -> list[bytes]:
    messages: list[bytes] = []
    async with asyncio.timeout(5):
        while len(messages) < count:
            message = await listener.get_message(ignore_subscribe_messages=True, timeout=1)
            if message:
                messages.append(message["data"])
    return messages


async def test_a_hung_server_costs_lag_and_no_memory(
    service: SignalService,
    server: EmbeddedRedis,
    path: Path,
    reader: Any,
) -> None:
    record = Record(path)
    async with running(service, record):
        record.tell()
        await done(record)
        os.kill(server.pid or 0, signal.SIGSTOP)
        for _ in range(4_000):
            record.tell(2, b'"%s"' % (b"x" * 500))
            await asyncio.sleep(0)
        await eventually(lambda: not service.status()["redis_ok"])
        assert record.lane.lag == 8_000
        assert service.status()["waiting"] < 3 * FEED_EVENTS
        os.kill(server.pid or 0, signal.SIGCONT)
        await done(record)
    assert await stream_of(reader) == expected(record)


async def test_a_subscriber_that_reads_the_stream_at_a_jump_misses_nothing(
    service: SignalService,
    server: EmbeddedRedis,
    path: Path,
) -> None:
    record = Record(path)
    got: list[bytes] = []
    async with running(service, record):
        subscriber = asyncio.create_task(_subscribe(server.url, got))
        for _ in range(4):
            await chatter(record, rounds=60)
            async with redis.asyncio.Redis.from_url(server.url) as admin:
                await admin.client_kill_filter(_type="pubsub")
        await chatter(record, rounds=20)
        await done(record)
        await eventually(lambda: len(got) == len(record.events))
        subscriber.cancel()
        with pytest.raises(asyncio.CancelledError):
            await subscriber
    assert got == record.messages


async def _subscribe(url: str, got: list[bytes]) -> None:
    """Take events from pub/sub, and from the stream whenever the seq jumps or time has passed."""
    last = 0
    while True:
        try:
            client: Any = redis.asyncio.Redis.from_url(url, protocol=2)
            async with client, client.pubsub(ignore_subscribe_messages=True) as listener:
                await listener.subscribe("state_update:s")
                while True:
                    message = await listener.get_message(timeout=0.1)
                    news = [message["data"]] if message else []
                    if not news or orjson.loads(news[0])["seq"] > last + 1:
                        missed = await client.xrange("stream:state_update:s", min=f"({last}-0")
                        news = [fields[b"m"] for _, fields in missed]
                    for text in news:
                        if orjson.loads(text)["seq"] == last + 1:
                            got.append(text)
                            last += 1
        except redis.RedisError:
            await asyncio.sleep(0.01)


async def test_one_pairs_broken_key_does_not_hold_up_the_others(
    service: SignalService,
    path: Path,
    reader: Any,
) -> None:
    broken, sound = Record(path, "broken"), Record(path, "sound")
    async with running(service, broken, sound):
        await eventually(lambda: broken.lane.connected)
        await reader.set("stream:state_update:broken", "no stream")
        broken.tell(5)
        await eventually(lambda: service.status()["refused"])
        sound.tell(100)
        await done(sound, broken)  # hung up on, it comes again, and the key that is no stream goes
        assert service.status()["refused"] == {}
    assert await stream_of(reader, "broken") == expected(broken)


async def test_a_pair_that_restarts_takes_the_place_of_its_former_self(
    service: SignalService,
    path: Path,
) -> None:
    first, second = Record(path), Record(path)
    async with running(service):
        task = asyncio.create_task(first.lane._connection._converse())
        await eventually(lambda: first.lane.connected)
        async with running(second):
            await eventually(lambda: second.lane.connected)
            await task
            assert service.status()["lanes"] == 1


async def test_a_jump_in_the_sequence_ends_the_lane(service: SignalService, path: Path) -> None:
    record = Record(path)
    with capture_logs() as logs:
        async with running(service, record):
            await eventually(lambda: record.lane.connected)
            record.lane._sent = 5  # as a fault in the pair would have it
            record.add(5)
            record.tell()
            await done(record)
    assert "lane_sequence_broken" in {entry["event"] for entry in logs}


async def test_the_actors_class_serves_until_stopped(server: EmbeddedRedis, path: Path) -> None:
    supervisor = SignalSupervisor(path, server.url, 10_000, lambda: None)
    record = Record(path)
    async with running(record):
        record.tell(3)
        await done(record)
        assert orjson.loads(await supervisor.status())["published"] == 3
        await supervisor.stop()
        await eventually(lambda: not record.lane.connected)
