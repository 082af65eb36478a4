"""A pair's end of a lane of pages: rows that are in its file, on their way to a store of history."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from actors.lane_frames import Page, PageHello, Resume, ToPair, pair_reader
from actors.lane_link import Link, Reconnecting

WINDOW_PAGES = 2
"""So many are under way at most: the pair reads one while the store writes the other."""


class PageClient:
    """Brings everything that is numbered to a supervisor, in order and without a hole.

    Nothing is queued here: `read_page(after_seq)` reads what follows from the record, and gives the number up
    to which that is everything (`after_seq` itself: nothing yet), and its body. `hello` is given the number
    that was last acknowledged, which at first is `cursor`.
    """

    def __init__(
        self,
        path: Path,
        hello: Callable[[int], PageHello],
        cursor: int,
        read_page: Callable[[int], Awaitable[tuple[int, bytes]]],
        on_ack: Callable[[int], None],
    ) -> None:
        self._connection = Reconnecting(
            path, lambda: Link(pair_reader(), self._received, self._wake.set), self._talk
        )
        self._hello, self._read_page, self._on_ack = hello, read_page, on_ack
        self._wake = asyncio.Event()
        self._resumed = False  # the supervisor has said where to begin
        self._round = 0
        self._sent = 0
        self._flight: deque[int] = deque()  # last numbers of the pages under way
        self._newest = 0
        self._acked = cursor
        self._link: Link[ToPair] | None = None

    @property
    def connected(self) -> bool:
        """Whether the supervisor has answered and the lane is still there."""
        return self._resumed

    @property
    def error(self) -> str:
        """Why the lane brings nothing; empty while it works."""
        return self._connection.error

    @property
    def acked_seq(self) -> int:
        """The last number the store is known to have; falls only by `rewind`."""
        return self._acked

    def rewind(self, seq: int) -> None:
        """Begin again after `seq`, if that is earlier: the store has lost what it acknowledged."""
        if seq < self._acked:
            self._acked = seq
            self._on_ack(seq)
            if self._link is not None:
                self._link.close()  # and greet anew: what is under way is of the old place

    def grown(self, newest: int) -> None:
        """Say that the record holds everything up to `newest`."""
        if newest > self._newest:
            self._newest = newest
            self._wake.set()

    async def run(self) -> None:
        """Keep the lane up until cancelled; whatever `read_page` raises, Retryable apart, comes out here."""
        await self._connection.run()

    async def _talk(self, link: Link[ToPair]) -> None:
        self._link = link
        hello = self._hello(self._acked)
        self._newest = max(self._newest, hello.last_seq)
        link.send(hello)
        try:
            while not link.closed:
                await self._wake.wait()
                self._wake.clear()
                await self._send(link)
        finally:
            self._resumed = False
            self._flight.clear()

    def _received(self, frame: ToPair) -> None:
        if isinstance(frame, Resume):
            self._resumed, self._sent, self._round = True, frame.after_seq, frame.round
            self._flight.clear()
        else:
            self._connection.works()
            while self._flight and self._flight[0] <= frame.seq:
                self._flight.popleft()
            if frame.seq > self._acked:
                self._acked = frame.seq
                self._on_ack(frame.seq)
        self._wake.set()

    async def _send(self, link: Link[ToPair]) -> None:
        while (
            self._resumed and link.writable and len(self._flight) < WINDOW_PAGES and self._sent < self._newest
        ):
            after, asked = self._sent, self._round
            last, body = await self._read_page(after)
            if self._round != asked or link.closed:
                continue  # the supervisor has asked for another point meanwhile
            if last == after:
                return
            link.send(Page(asked, after, last, body))
            self._sent = last
            self._flight.append(last)
