"""The subscriber of docs/subscribe.md, run as it stands there, killed at random: its file misses nothing."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.daemon.support import Daemon, called, daemon, exchange, key
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
BTC = "BTCUSDT"
KILLS = 6
WAIT_S = 60.0


def example() -> str:
    """Take the code from the document that tells how to miss nothing."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/subscribe.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "bookmark()" in block]
    return str(code)


@contextmanager
def subscriber(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run it where its reader would; it ends by SIGKILL only."""
    with subprocess.Popen([sys.executable, "follow.py"], cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines() if file.exists() else []


async def grown(file: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for so many lines more, from a process that lives."""
    target = len(lines(file)) + count
    await eventually(lambda: process.poll() is not None or len(lines(file)) >= target, WAIT_S)
    assert process.poll() is None


def servers(made: Daemon) -> list[int]:
    return [one.pid for one in called(made.pid, "valkey-server", "redis-server")]


async def test_a_subscriber_that_is_killed_at_random_holds_every_event_once(tmp_path: Path) -> None:
    chance = random.Random()
    (tmp_path / "follow.py").write_text(example())
    file = tmp_path / "events.jsonl"
    with exchange(BTC) as venue, daemon(tmp_path, venue.urls, BTC) as made:
        made.start()
        await made.streaming()
        for number in range(KILLS):
            with subscriber(tmp_path) as process:
                await grown(file, chance.randint(1, 4), process)
                if number == 1:
                    os.kill((await made.pairs())[BTC]["pid"], signal.SIGKILL)
                    await grown(file, 3, process)
                if number == 3:  # the server comes back empty, and is filled again
                    (server,) = servers(made)
                    os.kill(server, signal.SIGKILL)
                    await grown(file, 3, process)
            if number == 4:  # as if the kill had come in the middle of a write
                with file.open("ab") as torn:
                    torn.write(lines(file)[-1][:40])
        record = await made.query(BTC, "SELECT seq, timestamp, event, data FROM events ORDER BY seq")
        with subscriber(tmp_path):
            await eventually(lambda: len(lines(file)) >= len(record), WAIT_S)
    held = [orjson.loads(line) for line in lines(file)]
    assert [event["seq"] for event in held] == list(range(1, len(held) + 1))
    assert held[: len(record)] == [{"symbol": key(BTC), **row} for row in record]
