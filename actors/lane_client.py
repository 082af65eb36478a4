"""A pair's end of a lane: push what is new, catch up from the record on what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from actors.lane_frames import Fields, Hello, Outgoing, Resume, Snapshot, ToPair, event_frames, pair_reader
from actors.lane_link import Link, Reconnecting

PAGE_EVENTS = 512
_RECORD_BEHIND_S = 0.05


class LaneClient:
    """Brings every event of a pair to its supervisor, in order and without a gap, whatever happens between.

    Nothing is queued here. While the lane is up and keeps up (`live`), a pushed event is written at once;
    otherwise it is only noted that there is more, and `read_after(seq, limit)` fetches it from the record,
    which must show every event sooner or later. Each (re)connection begins where the supervisor says.
    """

    def __init__(
        self,
        path: Path,
        hello: Callable[[], Hello],
        read_after: Callable[[int, int], Awaitable[Sequence[Outgoing]]],
        on_ack: Callable[[int], None],
    ) -> None:
        self._connection = Reconnecting(
            path, lambda: Link(pair_reader(), self._received, self._wake.set), self._talk
        )
        self._hello = hello
        self._read_after = read_after
        self._on_ack = on_ack
        self._link: Link[ToPair] | None = None
        self._wake = asyncio.Event()
        self._resumed = False  # the supervisor has said where to begin
        self._live = False  # everything up to _newest is written, and there is room for more
        self._round = 0
        self._sent = 0  # the last seq written to this connection
        self._newest = 0  # the last seq there is
        self._acked = 0
        self._snapshot: Fields | None = None  # waits for room; the latest wins

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
        """The last seq the store is known to have; never falls."""
        return self._acked

    @property
    def lag(self) -> int:
        """How many events the store is not known to have."""
        return max(0, self._newest - self._acked)

    def push(self, events: Sequence[Outgoing]) -> None:
        """Announce new events, in order; never blocks, never raises for the lane's sake."""
        if not events:
            return
        self._newest = max(self._newest, events[-1].seq)
        link = self._link
        if self._live and link:
            self._write(link, events[:PAGE_EVENTS])
            if link.writable and self._sent >= self._newest:
                return
            self._live = False
        self._wake.set()

    def snapshot(self, fields: Fields) -> None:
        """Send the pair's present values; dropped while nobody is there to take them."""
        if self._link:
            self._snapshot = fields
            self._send_snapshot(self._link)

    async def run(self) -> None:
        """Keep the lane up until cancelled; whatever else `read_after` raises comes out here."""
        await self._connection.run()

    async def _talk(self, link: Link[ToPair]) -> None:
        try:
            self._greet(link)
            while not link.closed:
                await self._wake.wait()
                self._wake.clear()
                self._send_snapshot(link)
                await self._catch_up(link)
        finally:
            self._link = self._snapshot = None
            self._resumed = self._live = False

    def _greet(self, link: Link[ToPair]) -> None:
        hello = self._hello()
        self._newest = max(self._newest, hello.last_seq)
        self._acked = max(self._acked, hello.cursor)
        self._link = link
        link.send(hello)

    def _received(self, frame: ToPair) -> None:
        if isinstance(frame, Resume):
            self._resumed, self._live = True, False
            self._sent, self._round = frame.after_seq, frame.round
            self._wake.set()
            return
        self._connection.works()
        if frame.seq > self._acked:
            self._acked = frame.seq
            self._on_ack(frame.seq)

    async def _catch_up(self, link: Link[ToPair]) -> None:
        """Read and write until the live edge is met, or the link is full (it wakes us when it is not)."""
        while self._resumed and link.writable and self._sent < self._newest:
            after = self._sent
            page = await self._read_after(after, PAGE_EVENTS)
            if self._sent == after:  # else the supervisor has asked for another point meanwhile
                self._write(link, page)
            # The record may show an event a moment after its push; otherwise give the socket its turn.
            await asyncio.sleep(_RECORD_BEHIND_S if self._sent == after else 0)
        self._live = self._resumed and link.writable and self._sent >= self._newest

    def _write(self, link: Link[ToPair], events: Sequence[Outgoing]) -> None:
        """Write what follows the last seq written, as far as there is room; nothing if that is not next."""
        fresh = events
        if not events or events[0].seq <= self._sent:
            fresh = [event for event in events if event.seq > self._sent]
        if not fresh or fresh[0].seq != self._sent + 1:
            return
        for frame in event_frames(self._round, fresh):
            if not link.writable:
                return
            link.send(frame)
            self._sent = frame.events[-1].seq

    def _send_snapshot(self, link: Link[ToPair]) -> None:
        if self._snapshot is not None and link.writable:
            link.send(Snapshot(self._snapshot))
            self._snapshot = None
