"""The life of one line to a venue, which has two sockets for a while: an old one and its successor. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from market.times import NS_PER_S

ACK_TIMEOUT_NS = 10 * NS_PER_S
RENEW_AT = 0.95  # of the venue's longest life of a connection


class Arrivals(NamedTuple):
    """Frames, when each was received, and over which socket of the line."""

    frames: list[bytes]
    received_ns: list[int]
    epochs: list[int]

    def __bool__(self) -> bool:
        return bool(self.frames)


@dataclass(slots=True)
class _Life:
    opened_ns: int
    heard_ns: int
    acks: int = 0
    fed: bool = False


class LineState:
    """Know which sockets of a line are open, granted and alive; `epoch` counts them from 1."""

    def __init__(self, acks: int, stale_after_s: float, max_life_s: float = 0.0) -> None:
        self.opened_count = 0
        self.stale_after_s = stale_after_s
        self._acks = acks
        self._stale_ns = int(stale_after_s * NS_PER_S)
        self._life_ns = int(max_life_s * RENEW_AT * NS_PER_S)
        self._lives: dict[int, _Life] = {}
        self._closing = 0  # the newest epoch that the venue said it will end

    @property
    def subscribed(self) -> bool:
        """Whether any socket brings what was asked for."""
        return any(life.acks >= self._acks for life in self._lives.values())

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(self._lives)

    def opened(self, now_ns: int) -> int:
        """Begin a connection, not granted yet; return its epoch."""
        self.opened_count += 1
        self._lives[self.opened_count] = _Life(now_ns, now_ns)
        return self.opened_count

    def lost(self, epoch: int) -> None:
        self._lives.pop(epoch, None)

    def heard(self, epoch: int, now_ns: int, *, fed: bool = False) -> None:
        """Note that a socket brought something, and whether that was what it is for."""
        if life := self._lives.get(epoch):
            life.heard_ns, life.fed = now_ns, life.fed or fed

    def fed(self, epoch: int) -> bool:
        """Tell whether a socket ever brought what it is for."""
        return epoch in self._lives and self._lives[epoch].fed

    def acknowledged(self, epoch: int, count: int) -> bool:
        """Count acknowledgements of an open socket; tell whether they have just become enough."""
        life = self._lives.get(epoch)
        if life is None or life.acks >= self._acks:
            return False
        life.acks += count
        return life.acks >= self._acks

    def closing(self, epoch: int) -> None:
        """Note that the venue will end this connection soon."""
        self._closing = max(self._closing, epoch)

    def granted(self, epoch: int) -> bool:
        return epoch in self._lives and self._lives[epoch].acks >= self._acks

    def hopeless(self, epoch: int, now_ns: int) -> bool:
        """Tell whether this socket should be given up: not granted in time, or silent too long."""
        life = self._lives.get(epoch)
        if life is None:
            return False
        if life.acks < self._acks:
            return now_ns - life.opened_ns > ACK_TIMEOUT_NS
        return now_ns - life.heard_ns > self._stale_ns

    def due(self, now_ns: int) -> bool:
        """Tell whether the newest socket should have a successor: the venue ends it soon."""
        newest = max(self._lives, default=0)
        if not newest:
            return False
        old = bool(self._life_ns) and now_ns - self._lives[newest].opened_ns > self._life_ns
        return old or newest <= self._closing
