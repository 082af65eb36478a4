"""One end of a lane: frames in, frames out, and whether there is room to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import structlog

from actors.lane_frames import Frame, FrameReader, encode
from market.errors import BadFrame

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
