from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.engine import sweep_plan, with_former
from actors.retention import RetentionService
from market.errors import MarketdError, Retryable
from storage.archive import ArchiveDamaged
from tests.support import eventually

S = 1_000_000_000


class Pairs:
    """Pairs that answer with what they are told to: numbers of rows, or errors."""

    def __init__(self, **answers: list[int | MarketdError]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.compactions = 0
        self.damage: MarketdError | None = None

    async def ask(self, pair: str) -> dict[str, Any]:
        self.asked.append(pair)
        answer = self.answers[pair].pop(0) if self.answers[pair] else 0
        if isinstance(answer, MarketdError):
            raise answer
        return {"rows": answer, "bytes": 6 * answer, "more": answer >= 100}

    def compact(self) -> int:
        self.compactions += 1
        if self.damage:
            raise self.damage
        return 1


@asynccontextmanager
async def sweeping(pairs: Pairs) -> AsyncIterator[RetentionService]:
    service = RetentionService(list(pairs.answers), 0.01, pairs.ask, pairs.compact)
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_pair_with_more_is_asked_again_at_once() -> None:
    pairs = Pairs(a=[100, 100, 7], b=[5])
    async with sweeping(pairs) as service:
        await eventually(lambda: service.status()["compacted"])
        assert pairs.asked[:4] == ["a", "a", "a", "b"]
        assert (service.status()["rows"], service.status()["bytes"]) == (212, 6 * 212)
        assert service.status()["troubles"] == {}


@pytest.mark.parametrize("trouble", [Retryable("no space left on device"), ArchiveDamaged("x.parquet")])
async def test_trouble_is_named_and_counted_and_the_others_go_on(trouble: MarketdError) -> None:
    pairs = Pairs(a=[trouble, trouble], b=[5])
    pairs.damage = ArchiveDamaged("1 damaged files in the archive")
    async with sweeping(pairs) as service:
        await eventually(lambda: pairs.compactions > 3)
        assert service.status()["rows"] == 5
        assert service.status()["troubles"] == {"archive": "1 damaged files in the archive"}
        assert service.status()["failures"] >= 5
        pairs.damage = None
        await eventually(lambda: service.status()["troubles"] == {})


def test_candles_of_a_former_timeframe_go_with_the_slowest() -> None:
    tables = ["ticks", "candles_1m", "candles_2m", "meta"]
    assert with_former({"ticks": 5, "candles_1m": 60, "candles_5m": 300}, tables) == {
        "ticks": 5,
        "candles_1m": 60,
        "candles_5m": 300,
        "candles_2m": 300,
    }
    assert with_former({"ticks": 5}, tables) == {"ticks": 5}  # candles stay for ever


def test_what_may_go_is_older_by_the_pairs_own_clock_and_acknowledged() -> None:
    plan = sweep_plan(1_000 * S, {"ticks": 900, "events": 60, "quotes": 10}, {"ticks": 77, "events": 5})
    assert plan == {"ticks": (100 * S, 77), "events": (940 * S, 5), "quotes": (990 * S, None)}
