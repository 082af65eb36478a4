"""Frames between the sockets of a line and the engine, bounded by count and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from feeds.lines import Arrivals

__all__ = ["Arrivals", "Inbox"]
MAX_FRAMES = 65_536
MAX_BYTES = 32 * 1024 * 1024


class Inbox:
    """Hold what has arrived; at its bound the readers wait, so that the venue's TCP window fills."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = _nobody
        self._held = Arrivals([], [], [])
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._held.frames)

    def put(self, frame: bytes, received_ns: int, epoch: int) -> None:
        held = self._held
        held.frames.append(frame)
        held.received_ns.append(received_ns)
        held.epochs.append(epoch)
        self._bytes += len(frame)
        self.wake()
        if len(held.frames) >= MAX_FRAMES or self._bytes >= MAX_BYTES:
            self._room.clear()

    async def room(self) -> None:
        """Wait until more may be put."""
        await self._room.wait()

    def take(self) -> Arrivals:
        """Empty it."""
        taken, self._held, self._bytes = self._held, Arrivals([], [], []), 0
        self._room.set()
        return taken


def _nobody() -> None:
    """Wake nobody: who waits says so later."""
