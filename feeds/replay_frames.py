"""Recorded frames as a feed: parsed, spliced and conflated as when they came, in their own time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from feeds import clock
from feeds.inbox import Arrivals
from feeds.intake import Intake
from feeds.recording import read
from feeds.recording_format import Kept
from feeds.replay_order import Named, Numbered
from feeds.venue import Venue
from market.errors import BadFrame, Retryable, UsageError
from market.inputs import Input, Instrument, Quote, Rejected, TickBatch
from market.times import NS_PER_S

CHUNK_FRAMES = 4_096


class Told(NamedTuple):
    """Whose frames they are, how their trades are put in order, and over how long quotes are conflated.

    What was received before `edge_ns` is known.
    """

    venue: Venue
    symbol: str
    order: Numbered | Named
    interval_ns: int
    edge_ns: int = 0


class FrameReplay:
    """Hand out what frames tell, all at once (`speed` 0) or at `speed` times the recorded pace."""

    def __init__(self, files: Sequence[Path], speed: float, told: Told, intake: Intake) -> None:
        self.finished = False
        self.replayed = 0
        self._speed, self._told, self._intake = speed, told, intake
        self._kept = chain.from_iterable(map(read, by_time(files)))
        self._next: Kept | None = next(self._kept, None)
        self._began: tuple[int, int] | None = None  # wall clock and recorded time of the first frame
        self._paths = {line.path: at for at, line in enumerate(told.venue.lines(told.symbol))}
        self._epochs: dict[tuple[int, int], int] = {}  # by line and connection
        self._at_ns = 0
        self._listed = not told.venue.rules.contracts

    async def run(self) -> None:
        """Wait for ever: nothing keeps a replay alive but its files."""
        await asyncio.Event().wait()

    async def wait(self, timeout_s: float) -> None:
        """Return at once, or when the next frame is due."""
        if self.finished:
            await asyncio.sleep(timeout_s)
            return
        due_s = (self._due_ns() - clock.now_ns()) / NS_PER_S
        await asyncio.sleep(min(max(due_s, 0.0), timeout_s))

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Return what the frames that are due tell; at their end nothing waits any more."""
        out, count = list[Input](), 0
        while count < CHUNK_FRAMES and (chunk := self._chunk(now_ns, CHUNK_FRAMES - count)):
            count += len(chunk)
            out += self._frames(chunk)
            width_ns = self._told.interval_ns
            out += self._intake.tick(self._at_ns // width_ns * width_ns + width_ns, None)
        out += self._intake.tick(self._at_ns, next_close_ns)
        if self._next is None and not self.finished:
            out += self._told.order.drain(self._at_ns)
            self.finished = True
        self.replayed += sum(len(item.ticks) for item in out if isinstance(item, TickBatch))
        return [item for item in out if not self._is_known(item)]

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        return []

    def status(self) -> dict[str, object]:
        return {
            "state": "replaying",
            "replayed": self.replayed,
            "duplicates": self._told.order.duplicates,
            "rejected": self._intake.rejected,
            "unknown": dict(self._intake.unknown),
            "holes": 0,
        }

    def _due_ns(self) -> int:
        if not self._speed or self._next is None or self._began is None:
            return 0
        wall_ns, recorded_ns = self._began
        return wall_ns + int((self._next.received_ns - recorded_ns) / self._speed)

    def _chunk(self, now_ns: int, most: int) -> list[Kept]:
        """Take frames that are due, of one interval of quotes."""
        chunk, width_ns = list[Kept](), self._told.interval_ns
        if self._next is not None and self._began is None:
            self._began = now_ns, self._next.received_ns
        while self._next is not None and len(chunk) < most and self._due_ns() <= now_ns:
            if chunk and self._next.received_ns // width_ns != chunk[0].received_ns // width_ns:
                break
            chunk.append(self._next)
            self._next = next(self._kept, None)
        return chunk

    def _frames(self, chunk: Sequence[Kept]) -> list[Input]:
        out, by_line = list[Input](), dict[int, Arrivals]()
        for kept in chunk:
            self._at_ns = max(self._at_ns, kept.received_ns)
            if kept.connection:
                line = self._paths.get(kept.path, 0)
                held = by_line.setdefault(line, Arrivals([], [], []))
                held.frames.append(kept.frame)
                held.received_ns.append(kept.received_ns)
                held.epochs.append(self._epoch(line, kept))
                if line == 0 and not self._intake.subscribed:
                    out += self._taken(by_line)  # so that what is granted is granted before anything is told
            else:
                out += self._taken(by_line)
                out += self._aside(kept)
        return out + self._taken(by_line)

    def _taken(self, by_line: dict[int, Arrivals]) -> list[Input]:
        if by_line and not self._listed:
            raise UsageError("sizes are in contracts, and the recording does not say how large one is")
        out: list[Input] = []
        for line, arrivals in by_line.items():
            out += self._intake.frames(line, arrivals, self._at_ns)
        by_line.clear()
        return out

    def _epoch(self, line: int, kept: Kept) -> int:
        """Count the connections over all sessions of the recorder; two of a line live at most."""
        state, key = self._intake.lines[line], (line, kept.connection)
        if key not in self._epochs:
            self._epochs[key] = state.opened(kept.received_ns)
            for old in state.epochs[:-2]:
                state.lost(old)
        newest, epoch = state.epochs[-1], self._epochs[key]
        if line == 0 and epoch < newest and state.granted(newest):
            self._told.order.continued()
        return epoch

    def _aside(self, kept: Kept) -> list[Input]:
        """Take what came over no socket: the recorder began anew, or what REST said of the symbol."""
        if not kept.path:
            for state in self._intake.lines:
                for epoch in state.epochs:
                    state.lost(epoch)
            self._epochs.clear()
        if kept.path != self._told.venue.listing(self._told.symbol).path:
            return []
        try:
            listing = self._told.venue.parse_listing(kept.frame, self._told.symbol)
        except (BadFrame, Retryable) as error:
            return [Rejected(kept.received_ns, str(error), kept.frame[:1024])]
        self._listed, self._intake.contract_size = True, listing.contract_size
        return [Instrument(listing.tick_size)] if listing.tick_size else []

    def _is_known(self, item: Input) -> bool:
        """Tell what a replay that was broken off has handed out before; trades know that themselves."""
        return isinstance(item, Quote | Rejected) and item.received_ns <= self._told.edge_ns


def by_time(files: Sequence[Path]) -> list[Path]:
    """Order recordings by their first frames."""
    return sorted(files, key=_first_ns)


def _first_ns(file: Path) -> int:
    frames: Iterator[Kept] = read(file)
    first = next(frames, None)
    return first.received_ns if first else 0
