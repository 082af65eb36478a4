"""A collector's side of a push stream, and a Redis that keeps what it acknowledged."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from storage import embedded_redis

STREAM = "ingest:pool:dex:WETH-USDC"
START_NS = 1_700_000_000_000_000_000
_CONFIG = """\
port 0
unixsocket {folder}/durable.sock
dir {folder}
save ""
appendonly yes
appendfsync always
loglevel warning
"""


class DurableRedis:
    """A server of the user's: every answer is on the disk before it is given."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"unix://{folder}/durable.sock"
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._child = subprocess.Popen(
            [str(embedded_redis._binary()), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._child.stdin is not None
        with self._child.stdin as pipe:
            pipe.write(_CONFIG.format(folder=self._folder).encode())
        deadline = time.monotonic() + 20
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.wait(10)


@contextmanager
def durable(folder: Path) -> Iterator[DurableRedis]:
    server = DurableRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def trade(number: int, name: str | int | None = None, **more: str | float) -> dict[str, str]:
    """Make the fields of one trade: 10 a second, each at its own price."""
    side = ("buy", "SELL", "b", "s")[number % 4]
    fields = {
        "id": f"0x{number:064x}" if name is None else name,
        "price": 100 + (number * 7 % 41) / 8,
        "size": 0.5 + number % 5,
        "side": side,
        "ts_ns": START_NS + number * 100_000_000,
    }
    return {key: str(value) for key, value in (fields | more).items()}
