"""Ids that are missing of a record whose ids are contiguous, and the ticks held until they come. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from market.ticks import EMPTY, Ticks


@dataclass(slots=True)
class Hole:
    """Ids from `next_id` to `last_id` are still missing of a gap that began at `first_id`.

    `held` are ticks of a hole that was left open, by id: those before `next_id` wait to be handed in, at most
    WAIT_TICKS and a page; those after it came from the socket. `from_ns` is not after the next missing one.
    """

    first_id: int
    last_id: int
    next_id: int
    from_ns: int = 0
    missing: int = 0  # ids that the venue says it does not have
    doubts: int = 0
    held: Ticks = field(default_factory=EMPTY.copy)

    def hold(self, ticks: Ticks) -> int:
        """Keep those of `ticks` that are missing, and step over what is there; return how many are new."""
        missing = (ticks["trade_id"] >= self.next_id) & (ticks["trade_id"] <= self.last_id)
        before, self.held = len(self.held), by_id(self.held, ticks[missing])
        if count := run(self.held, self.next_id):
            self.next_id, self.doubts = self.next_id + count, 0
            reached = int(np.searchsorted(self.held["trade_id"], self.next_id)) - 1
            self.from_ns = int(self.held["ts_ns"][reached])
        return len(self.held) - before

    def skip(self) -> None:
        """Believe that the ids before the next tick held are not to be had."""
        ahead = self.held["trade_id"][np.searchsorted(self.held["trade_id"], self.next_id) :]
        reached = int(ahead[0]) if len(ahead) else self.last_id + 1
        self.missing += reached - self.next_id
        self.next_id, self.doubts = reached, 0
        self.hold(EMPTY)

    def ready(self) -> Ticks:
        """Take the ticks before which nothing is to come."""
        count = int(np.searchsorted(self.held["trade_id"], self.next_id))
        ready, self.held = self.held[:count], self.held[count:]
        return ready


def by_id(a: Ticks, b: Ticks) -> Ticks:
    """Merge ticks, sorted by id, each id once; of two the one in `a`."""
    both = np.concatenate([a, b])
    return both[np.unique(both["trade_id"], return_index=True)[1]]


def run(ticks: Ticks, first_id: int) -> int:
    """Count the ticks that follow each other from `first_id` on, in ticks sorted by id."""
    ids = ticks["trade_id"][np.searchsorted(ticks["trade_id"], first_id) :]
    return int((ids == first_id + np.arange(len(ids))).sum())


def last_run(ticks: Ticks, newest_id: int) -> int:
    """Find the id from which on there is no jump up to `newest_id`, in ticks sorted by id."""
    ids = ticks["trade_id"][: np.searchsorted(ticks["trade_id"], newest_id, side="right")]
    jumps = np.flatnonzero(np.diff(ids) != 1)
    return int(ids[jumps[-1] + 1] if len(jumps) else ticks["trade_id"][0])
