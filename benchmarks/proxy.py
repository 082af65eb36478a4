"""A relay on loopback in front of a real server: it can hold everything back, or bring answers late."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

_READ_BYTES = 65_536
_IN_FLIGHT = 64  # chunks of one direction of one connection


class Proxy:
    """Relays TCP to `target` (a loopback port) from a thread of its own; `hold` and `delay_s` may change.

    Held, it accepts and never answers: what comes stays in the sockets' own buffers.
    """

    def __init__(self, target: int) -> None:
        self.target, self.delay_s = target, 0.0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> int:
        """Listen; return the port."""
        self._thread.start()
        self._ready.wait()
        return self.port

    def hold(self) -> None:
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):  # a peer that is gone; the end of this relay
            await self._open.wait()
            await self._relay(reader, writer)
        writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        ways = [
            asyncio.create_task(self._way(reader, back, late=False)),
            asyncio.create_task(self._way(there, writer, late=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()

    async def _way(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        """Carry one direction; what is late is late, not slow: chunks wait side by side."""
        chunks = asyncio.Queue[tuple[float, bytes]](_IN_FLIGHT)
        reading = asyncio.create_task(self._read(source, chunks, late=late))
        try:
            while True:
                due_s, chunk = await chunks.get()
                if not chunk:
                    return
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
                await self._open.wait()
                sink.write(chunk)
                await sink.drain()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, source: asyncio.StreamReader, chunks: asyncio.Queue[tuple[float, bytes]], *, late: bool
    ) -> None:
        chunk = b"first"
        while chunk:
            await self._open.wait()
            try:
                chunk = await source.read(_READ_BYTES)
            except OSError:
                chunk = b""
            await chunks.put((self._loop.time() + (self.delay_s if late else 0.0), chunk))
