"""What the server has of a pair's events, and what it should have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.embedded_redis import EmbeddedRedis
from tests.actors.record import Record


@contextmanager
def served(folder: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def stream_of(reader: Any, symbol: str = "s") -> list[tuple[bytes, bytes]]:
    return [(id_, fields[b"m"]) for id_, fields in await reader.xrange(f"stream:state_update:{symbol}")]


def expected(record: Record) -> list[tuple[bytes, bytes]]:
    return [(b"%d-0" % event.seq, event.message) for event in record.events]
