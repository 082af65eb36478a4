"""Where a pair's rows go: each sink by its lane, how far it is behind, and the wait for the last of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from actors.lane_frames import Fields, Outgoing
from market.times import NS_PER_S

log = structlog.get_logger()
DRAIN_S = 20.0
DRAIN_SILENCE_S = 8.0  # a store that acknowledges nothing for so long cannot be reached
MARKS = 256


class SinkLane(Protocol):
    """A way to one sink that begins again where it was acknowledged."""

    @property
    def connected(self) -> bool: ...
    @property
    def acked_seq(self) -> int: ...
    @property
    def error(self) -> str: ...
    def run(self) -> Coroutine[Any, Any, None]: ...


class Lane(SinkLane, Protocol):
    """Where events go."""

    def push(self, events: Sequence[Outgoing]) -> None: ...
    def snapshot(self, fields: Fields) -> None: ...


class Outlet:
    """One sink, of rows of a table: `newest` is the last number it is owed, `grown` tells its lane so."""

    def __init__(
        self,
        sink: str,
        table: str,
        lane: SinkLane,
        newest: Callable[[], int],
        grown: Callable[[int], None] | None = None,
    ) -> None:
        self.sink, self.lane, self.table = sink, lane, table
        self._newest, self._grown = newest, grown
        self._marks: deque[tuple[int, int]] = deque(maxlen=MARKS)  # (number, when it was there)

    @property
    def behind(self) -> int:
        return max(0, self._newest() - self.lane.acked_seq)

    def look(self, now_ns: int) -> None:
        """Note how far the record is; of a long lag the beginning is remembered, not every step."""
        while self._marks and self._marks[0][0] <= self.lane.acked_seq:
            self._marks.popleft()
        newest = self._newest()
        if self._grown is not None:
            self._grown(newest)
        if self.behind and len(self._marks) < MARKS and (not self._marks or self._marks[-1][0] < newest):
            self._marks.append((newest, now_ns))

    def status(self, now_ns: int) -> dict[str, object]:
        """Say how far it is behind: in numbers, and in seconds since it began."""
        self.look(now_ns)
        lag_s = (now_ns - self._marks[0][1]) / NS_PER_S if self._marks else 0.0
        return {
            "connected": self.lane.connected,
            "acked": self.lane.acked_seq,
            "lag": self.behind,
            "lag_s": round(lag_s, 3),
            "error": self.lane.error,
        }

    async def deliver(self, pair: str) -> None:
        """Wait until the store has everything; give up a store that acknowledges nothing.

        A lane that is down may be one that is just coming up.
        """
        acked, now_s = 0, time.monotonic()
        ends_s, silent_at_s = now_s + DRAIN_S, now_s + DRAIN_SILENCE_S
        while self.behind:
            if self.lane.acked_seq > acked or not self.lane.connected:
                acked, silent_at_s = self.lane.acked_seq, now_s + DRAIN_SILENCE_S
            if now_s > min(ends_s, silent_at_s):
                log.warning("not_delivered", pair=pair, sink=self.sink, acked=acked, behind=self.behind)
                return
            await asyncio.sleep(0.01)
            now_s = time.monotonic()


@dataclass(frozen=True, slots=True)
class Paged:
    """A store of history: its outlet, what it follows, and how it gets everything after a number again."""

    outlet: Outlet
    stream: str
    rewind: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Outlets:
    """All of a pair's: the lane of its events, and those of its pages."""

    lane: Lane | None = None
    pages: Sequence[Paged] = ()
