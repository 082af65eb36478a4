"""The push feed on a real server: what was pushed is handed out once, whatever ends in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import redis.asyncio

from feeds.push_stream import COUNT, PushStream
from market.errors import UsageError
from market.inputs import Clock, GapOpened, Position, Quote, TickBatch
from tests.feeds.push_feed_support import RULES, Journal, names, push
from tests.push_support import START_NS, STREAM, DurableRedis, durable, trade
from tests.support import eventually


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DurableRedis]:
    with durable(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def client(running: DurableRedis) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(running.url, protocol=2) as made:
        await made.flushall()
        yield made


async def test_a_quiet_stream_is_seen_to_live_and_one_that_never_was(
    client: Any, running: DurableRedis
) -> None:
    journal = Journal(running.url)
    async with journal.living():
        await eventually(lambda: len(journal.of(Position)) > 1)
        await client.xadd(STREAM, trade(0))
        await eventually(lambda: journal.ids)
        seen = len(journal.inputs)
        await eventually(lambda: len(journal.inputs) > seen)
    assert isinstance(journal.inputs[-1], Position)
    assert len(journal.of(Position)) == len(journal.inputs) - 1


async def test_what_is_pushed_is_handed_out_to_the_last_digit(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url)
    async with journal.living():
        await push(client, *map(trade, range(3)))
        await eventually(lambda: len(journal.ids) == 3)
        await push(client, trade(3))
        await eventually(lambda: len(journal.ids) == 4)
    columns = ["ts_ns", "price", "size", "side"]
    told = [row for batch in journal.of(TickBatch) for row in batch.ticks[columns].tolist()]
    assert told == [
        (START_NS, 100.0, 0.5, 1),
        (START_NS + 10**8, 100.875, 1.5, -1),
        (START_NS + 2 * 10**8, 101.75, 2.5, 1),
        (START_NS + 3 * 10**8, 102.625, 3.5, -1),
    ]
    assert journal.ids == names(0, 1, 2, 3)
    assert all(abs(int(b.ticks["received_ns"][0]) - time.time_ns()) < 60e9 for b in journal.of(TickBatch))


async def test_each_once_over_restarts_in_mid_stream(client: Any, running: DurableRedis) -> None:
    journal, count = Journal(running.url), 5 * COUNT
    await push(client, *map(trade, range(count)))
    while len(journal.ids) < count:
        async with journal.living(pause_s=0.001):
            await eventually(partial(journal.beyond, len(journal.ids)))
    assert journal.ids == names(*range(count))
    assert not journal.of(GapOpened)


async def test_one_page_waits_and_the_next_is_read_when_it_was_taken(
    client: Any, running: DurableRedis
) -> None:
    await push(client, *map(trade, range(3 * COUNT)))
    journal = Journal(running.url)
    feeding = asyncio.create_task(journal.feed.run())
    try:
        for pages in range(1, 4):
            await eventually(lambda: journal.feed._ready)
            assert journal.feed.behind == (3 - pages) * COUNT
            journal.inputs += journal.feed.take(1, None)
            assert len(journal.ids) == pages * COUNT
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_what_is_journaled_is_let_go(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url)
    async with journal.living():
        await push(client, *map(trade, range(30_000)))
        await eventually(lambda: journal.feed.behind == 0 and journal.beyond(29_999))

        async def small() -> bool:
            return int(await client.xlen(STREAM)) <= 200

        await eventually(small)
    assert await client.xlen(STREAM) > 0  # the newest that was read stays


async def test_what_shall_stay_stays(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url, replace(RULES, trim=False))
    async with journal.living():
        await push(client, *map(trade, range(1_500)))
        await eventually(lambda: len(journal.ids) == 1_500)
        await push(client, trade(1_500))
        await eventually(lambda: len(journal.ids) == 1_501)
    assert await client.xlen(STREAM) == 1_501


async def test_a_collector_that_pushes_again_doubles_nothing(client: Any, running: DurableRedis) -> None:
    """The newest ids are remembered; the record is asked for the others, after a restart for nearly all."""
    journal = Journal(running.url)
    async with journal.living() as feed:
        await push(client, *map(trade, [0, 1, 1, 2]))
        await push(client, *map(trade, range(60)))
        await eventually(lambda: len(journal.ids) == 60)
        assert feed.duplicates == 4
        assert journal.asked == []
    async with journal.living() as feed:
        await push(client, *map(trade, range(70)))
        await eventually(lambda: len(journal.ids) == 70)
        assert feed.duplicates == 60
    assert journal.ids == names(*range(70))
    assert journal.asked == [names(*range(50))]


async def test_quotes_are_conflated_and_the_time_closes_bars(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url)
    quote = {"bid": "1", "bid_size": "2", "ask": "3", "ask_size": "4"}
    async with journal.living():
        await push(client, {"ts_ns": str(START_NS)})  # before any trade there is nothing to close
        await push(client, *({**quote, "bid": str(i), "ts_ns": str(START_NS + i)} for i in range(1, 400)))
        await eventually(lambda: journal.of(Quote) and journal.of(Quote)[-1].bid_price == 399)
        assert len(journal.of(Quote)) < 100
        assert not journal.of(Clock)
        await push(client, trade(0), {"ts_ns": str(START_NS + 5)})
        await eventually(lambda: journal.of(Clock))
        journal.next_close_ns = START_NS + 10
        await push(client, {"ts_ns": str(START_NS + 9)}, {"ts_ms": str(START_NS // 10**6 + 1)})
        await eventually(lambda: len(journal.of(Clock)) == 2)
    assert [one.ts_ns for one in journal.of(Clock)] == [START_NS + 5, START_NS + 10**6]


async def test_sides_that_nobody_knows_are_inferred_and_counted_over_a_restart(
    client: Any, running: DurableRedis
) -> None:
    journal = Journal(running.url)
    for number, price in enumerate([5, 4, 4, 6]):
        async with journal.living() as feed:
            await push(client, trade(number, price=price, side=""))
            await eventually(partial(journal.beyond, number))
            assert feed.status()["sides_inferred"] == number + 1
    assert [int(side) for b in journal.of(TickBatch) for side in b.ticks["side"]] == [1, -1, -1, 1]


def test_where_it_reads_is_told_without_the_password() -> None:
    assert PushStream("redis://me:secret@host:6379/2?password=secret", "s").server == "redis://host:6379/2"
    with pytest.raises(UsageError, match=r"redis\.url"):
        PushStream("http://host", "s")
