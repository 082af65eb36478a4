"""Suffer as many faults as told: `python -m tests.soak 2000 [SEED]`; ends with a table of what happened."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.actors.crash_support import Reaper
from tests.actors.story import Story, differences
from tests.daemon.fault_run import HOT_S, FaultRun, with_tick_size
from tests.daemon.support import daemon, exchange

A_STORY = 40
A_DAEMON = 40
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def story(seed: int, faults: int) -> Counter[str]:
    """Live one life by hand; raises at the first promise that is broken."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        told = Story(seed, Path(folder) / "work", Reaper(patch))
        told.live(faults)
        wrong = [*differences(told.tables(), told.plain()), *told.faulty_claims()]
        assert not wrong, wrong
        told.close()
        return told.faults


async def daemon_run(seed: int, faults: int) -> Counter[str]:
    """Let a whole daemon suffer."""
    with (
        tempfile.TemporaryDirectory() as folder,
        exchange(*SYMBOLS, rate=40.0) as venue,
        daemon(Path(folder) / "one", venue.urls, *SYMBOLS, more=HOT_S) as made,
        daemon(Path(folder) / "two", venue.urls, *SYMBOLS, more=HOT_S) as other,
    ):
        with_tick_size(made)
        with_tick_size(other)
        run = FaultRun(seed, made, venue)
        await run.up()
        await run.suffer(faults)
        await run.recover()
        await run.check(f"unix://{made.data}/run/redis/redis.sock", other)
        return run.done


def main(wanted: int, seed: int) -> None:
    done: Counter[str] = Counter()
    while done.total() < wanted:
        began_s = time.monotonic()
        by_hand = (seed % 10) != 0  # every tenth life is a whole daemon's
        sys.stdout.write(f"seed {seed}: ")
        sys.stdout.flush()
        done += story(seed, A_STORY) if by_hand else asyncio.run(daemon_run(seed, A_DAEMON))
        took_s = time.monotonic() - began_s
        sys.stdout.write(f"{done.total():,} of {wanted:,} faults, {took_s:.0f} s\n")
        seed += 1
    sys.stdout.writelines(f"{count:6,}  {fault}\n" for fault, count in done.most_common())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
