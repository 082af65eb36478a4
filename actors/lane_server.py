"""A supervisor's end of the lanes: one socket, many pairs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from actors.lane_frames import (
    Ack,
    Events,
    Fields,
    Hello,
    Outgoing,
    Resume,
    Snapshot,
    ToSupervisor,
    supervisor_reader,
)
from actors.lane_link import Link
from market.errors import BadFrame
from storage.unix_path import short_path

_BACKLOG = 512


class LaneHandler(Protocol):
    """What a supervisor does about its lanes; each call must return at once."""

    def joined(self, lane: Lane) -> None: ...
    def events(self, lane: Lane, events: list[Outgoing]) -> None: ...
    def snapshot(self, lane: Lane, fields: Fields) -> None: ...
    def left(self, lane: Lane) -> None: ...


class Lane:
    """One connected pair; `hello` is what it said first."""

    hello: Hello

    def __init__(self, server: LaneServer[Lane], handler: LaneHandler) -> None:
        self._server = server
        self._handler = handler
        self._greeted = False
        self._round = 0
        self.link = Link(supervisor_reader(), self._received, self._changed)

    def resume(self, after_seq: int) -> None:
        """Have the pair send what follows; what it sent before and is still under way is passed over."""
        self._round += 1
        self.link.send(Resume(after_seq, self._round))

    def ack(self, seq: int) -> None:
        self.link.send(Ack(seq))

    def pause(self) -> None:
        """Read no more from it; its pair notices that the socket is full."""
        self.link.pause_reading()

    def go_on(self) -> None:
        self.link.resume_reading()

    def close(self) -> None:
        """Hang up; a living pair comes again with a new hello."""
        self.link.close()

    def _received(self, frame: ToSupervisor) -> None:
        if isinstance(frame, Hello) is self._greeted:
            raise BadFrame("a lane begins with one hello", b"")
        if isinstance(frame, Events):
            if frame.round == self._round:
                self._handler.events(self, frame.events)
        elif isinstance(frame, Snapshot):
            self._handler.snapshot(self, frame.fields)
        else:
            self.hello, self._greeted = frame, True
            self._handler.joined(self)

    def _changed(self) -> None:
        if self.link.closed:
            self._server.lanes.discard(self)
            if self._greeted:
                self._handler.left(self)


class Connected(Protocol):
    """A supervisor's end of one connection, of whatever kind."""

    @property
    def link(self) -> Link[Any]: ...
    def close(self) -> None: ...


L = TypeVar("L", bound=Connected)


class LaneServer(Generic[L]):
    """Listens at `path`; `accept` makes the lane of each pair that connects."""

    def __init__(self, path: Path, accept: Callable[[LaneServer[L]], L]) -> None:
        self._path = path
        self._new_lane = accept
        self._server: asyncio.Server | None = None
        self.lanes: set[L] = set()

    async def start(self) -> None:
        """Listen, in place of whoever listened there before."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short_path(self._path) as path:
            listener.bind(path)
        self._path.chmod(0o600)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=listener, backlog=_BACKLOG)

    def close(self) -> None:
        """Stop listening and hang up on everyone."""
        if self._server:
            self._server.close()
        for lane in list(self.lanes):
            lane.close()

    def _accept(self) -> asyncio.Protocol:
        lane = self._new_lane(self)
        self.lanes.add(lane)
        return lane.link
