"""The daemon under kills of every process of it and every fault of its venue, at random."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon.fault_run import HOT_S, FaultRun, with_tick_size
from tests.daemon.support import daemon, exchange

pytestmark = pytest.mark.timeout(900)

FAULTS = 16
SEED = 11
BTC, ETH = SYMBOLS = ("BTCUSDT", "ETHUSDT")


async def test_whatever_happens_the_record_is_that_of_a_replay(tmp_path: Path) -> None:
    with (
        exchange(*SYMBOLS, rate=40.0) as venue,
        daemon(tmp_path / "one", venue.urls, *SYMBOLS, more=HOT_S) as made,
        daemon(tmp_path / "two", venue.urls, *SYMBOLS, redis="embedded", more=HOT_S) as other,
    ):
        with_tick_size(made)
        with_tick_size(other)
        run = FaultRun(SEED, made, venue)
        await run.up()
        await run.suffer(FAULTS)
        assert run.done.total() == FAULTS
        await run.recover()
        await run.check(f"unix://{made.data}/run/redis/redis.sock", other)
