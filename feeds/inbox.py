"""Frames between the socket and the engine, bounded by count and bytes."""

from __future__ import annotations

import asyncio

MAX_FRAMES = 65_536
MAX_BYTES = 32 * 1024 * 1024


class Inbox:
    """Hold what has arrived; at its bound the reader waits, so that the venue's TCP window fills."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._received_ns: list[int] = []
        self._bytes = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes, received_ns: int) -> None:
        self._frames.append(frame)
        self._received_ns.append(received_ns)
        self._bytes += len(frame)
        self._some.set()
        if len(self._frames) >= MAX_FRAMES or self._bytes >= MAX_BYTES:
            self._room.clear()

    async def room(self) -> None:
        """Wait until more may be put."""
        await self._room.wait()

    def wake(self) -> None:
        """Let the engine look, although no frame came."""
        self._some.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is something to look at, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._some.wait()
        except TimeoutError:
            return

    def take(self) -> tuple[list[bytes], list[int]]:
        """Empty it: the frames and when each was received."""
        taken = self._frames, self._received_ns
        self._frames, self._received_ns, self._bytes = [], [], 0
        self._some.clear()
        self._room.set()
        return taken
