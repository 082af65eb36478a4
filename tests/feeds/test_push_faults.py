"""The push feed on a real server when something goes wrong: what is lost is said, the rest handed on once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from feeds.frames import Trade
from feeds.push import GONE, OTHER
from feeds.push_stream import COUNT
from market.errors import Retryable
from market.inputs import FeedRecovered, FeedStale, GapClosed, GapOpened, Rejected
from tests.feeds.push_feed_support import RULES, Journal, names, push
from tests.push_support import START_NS, STREAM, DurableRedis, durable, trade
from tests.support import eventually


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
