from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from market.errors import Retryable, UsageError
from market.events import Event
from storage.bus import ENTRY_BYTES, MAX_STREAM_ENTRIES, STREAM_BUDGET_BYTES, Bus, stream_maxlen
from storage.embedded_redis import EmbeddedRedis
from tests.support import eventually

PAIR = "binance:spot:BTCUSDT"
STREAM = f"stream:state_update:{PAIR}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(server: EmbeddedRedis) -> AsyncIterator[Bus]:
    bus = Bus(server.url)
    yield bus
    await bus.close()


@pytest.fixture
async def reader(server: EmbeddedRedis) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
        yield client


def messages(first: int, last: int) -> list[tuple[int, bytes]]:
    return [(seq, b'{"seq":%d}' % seq) for seq in range(first, last + 1)]


def entries(first: int, last: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(b"%d-0" % seq, {b"m": b'{"seq":%d}' % seq}) for seq in range(first, last + 1)]


async def test_an_event_goes_to_its_stream_and_to_both_channels(bus: Bus, reader: Any) -> None:
    async with reader.pubsub() as listener:
        await listener.subscribe("state_update", f"state_update:{PAIR}")
        await bus.publish(PAIR, messages(1, 2))
        heard: list[tuple[str, bytes]] = []
        while len(heard) < 4:
            message = await listener.get_message(ignore_subscribe_messages=True, timeout=5)
            if message:
                heard.append((message["channel"].decode(), message["data"]))
    for channel in ("state_update", f"state_update:{PAIR}"):
        assert [data for name, data in heard if name == channel] == [b'{"seq":1}', b'{"seq":2}']
    assert await reader.xrange(STREAM) == entries(1, 2)


async def test_a_replay_is_counted_and_doubles_nothing(bus: Bus, reader: Any) -> None:
    assert await bus.publish(PAIR, messages(1, 5)) == 0
    assert await bus.publish(PAIR, messages(3, 8)) == 3
    assert await reader.xrange(STREAM) == entries(1, 8)


async def test_many_symbols_and_snapshots_share_a_pipeline(bus: Bus, reader: Any) -> None:
    events = {f"s{i}": messages(1, i) for i in range(1, 4)}
    sent = await bus.send(events, {"s1": {"price": 0.1, "volume": 3, "timestamp": "2025-12-21T12:01:00Z"}})
    assert sent == (0, {}, 0)
    assert [await reader.xlen(f"stream:state_update:s{i}") for i in range(1, 4)] == [1, 2, 3]
    assert await reader.hgetall("market:snapshot:s1") == {
        b"price": b"0.1",
        b"volume": b"3",
        b"timestamp": b"2025-12-21T12:01:00Z",
    }
    assert 55 < await reader.ttl("market:snapshot:s1") <= 60


async def test_one_refused_symbol_does_not_stop_the_others(bus: Bus, reader: Any) -> None:
    await reader.set(STREAM, "no stream")
    await reader.set("market:snapshot:other", "no hash")
    sent = await bus.send({PAIR: messages(1, 2), "other": messages(1, 2)}, {"other": {"price": 1.0}})
    assert list(sent.refused) == [PAIR]
    assert sent.snapshots_refused == 1
    assert await reader.xlen("stream:state_update:other") == 2
    with pytest.raises(Retryable, match="WRONGTYPE"):
        await bus.publish(PAIR, messages(1, 1))


async def test_streams_want_what_follows_their_last_id(bus: Bus, reader: Any) -> None:
    await bus.publish("a", messages(1, 7))
    await bus.publish("b", messages(1, 3))
    await reader.xtrim("stream:state_update:b", maxlen=0)  # an empty stream still knows its last id
    assert await bus.resume_points({"a": 7, "b": 9, "new": 4}) == {"a": 7, "b": 3, "new": 0}


async def test_a_stream_of_another_record_goes(bus: Bus, reader: Any) -> None:
    await bus.publish(PAIR, messages(1, 7))
    await reader.set("stream:state_update:text", "no stream")
    with capture_logs() as logs:
        assert await bus.resume_points({PAIR: 6, "text": 1}) == {PAIR: 0, "text": 0}
    assert [entry["event"] for entry in logs] == ["stream_of_another_record"] * 2
    assert await reader.keys("stream:*") == []


async def test_a_stream_with_a_hole_is_begun_anew(bus: Bus, reader: Any) -> None:
    await bus.publish(PAIR, messages(1, 3))
    # The server refuses 0-0 for another reason than being a replay, then takes 4: as when it runs out of
    # memory for a moment in the middle of a pipeline.
    sent = await bus.send({PAIR: [(0, b"refused"), *messages(4, 4)]})
    assert list(sent.refused) == [PAIR]
    assert await bus.resume_points({PAIR: 4}) == {PAIR: 0}
    assert await reader.exists(STREAM) == 0


async def test_a_stream_that_somebody_deletes_is_not_begun_in_the_middle(bus: Bus, reader: Any) -> None:
    await bus.publish(PAIR, messages(1, 3))
    await reader.delete(STREAM)
    for _ in range(2):  # nor when it is asked again, before the resume points are known
        with pytest.raises(Retryable):
            await bus.publish(PAIR, messages(4, 5))
    assert await reader.exists(STREAM) == 0
    assert await bus.resume_points({PAIR: 5}) == {PAIR: 0}
    assert await bus.publish(PAIR, messages(1, 5)) == 0
    assert await reader.xrange(STREAM) == entries(1, 5)


