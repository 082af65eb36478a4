"""The push feed on a real server: what was pushed is handed out once, whatever ends in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis.asyncio

from feeds.frames import Trade
from feeds.push import GONE, OTHER, PushFeed, PushRules, Start
from feeds.push_order import Counted, Order, Texts
from feeds.push_stream import COUNT, PushStream
from market.errors import Retryable, UsageError
from market.inputs import (
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Position,
    Quote,
    Rejected,
    TickBatch,
)
from tests.push_support import START_NS, STREAM, DurableRedis, durable, trade
from tests.support import eventually

T = TypeVar("T")
RULES = PushRules(counted=False, trim=True, stale_after_s=0.3, quotes_interval_ms=50)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DurableRedis]:
    with durable(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DurableRedis]:
    """One that a test may kill."""
    with durable(tmp_path) as made:
        yield made


@pytest.fixture
async def client(running: DurableRedis) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(running.url, protocol=2) as made:
        await made.flushall()
        yield made


class Journal:
    """Take what a feed hands out as an engine does, and know it after a restart."""

    def __init__(self, url: str, rules: PushRules = RULES) -> None:
        self.url, self.rules = url, rules
        self.inputs: list[Input] = []
        self.asked: list[list[str]] = []
        self.next_close_ns: int | None = None
        self.feed = self._feed()

    @property
    def ids(self) -> list[str]:
        return [
            name
            for batch in self.of(TickBatch)
            for name in batch.ids or map(str, batch.ticks["trade_id"].tolist())
        ]

    def beyond(self, count: int) -> bool:
        return len(self.ids) > count

    def of(self, kind: type[T]) -> list[T]:
        return [one for one in self.inputs if isinstance(one, kind)]

    @asynccontextmanager
    async def living(self, pause_s: float = 0.0) -> AsyncIterator[PushFeed]:
        """Begin where the journal ends; at the end what was not taken is forgotten."""
        self.feed = self._feed()
        feeding, taking = asyncio.create_task(self.feed.run()), asyncio.create_task(self._take(pause_s))
        try:
            yield self.feed
        finally:
            for task in (feeding, taking):
                task.cancel()
            await asyncio.gather(feeding, taking, return_exceptions=True)

    async def _take(self, pause_s: float) -> None:
        while True:
            await self.feed.wait(0.05)
            self.inputs += self.feed.take(time.time_ns(), self.next_close_ns)
            await asyncio.sleep(pause_s)

    def _feed(self) -> PushFeed:
        positions, stale = self.of(Position), len(self.of(FeedStale)) > len(self.of(FeedRecovered))
        start = Start(positions[-1].text if positions else "", stale)
        return PushFeed(PushStream(self.url, STREAM), self._order(), self._known, self.rules, start)

    def _order(self) -> Order:
        newest = max((int(batch.ticks["ts_ns"].max()) for batch in self.of(TickBatch)), default=0)
        if not self.rules.counted:
            return Texts(len(self.ids) + 1, self.ids[-10:], newest)
        return Counted(max(map(int, self.ids)) + 1 if self.ids else None, last_ts_ns=newest)

    async def _known(self, trades: Sequence[Trade]) -> set[str]:
        self.asked.append([str(one.id) for one in trades])
        return {str(one.id) for one in trades} & set(self.ids)


async def push(client: Any, *entries: dict[str, str]) -> None:
    async with client.pipeline(transaction=False) as pipe:
        for fields in entries:
            pipe.xadd(STREAM, fields)
        await pipe.execute()


def names(*numbers: int) -> list[str]:
    return [trade(number)["id"] for number in numbers]


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


async def test_entries_deleted_unread_are_a_gap_without_ids(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url)
    async with journal.living():
        await push(client, *map(trade, range(5)))
        await eventually(lambda: len(journal.ids) == 5)
    await push(client, *map(trade, range(5, 20)))
    await client.xtrim(STREAM, maxlen=10, approximate=False)  # the collector's own bound
    entries = await client.xrange(STREAM)
    await client.xdel(STREAM, entries[4][0])
    async with journal.living():
        await eventually(lambda: len(journal.ids) == 14)
    assert journal.ids == names(*range(5), *range(10, 14), *range(15, 20))
    (opened,), (closed,) = journal.of(GapOpened), journal.of(GapClosed)
    assert (opened.counted, opened.reason) == (False, "6 entries were deleted before they were read")
    assert (opened.first_id, opened.from_ns, opened.to_ns) == (6, START_NS + 4 * 10**8, START_NS + 10**9)
    assert (closed.first_id, closed.missing, closed.rows) == (6, 6, 0)
    async with journal.living():  # told once
        await push(client, trade(20))
        await eventually(lambda: len(journal.ids) == 15)
    assert len(journal.of(GapOpened)) == 1


async def test_the_ids_tell_which_are_gone_where_they_count(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url, replace(RULES, counted=True))
    async with journal.living() as feed:
        await push(client, *(trade(i, i) for i in range(5)))
        await eventually(lambda: len(journal.ids) == 5)
    await push(client, *(trade(i, i) for i in range(5, 12)))
    await client.xtrim(STREAM, maxlen=4, approximate=False)
    async with journal.living() as feed:
        await eventually(lambda: len(journal.ids) == 9)
        (opened,) = journal.of(GapOpened)
        assert (opened.first_id, opened.last_id, opened.counted) == (5, 7, True)
        assert opened.reason == "3 entries were deleted before they were read"
        assert feed.status()["holes"] == 1
        await push(client, *(trade(i, i) for i in (7, 5, 6, 5)))
        await eventually(lambda: journal.of(GapClosed))
        assert feed.status()["holes"] == 0
    assert sorted(map(int, journal.ids)) == list(range(12))


async def test_what_was_deleted_before_the_first_look_is_not_owed(client: Any, running: DurableRedis) -> None:
    await push(client, *map(trade, range(50)))
    await client.xtrim(STREAM, maxlen=5, approximate=False)
    journal = Journal(running.url)
    async with journal.living():
        await eventually(lambda: len(journal.ids) == 5)
    assert not journal.of(GapOpened)


async def test_a_killed_server_is_stale_and_gives_the_rest_when_it_is_back(server: DurableRedis) -> None:
    journal = Journal(server.url)
    async with journal.living() as feed, redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
        await push(client, *map(trade, range(10)))
        await eventually(lambda: len(journal.ids) == 10)
        assert feed.status()["state"] == "streaming"
        server.kill()
        await eventually(lambda: journal.of(FeedStale))
        assert feed.status()["state"] == "stale"
        assert "Redis" in journal.of(FeedStale)[0].reason
        server.start()
        await push(client, *map(trade, range(10, 20)))
        await eventually(lambda: len(journal.ids) == 20)
        await eventually(lambda: journal.of(FeedRecovered))
        assert (feed.status()["state"], feed.status()["reconnects"]) == ("streaming", 1)
    assert journal.ids == names(*range(20))
    assert not journal.of(GapOpened)


async def test_a_server_that_was_never_there_is_stale(tmp_path: Path) -> None:
    journal = Journal(f"unix://{tmp_path}/none.sock")
    async with journal.living() as feed:
        await eventually(lambda: journal.of(FeedStale))
        assert "none.sock" in str(feed.status()["last_error"])


@pytest.mark.parametrize("pushed", [3, 30])
async def test_a_stream_begun_anew_is_read_from_its_beginning_and_said(
    client: Any, running: DurableRedis, pushed: int
) -> None:
    journal = Journal(running.url)
    async with journal.living():
        await push(client, *map(trade, range(10)))
        await eventually(lambda: len(journal.ids) == 10)
    await client.delete(STREAM)
    for number in range(pushed):  # ids of its own, from before the ones that were read
        await client.xadd(STREAM, trade(100 + number), id=f"{number + 1}-1")
    async with journal.living():
        await eventually(lambda: len(journal.ids) == 10 + pushed)
        await push(client, trade(200))
        await eventually(lambda: len(journal.ids) == 11 + pushed)
    assert journal.ids == names(*range(10), *range(100, 100 + pushed), 200)
    (opened,), (closed,) = journal.of(GapOpened), journal.of(GapClosed)
    assert (opened.reason, opened.counted, closed.missing) == (GONE, False, 1)
    assert (opened.from_ns, opened.to_ns) == (START_NS + 9 * 10**8, START_NS + 10**10)


async def test_a_stream_that_is_replaced_under_a_reader_loses_nothing_of_the_new_one(
    client: Any, running: DurableRedis
) -> None:
    journal = Journal(running.url)
    async with journal.living(pause_s=0.05) as feed:
        await push(client, *map(trade, range(10)))
        await eventually(lambda: len(journal.ids) == 10)
        async with client.pipeline(transaction=True) as pipe:
            pipe.delete(STREAM)
            for number in range(3 * COUNT):
                pipe.xadd(STREAM, trade(100 + number), id=f"{number + 1}-1")
            await pipe.execute()
        await eventually(lambda: len(journal.ids) == 10 + 3 * COUNT)
        assert feed.status()["duplicates"] == 0
    assert journal.ids == names(*range(10), *range(100, 100 + 3 * COUNT))
    assert [one.reason for one in journal.of(GapOpened)] == [GONE]


async def test_a_server_that_went_back_in_time_is_said(client: Any, running: DurableRedis) -> None:
    """A snapshot of before, then more was pushed than had been lost: as from a backup without the log."""
    journal = Journal(running.url, replace(RULES, trim=False))
    await push(client, *map(trade, range(5)))
    backup = await client.dump(STREAM)
    await push(client, *map(trade, range(5, 10)))
    async with journal.living():
        await eventually(lambda: len(journal.ids) == 10)
    await client.restore(STREAM, 0, backup, replace=True)
    await push(client, *map(trade, range(20, 26)))
    async with journal.living():
        await eventually(lambda: len(journal.ids) == 16)
    assert journal.ids == names(*range(10), *range(20, 26))
    assert [one.reason for one in journal.of(GapOpened)] == [OTHER]


async def test_bad_entries_are_named_counted_and_passed(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url)
    async with journal.living() as feed:
        await push(client, trade(0), trade(1, price="dear"), {"x": "y"}, trade(2))
        await client.xadd(STREAM, {b"price": b"\xff"})
        await eventually(lambda: len(journal.of(Rejected)) == 3)
        await push(client, trade(3))
        await eventually(lambda: len(journal.ids) == 3)
        assert feed.status()["rejected"] == 3
    assert [one.reason for one in journal.of(Rejected)] == ["price dear", "no ts_ns", "price is not UTF-8"]
    assert journal.ids == names(0, 2, 3)


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


async def test_a_key_of_another_kind_is_a_named_trouble_until_it_goes(
    client: Any, running: DurableRedis
) -> None:
    await client.set(STREAM, "no stream")
    journal = Journal(running.url)
    async with journal.living() as feed:
        await eventually(lambda: journal.of(FeedStale))
        assert "WRONGTYPE" in journal.of(FeedStale)[0].reason
        await client.delete(STREAM)
        await push(client, trade(0))
        await eventually(lambda: journal.ids)
        await eventually(lambda: feed.status()["state"] == "streaming")


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


async def test_a_record_that_cannot_be_asked_makes_the_page_wait(client: Any, running: DurableRedis) -> None:
    journal = Journal(running.url)
    async with journal.living():
        await push(client, *map(trade, range(20)))
        await eventually(lambda: len(journal.ids) == 20)
    asks, known = [0], journal._known

    async def refusing(trades: Sequence[Trade]) -> set[str]:
        asks[0] += 1
        if asks[0] < 3:
            raise Retryable("the disk refuses")
        return await known(trades)

    journal._known = refusing  # type: ignore[method-assign]
    async with journal.living():
        await push(client, trade(3), trade(20))
        await eventually(lambda: len(journal.ids) == 21)
    assert asks == [3]
    assert journal.ids == names(*range(21))


async def test_a_server_that_lets_nobody_trim_is_read_on_and_said(client: Any, running: DurableRedis) -> None:
    await client.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@all", "-eval")
    journal = Journal(running.url.replace("unix://", "unix://reader:word@"))
    async with journal.living() as feed:
        await push(client, *map(trade, range(5)))
        await eventually(lambda: "eval" in str(feed.status()["untrimmed"]))
        await push(client, *map(trade, range(5, 9)))
        await eventually(lambda: len(journal.ids) == 9)
        assert feed.status()["state"] == "streaming"


def test_where_it_reads_is_told_without_the_password() -> None:
    assert PushStream("redis://me:secret@host:6379/2?password=secret", "s").server == "redis://host:6379/2"
    with pytest.raises(UsageError, match=r"redis\.url"):
        PushStream("http://host", "s")
