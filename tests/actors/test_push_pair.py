"""A pushed pair with its files: what it has it knows, wherever it lies by now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from actors.pair import PairService
from actors.spec import PairSpec, PushSource
from market.pairs import Pair
from market.times import DAY_NS
from tests.actors.pair_support import QUICK, candles, tables, working
from tests.push_support import START_NS, STREAM, DurableRedis, durable, trade
from tests.support import eventually

PAIR = Pair("pool", "dex", "WETH-USDC")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DurableRedis]:
    with durable(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
async def client(server: DurableRedis) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(server.url, protocol=2) as made:
        await made.flushall()
        yield made


@pytest.fixture
def spec(tmp_path: Path, server: DurableRedis) -> PairSpec:
    folder = tmp_path / "data" / PAIR.path
    hot_s = dict.fromkeys(("ticks", "order_flow", "events"), 1)
    source = PushSource(server.url, STREAM)
    return PairSpec(PAIR, PAIR.key, folder, source, QUICK, hot_s=hot_s, contiguous=False)


async def push(client: Any, *entries: dict[str, str]) -> None:
    for fields in entries:
        await client.xadd(STREAM, fields)


async def has(service: PairService, **wanted: int) -> None:
    await eventually(lambda: wanted.items() <= service.status().items(), 20.0)


def ids(spec: PairSpec) -> list[str]:
    return [row[5] for row in tables(spec.folder)["ticks"]]


async def test_what_went_to_the_archive_is_known_by_its_id(client: Any, spec: PairSpec) -> None:
    pushed = [trade(number) for number in range(300)]
    async with working(spec) as service:
        await push(client, *pushed)
        await has(service, ticks=300)
        assert (await service.sweep())["rows"] > 250
        await push(client, *pushed[:200], trade(300), *pushed[200:])
        await has(service, ticks=301, duplicates=300)
    async with working(spec) as service:  # whose memory is short
        await push(client, *pushed, trade(301))
        await has(service, ticks=302, duplicates=300)
        assert all(ok for _, ok, _ in await service.prove())


async def test_holes_that_are_open_at_a_restart_are_filled_after_it(client: Any, spec: PairSpec) -> None:
    counted = replace(spec, contiguous=True)
    async with working(counted) as service:
        await push(client, *(trade(n, n) for n in range(100) if n % 10 not in {3, 4, 5} or n < 30))
        await has(service, ticks=79, holes=7)
        await push(client, trade(34, 34), trade(43, 43))
        await has(service, ticks=81)
        assert (await service.sweep())["rows"] > 0
    async with working(counted) as service:
        await has(service, holes=7)
        await push(client, *(trade(n, n) for n in range(30, 70)))
        await has(service, ticks=91, holes=3, duplicates=30)
        assert all(ok for _, ok, _ in await service.prove())
    gaps = tables(spec.folder)["data_gaps"]
    assert [(row[1], row[2], row[6], row[8]) for row in gaps] == [
        (first, first + 2, *(("FILLED", 3) if first < 70 else ("OPEN", 0))) for first in range(33, 100, 10)
    ]


async def test_a_record_keeps_the_kind_of_ids_it_began_with(client: Any, spec: PairSpec) -> None:
    async with working(spec) as service:
        await push(client, trade(1, 7))
        await has(service, ticks=1)
    async with working(replace(spec, contiguous=True)) as service:
        await eventually(lambda: service.failure, 20.0)
        assert "contiguous_ids = true, but its record began with false" in service.failure
    assert ids(spec) == ["7"]


async def test_sides_that_nobody_told_are_marked_in_the_file(client: Any, spec: PairSpec) -> None:
    async with working(spec) as service:
        await push(client, trade(1, side=""), trade(2), trade(3, side=""))
        await has(service, ticks=3, sides_inferred=2)
    (spec.folder / "trading.duckdb").unlink()  # made anew from the journal
    async with working(spec) as service:
        await has(service, ticks=3)
        out = spec.folder / "out.json"
        await service.query("SELECT value FROM meta WHERE key = 'sides_inferred'", "json", out)
        assert '"value":"2"' in out.read_text()


async def test_a_trade_ten_days_late_stops_nothing(client: Any, spec: PairSpec) -> None:
    spec = replace(spec, engine=replace(QUICK, timeframes_s=(60, 300, 900)))
    late, too_late = (trade(n, ts_ns=START_NS - days * DAY_NS) for n, days in ((1_000, 10), (1_001, 31)))
    async with working(spec) as service:
        await push(client, trade(0))  # in one page they would be put in order
        await has(service, ticks=1)
        await push(client, late, too_late, trade(600))
        await has(service, ticks=3, rejected=1)
        assert all(ok for _, ok, _ in await service.prove())
    async with working(spec) as service:
        await push(client, late, trade(1_200))
        await has(service, ticks=4, duplicates=1)
        assert all(ok for _, ok, _ in await service.prove())
    read = tables(spec.folder)
    volumes = [row.volume for row in candles(read, 60)]
    assert (len(volumes), volumes[0], set(volumes[1:-2]), volumes[-2:]) == (14_402, 0.5, {0.0}, [0.5, 0.5])
    assert len(read["events"]) < 100_000
    assert [row[1] for row in read["rejected"]] == [
        f"ts_ns {START_NS - 31 * DAY_NS}: more than 30 days before the newest"
    ]
