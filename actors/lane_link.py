"""One end of a lane: frames in, frames out, and whether there is room to write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar, cast

import structlog

from actors.lane_frames import Frame, FrameReader, encode
from market.backoff import delays
from market.errors import BadFrame, Retryable
from storage.unix_path import short_path

WRITE_BUFFER_BYTES = 256 * 1024

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Link(asyncio.Protocol, Generic[T]):
    """A connection that calls `received` with each frame, and `changed` when its state changes.

    Its write buffer is bounded by whoever writes: while not `writable`, don't.
    """

    def __init__(
        self,
        reader: FrameReader[T],
        received: Callable[[T], None],
        changed: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._received = received
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self.closed = False
        self.writable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.writable = True

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._received(frame)
                if self.closed:
                    return
        except BadFrame as error:
            log.warning("lane_bad_frame", reason=error.reason)
            self.close()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = not self.closed
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._end()

    def send(self, frame: Frame) -> None:
        if self._transport and not self.closed:
            self._transport.write(encode(frame))

    def pause_reading(self) -> None:
        if self._transport and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport and not self.closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """End it at once; what is still in its buffers is lost, as it is for a peer that is killed."""
        if self._transport:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            self.writable = False
            self._changed()


class Reconnecting:
    """Holds a conversation on a lane again and again; says once that it was lost, once that it is back."""

    def __init__(
        self, path: Path, link: Callable[[], Link[T]], talk: Callable[[Link[T]], Awaitable[None]]
    ) -> None:
        self._path, self._link, self._talk = path, link, talk
        self._delays = delays()
        self._was_up = True
        self.error = ""  # why the other end is not served; empty while it is

    def works(self) -> None:
        """Note that the other end does what it should: the next loss is a new one."""
        self._delays, self.error = delays(), ""
        if not self._was_up:
            self._was_up = True
            log.info("lane_back", lane=self._path.name)

    async def run(self) -> None:
        """Keep it up until cancelled; what else `talk` raises comes out here."""
        while True:
            try:
                await self._converse()
                self._note_down("the supervisor hung up")
            except FileNotFoundError:  # it makes the lane once it works
                self._note_down("starting")
            except (OSError, Retryable) as error:
                self._note_down(str(error))
            await asyncio.sleep(next(self._delays))

    async def _converse(self) -> None:
        link = self._link()
        loop = asyncio.get_running_loop()
        with short_path(self._path) as path:
            await loop.create_unix_connection(lambda: link, path)
        try:
            await self._talk(link)
        finally:
            link.close()

    def _note_down(self, reason: str) -> None:
        self.error = reason
        if self._was_up:
            self._was_up = False
            log.warning("lane_lost", lane=self._path.name, reason=reason)
