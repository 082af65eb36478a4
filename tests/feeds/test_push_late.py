"""What is pushed a month late is refused and said, on a real server, unless the record has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from market.inputs import GapOpened, Rejected
from market.times import DAY_NS
from tests.feeds.push_feed_support import RULES, Journal, names, push
from tests.push_support import START_NS, DurableRedis, durable, trade
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


async def test_a_trade_long_before_the_newest_is_refused_unless_the_record_has_it(
    client: Any, running: DurableRedis
) -> None:
    journal = Journal(running.url)
    old = [trade(n, ts_ns=START_NS - 31 * DAY_NS + n) for n in range(3)]
    async with journal.living():
        await push(client, old[0], trade(10), old[1])
        await eventually(lambda: journal.ids and journal.of(Rejected))
    async with journal.living() as feed:  # which knows the newest from the journal
        await push(
            client, *old, {"ts_ns": str(START_NS + 10 * DAY_NS)}, trade(11, ts_ns=START_NS - 25 * DAY_NS)
        )
        await push(client, trade(12))
        await eventually(lambda: trade(12)["id"] in journal.ids)
        assert (feed.duplicates, feed.rejected) == (1, 3)
    assert journal.ids == names(0, 10, 12)
    assert {one.reason.partition(": ")[2] for one in journal.of(Rejected)} == {
        "more than 30 days before the newest"
    }


async def test_counted_ids_that_came_too_late_stay_missing(client: Any, running: DurableRedis) -> None:
    journal, old_ns = Journal(running.url, replace(RULES, counted=True)), START_NS - 31 * DAY_NS
    async with journal.living() as feed:
        await push(client, trade(5, 5))
        await eventually(lambda: journal.ids)
        await push(client, trade(6, 6, ts_ns=old_ns), trade(5, 5, ts_ns=old_ns), trade(7, 7))
        await eventually(lambda: len(journal.ids) == 2)
        assert (feed.rejected, feed.duplicates, feed.status()["holes"]) == (1, 1, 1)
    assert [(one.first_id, one.last_id) for one in journal.of(GapOpened)] == [(6, 6)]
