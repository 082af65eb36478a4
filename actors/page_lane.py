"""A supervisor's end of one lane of pages."""

from __future__ import annotations

from typing import Protocol

from actors.lane_frames import Ack, Page, PageHello, Resume, ToSink, sink_reader
from actors.lane_link import Link
from actors.lane_server import LaneServer
from market.errors import BadFrame


class PageHandler(Protocol):
    """What a supervisor does about its lanes; each call must return at once."""

    def joined(self, lane: PageLane) -> None: ...
    def page(self, lane: PageLane, page: Page) -> None: ...
    def left(self, lane: PageLane) -> None: ...


class PageLane:
    """One connected stream of one pair; `hello` is what it said first."""

    hello: PageHello

    def __init__(self, server: LaneServer[PageLane], handler: PageHandler) -> None:
        self._server, self._handler = server, handler
        self.greeted = False
        self._round = 0
        self._expected = 0
        self.acked = 0
        self.link = Link(sink_reader(), self._received, self._changed)

    def resume(self, after_seq: int) -> None:
        """Have the pair send what follows; what it sent before and is still under way is passed over."""
        self._round += 1
        self._expected = self.acked = after_seq
        self.link.send(Resume(after_seq, self._round))

    def ack(self, seq: int) -> None:
        self.acked = seq
        self.link.send(Ack(seq))

    def close(self) -> None:
        """Hang up; a living pair comes again with a new hello."""
        self.link.close()

    def _received(self, frame: ToSink) -> None:
        if isinstance(frame, PageHello) is self.greeted:
            raise BadFrame("a lane begins with one hello", b"")
        if isinstance(frame, PageHello):
            self.hello, self.greeted = frame, True
            self._handler.joined(self)
        elif frame.round == self._round:
            if frame.after_seq != self._expected or frame.last_seq <= frame.after_seq:
                raise BadFrame(f"a page after {frame.after_seq} in place of {self._expected}", b"")
            self._expected = frame.last_seq
            self._handler.page(self, frame)

    def _changed(self) -> None:
        if self.link.closed:
            self._server.lanes.discard(self)
            if self.greeted:
                self._handler.left(self)