@pytest.mark.parametrize("alien", ["5-0", "99-0"])
async def test_a_foreign_entry_ahead_of_the_stream_is_no_replay(bus: Bus, reader: Any, alien: str) -> None:
    await bus.resume_points({PAIR: 0})
    await bus.publish(PAIR, messages(1, 4))
    await reader.xadd(STREAM, {"m": "of somebody else"}, id=alien)
    sent = await bus.send({PAIR: messages(5, 6)})
    assert sent.refused == {PAIR: "its stream holds an entry of another record"}
    with capture_logs() as logs:
        assert await bus.resume_points({PAIR: 6}) == {PAIR: 0}
    assert [entry["event"] for entry in logs] == ["stream_of_another_record"]
    assert await bus.publish(PAIR, messages(1, 6)) == 0
    assert await reader.xrange(STREAM) == entries(1, 6)


async def test_after_a_loss_nothing_is_sent_before_the_resume_points_are_known(
    bus: Bus,
    server: EmbeddedRedis,
) -> None:
    await bus.publish(PAIR, messages(1, 3))
    os.kill(server.pid or 0, signal.SIGKILL)
    await eventually(lambda: not server.alive())
    with pytest.raises(Retryable):
        await bus.publish(PAIR, messages(4, 4))
    server.start()
    with pytest.raises(Retryable, match="resume_points"):
        await bus.publish(PAIR, messages(4, 4))
    assert await bus.resume_points({PAIR: 4}) == {PAIR: 0}
    assert await bus.publish(PAIR, messages(1, 4)) == 0


async def test_a_hung_server_is_retryable_and_replies_never_mix(
    bus: Bus,
    server: EmbeddedRedis,
    reader: Any,
) -> None:
    await bus.ping()
    usual_s, bus._timeout_s = bus._timeout_s, 0.3
    os.kill(server.pid or 0, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(Retryable, match="no answer in time"):
        await bus.publish(PAIR, messages(1, 2000))
    with pytest.raises(Retryable):
        await bus.ping()
    assert time.monotonic() - began < 2
    os.kill(server.pid or 0, signal.SIGCONT)
    bus._timeout_s = usual_s
    await eventually(lambda: _resumed(bus))
    await bus.publish(PAIR, messages(1, 2001))
    assert await reader.xlen(STREAM) == 2001


async def _resumed(bus: Bus) -> bool:
    try:
        return bool(await bus.resume_points({PAIR: 2001}))
    except Retryable:
        return False


async def test_a_cancelled_pipeline_leaves_no_answers_behind(bus: Bus) -> None:
    task = asyncio.create_task(bus.publish(PAIR, messages(1, 500)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    point = (await bus.resume_points({PAIR: 500}))[PAIR]
    assert await bus.publish(PAIR, messages(1, 500)) == point


async def test_nobody_there_is_retryable(tmp_path: Path) -> None:
    bus = Bus(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(Retryable):
        await bus.ping()


@pytest.mark.parametrize(
    "url",
    ["", "http://host", "redis://host:port", "unix://", "redis://host?db=x", "redis://host?nonsense=1"],
)
def test_a_malformed_url_is_the_users_mistake(url: str) -> None:
    with pytest.raises(UsageError, match=r"redis\.url"):
        Bus(url)


@pytest.mark.parametrize("url", ["redis://u:p@host:1/2", "rediss://host", "unix:///a%20b.sock?db=1"])
def test_every_form_of_url_is_understood(url: str) -> None:
    assert Bus(url).maxlen == MAX_STREAM_ENTRIES  # it is made, and nothing is asked of the server yet


async def test_only_an_allkeys_policy_is_warned_of(bus: Bus, reader: Any) -> None:
    assert await bus.policy_warning() is None
    await reader.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in (await bus.policy_warning() or "")


def test_streams_shrink_with_the_number_of_pairs() -> None:
    assert stream_maxlen(0) == stream_maxlen(1) == 10_000
    assert (
        stream_maxlen(200) * 200 * ENTRY_BYTES <= STREAM_BUDGET_BYTES < stream_maxlen(200) * 201 * ENTRY_BYTES
    )


async def test_an_entry_takes_no_more_memory_than_estimated(bus: Bus, reader: Any) -> None:
    row = b'{"timeframe":"1m","timestamp":"2025-12-21T12:01:00Z","open":104213.97,"high":104299.0,'
    row += b'"low":104200.01,"close":104250.55,'
    row += b'"volume":12.345678901,"buy_volume":6.1234567,"sell_volume":6.2222213,'
    row += b'"vwap":104248.12345678901,"trade_count":1234,"is_complete":true,"revision":0}'
    batch = [
        (n, Event(n, 1_766_318_460_000_000_000, "CANDLE_CLOSED", row).message(PAIR)) for n in range(1, 3001)
    ]
    await bus.publish(PAIR, batch)
    used = await reader.memory_usage(STREAM, samples=0) / await reader.xlen(STREAM)
    assert len(batch[-1][1]) < used < ENTRY_BYTES


async def test_a_stream_keeps_about_its_maxlen(bus: Bus, reader: Any) -> None:
    bus.maxlen = 100
    await bus.publish(PAIR, messages(1, 2000))
    assert 100 <= await reader.xlen(STREAM) <= 200
