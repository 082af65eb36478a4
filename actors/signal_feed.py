"""What waits for the next pipeline to Redis: bounded per pair, fair between pairs, without any I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import orjson
from msgspec.structs import replace

from actors.lane_frames import Fields, Hello, Outgoing
from market.errors import BadFrame, SequenceBroken

FEED_EVENTS = 1_024  # with more waiting the feed is full, and its lane is not read
FEED_BYTES = 256 * 1024
SHARE_EVENTS = 256  # of one feed in one pipeline
SHARE_BYTES = 128 * 1024
PIPELINE_EVENTS = 2_048  # no feed joins a pipeline that holds as many
PIPELINE_BYTES = 1024 * 1024
_PHYSICS = b'{"event":"PHYSICS_UPDATE"'  # how such a message begins


class Physics(msgspec.Struct, frozen=True):
    """A market state, as its announcement tells it."""

    timestamp: datetime
    mass: float | None
    momentum: float | None
    friction: float | None
    entropy: float | None
    nash_dist: float | None
    alpha: float | None
    regime: str

    @property
    def value(self) -> bytes:
        """Write what the state's key holds."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return orjson.dumps(kept | {"alpha_coefficient": self.alpha})


_KEPT = ("mass", "momentum", "friction", "entropy", "nash_dist", "regime")


class _Update(msgspec.Struct):
    data: Physics


_UPDATES = msgspec.json.Decoder(_Update)


@dataclass(slots=True, eq=False)
class Feed:
    """One pair's events on their way: those up to `acked` are in Redis, `pending` follow without a hole."""

    hello: Hello
    resumed: bool = False
    acked: int = 0
    pending: deque[Outgoing] = field(default_factory=deque)
    pending_bytes: int = 0
    has_turn: bool = False
    snapshot: Fields | None = None
    snapshot_ns: int = 0
    snapshot_waits: bool = False
    physics: Physics | None = None  # the newest that was told
    physics_waits: bool = False

    @property
    def symbol(self) -> str:
        return self.hello.symbol

    @property
    def last_seq(self) -> int:
        """The newest event of the pair's record, as far as the pair has told."""
        return max(self.hello.last_seq, self.acked + len(self.pending))

    @property
    def full(self) -> bool:
        return len(self.pending) > FEED_EVENTS or self.pending_bytes > FEED_BYTES

    def begin(self, stream_seq: int, maxlen: int) -> int:
        """Decide after which seq the pair begins.

        What may not have been published comes again, and what the stream lacks, as far back as it reaches.
        """
        self.resumed = True
        self.acked = min(self.hello.cursor, max(stream_seq, self.hello.last_seq - maxlen))
        return self.acked

    def rewind(self, stream_seq: int, maxlen: int) -> int | None:
        """Decide whether the pair must bring again what the stream has lost, and after which seq."""
        start = max(stream_seq, self.last_seq - maxlen)
        if start >= self.acked:
            return None
        self.hello = replace(self.hello, last_seq=self.last_seq)
        self.acked = start
        self.drop()
        return start

    def accept(self, events: list[Outgoing]) -> None:
        """Take what the lane brought; raise SequenceBroken unless it follows what came before."""
        expected = self.acked + len(self.pending) + 1
        for event in events:
            if not self.resumed or event.seq != expected:
                raise SequenceBroken(self.hello.pair_key, expected, event.seq)
            self.pending.append(event)
            self.pending_bytes += len(event.message)
            expected += 1

    def look(self, events: list[Outgoing]) -> None:
        """Remember the newest market state among events; a restated one may come after a newer.

        Raises BadFrame for one that is not understood.
        """
        for event in events:
            if event.message.startswith(_PHYSICS):
                told = _physics(event.message)
                if self.physics is None or told.timestamp >= self.physics.timestamp:
                    self.physics, self.physics_waits = told, True

    @property
    def shows(self) -> Physics | None:
        """Give the state to show, if it is another than before; a pair that catches up shows none."""
        catches_up = self.acked + len(self.pending) < self.hello.last_seq
        return self.physics if self.physics_waits and not catches_up else None

    def share(self) -> list[Outgoing]:
        """Copy the next events to send, at most one feed's share of a pipeline."""
        taken: list[Outgoing] = []
        size = 0
        for event in self.pending:
            size += len(event.message)
            if taken and (size > SHARE_BYTES or len(taken) == SHARE_EVENTS):
                break
            taken.append(event)
        return taken

    def confirm(self, events: list[Outgoing]) -> None:
        """Forget events that Redis has."""
        for event in events:
            self.pending.popleft()
            self.pending_bytes -= len(event.message)
        self.acked = events[-1].seq

    def drop(self) -> None:
        """Forget what waits: its pair will bring it again."""
        self.pending.clear()
        self.pending_bytes = 0


def _physics(message: bytes) -> Physics:
    try:
        return _UPDATES.decode(message).data
    except msgspec.MsgspecError as error:
        raise BadFrame(f"no market state: {error}", message[:256]) from error


def take_turn(turns: deque[Feed], feed: Feed) -> None:
    """Queue a feed that has something to send, once."""
    if feed.pending and not feed.has_turn:
        feed.has_turn = True
        turns.append(feed)


def gather(turns: deque[Feed]) -> dict[Feed, list[Outgoing]]:
    """Take the feeds whose turn it is, with their shares, until a pipeline is full."""
    batch: dict[Feed, list[Outgoing]] = {}
    events = size = 0
    while turns and events < PIPELINE_EVENTS and size < PIPELINE_BYTES:
        feed = turns.popleft()
        feed.has_turn = False
        if share := feed.share():
            batch[feed] = share
            events += len(share)
            size += sum(len(event.message) for event in share)
    return batch
