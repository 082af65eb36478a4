"""Ids that are missing of a record whose ids are contiguous, and the ticks held until they come. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from feeds.pace import Pace
from market.ticks import EMPTY, Ticks
from market.times import NS_PER_S

DOUBTS = 3  # answers that skip an id before the venue is believed not to have it
NOTHING_NS = (
    150 * NS_PER_S
)  # a database may be so far behind its stream; then that it gives nothing is believed
MIN_SPAN_NS = NS_PER_S


class Wanted(NamedTuple):
    """Trades from `from_id` on, none of them before `from_ns`; `to_ns` is set where a window is asked for."""

    from_id: int
    from_ns: int
    to_ns: int = 0


@dataclass(slots=True)
class Search:
    """Look for the first id that the venue gives: it is after `low`, and not after `high`."""

    low: int
    high: int

    @property
    def probe(self) -> int:
        return (self.low + self.high) // 2

    @property
    def done(self) -> bool:
        return self.high - self.low <= 1

    def took(self, ids: Ticks) -> None:
        """Narrow it by the answer to a request for `probe` on."""
        probe, between = self.probe, ids[(ids > self.low) & (ids < self.high)]
        if len(between):
            self.high = int(between.min())
        else:  # what it lacks from here to what it has, it lacks before, too
            self.low = self.high - 1 if len(ids) and int(ids.max()) >= self.high else probe


@dataclass(slots=True)
class Hole:
    """Ids from `next_id` to `last_id` are still missing of a gap that began at `first_id`.

    `held` are ticks of a hole that was left open, by id: those before `next_id` wait to be handed in, at most
    WAIT_TICKS and a page; those after it came from the socket, or are of windows that began too late.
    `from_ns` is not after the next missing one.
    """

    first_id: int
    last_id: int
    next_id: int
    from_ns: int = 0
    to_ns: int = 0  # not before the last missing one; 0: not known
    missing: int = 0  # ids that the venue says it does not have
    doubts: int = 0
    held: Ticks = field(default_factory=EMPTY.copy)
    pace: Pace = field(default_factory=Pace)
    search: Search | None = None
    refusal: str = ""  # what the venue said last instead of giving something
    _ready_since_ns: int | None = None
    _nothing_since_ns: int | None = None
    _span_ns: int = 0  # of the next window; 0: up to the end
    _empty_ns: int | None = None  # up to then windows had nothing; None: they did not overflow

    def hold(self, ticks: Ticks) -> int:
        """Keep those of `ticks` that are missing, and step over what is there; return how many are new."""
        missing = (ticks["trade_id"] >= self.next_id) & (ticks["trade_id"] <= self.last_id)
        before, self.held = len(self.held), by_id(self.held, ticks[missing])
        if count := run(self.held, self.next_id):
            reached = int(np.searchsorted(self.held["trade_id"], self.next_id)) + count - 1
            self.advance(self.next_id + count, int(self.held["ts_ns"][reached]))
        return len(self.held) - before

    def advance(self, next_id: int, from_ns: int) -> None:
        """Note that all before `next_id` is there or given up."""
        self._span_ns = 2 * (from_ns - self.from_ns)  # what a page holds is a guess at what the next does
        self.next_id, self.from_ns, self.doubts = next_id, from_ns, 0
        self._nothing_since_ns = self.search = self._empty_ns = None
        self.pace.reset()

    def wanted(self, now_ns: int, first: Ticks, *, windows: bool) -> Wanted:
        """Say what to ask for; `first` is the first tick behind it, if one is known."""
        if self.search is not None:
            return Wanted(self.search.probe, self.from_ns)
        window = windows and self.from_ns > 0
        return Wanted(self.next_id, self.from_ns, self._window(now_ns, first)[0] if window else 0)

    def lacks(self, asked: Wanted, ticks: Ticks, now_ns: int, first: Ticks) -> bool:
        """Judge an answer that did not bring `next_id`; tell whether to believe that it is not to be had.

        `first` is as in `wanted`, before the answer came.
        """
        ids = ticks["trade_id"]
        if self.search is not None:
            self.search.took(ids)
            return self.search.done
        later = ticks[ids >= self.next_id]
        self._nothing_since_ns = None if len(later) else self._nothing_since_ns
        if asked.to_ns and self._narrows(asked, later, now_ns, first):
            return False
        if len(later):
            self.doubts += 1
            self.pace.postpone(now_ns)
            return self.doubts >= DOUBTS
        if len(ticks) and int(ticks["ts_ns"].max()) > self.from_ns:  # pages by time have to get here first
            self.from_ns = int(ticks["ts_ns"].max())
            return False
        self.nothing(now_ns)
        return False

    def nothing(self, now_ns: int) -> None:
        """Note that the venue gave nothing: it is behind its stream, or has no more what is asked for."""
        if self._nothing_since_ns is None:
            self._nothing_since_ns = now_ns
        self.pace.postpone(now_ns)

    def hopeless(self, now_ns: int) -> bool:
        """Tell whether that has gone on for too long."""
        return self._nothing_since_ns is not None and now_ns - self._nothing_since_ns > NOTHING_NS

    def next_held(self) -> Ticks:
        """Give the first tick that is held after what is missing next, if there is one."""
        at = int(np.searchsorted(self.held["trade_id"], self.next_id))
        return self.held[at : at + 1]

    def ready(self) -> Ticks:
        """Take the ticks before which nothing is to come."""
        count = int(np.searchsorted(self.held["trade_id"], self.next_id))
        ready, self.held = self.held[:count], self.held[count:]
        self._ready_since_ns = None
        return ready

    def overflows(self, now_ns: int, wait_ns: int, wait_ticks: int) -> bool:
        """Tell whether so many are held, or some ready for so long, that they should wait no more."""
        if self._ready_since_ns is None and len(self.held) and self.held["trade_id"][0] < self.next_id:
            self._ready_since_ns = now_ns
        late = self._ready_since_ns is not None and now_ns - self._ready_since_ns > wait_ns
        return late or len(self.held) > wait_ticks

    def _window(self, now_ns: int, first: Ticks) -> tuple[int, int]:
        """Say up to when to ask, and up to when something is missing."""
        end_ns = int(first["ts_ns"][0]) if len(first) else self.to_ns or now_ns
        if self._empty_ns is None:
            return (min(end_ns, self.from_ns + self._span_ns) if self._span_ns else end_ns), end_ns
        narrow = end_ns - self._empty_ns <= MIN_SPAN_NS
        return (end_ns if narrow else (self._empty_ns + end_ns) // 2), end_ns

    def _narrows(self, asked: Wanted, later: Ticks, now_ns: int, first: Ticks) -> bool:
        """Tell whether another window is worth a try: the venue gives the end of one that overflows.

        What it gave is held, so that the next ends before it. If it gave nothing new, what is missing comes
        later than this window, or is not to be had.
        """
        end_id = int(first["trade_id"][0]) if len(first) else self.last_id + 1
        if len(later) and later["trade_id"][0] < end_id:
            self._empty_ns = self._empty_ns or self.from_ns
            return True
        if asked.to_ns < self._window(now_ns, first)[1]:
            self._empty_ns = max(self._empty_ns or 0, asked.to_ns)
            return True
        narrow = self._empty_ns is not None or not len(later)
        self._empty_ns = self._empty_ns or self.from_ns
        return not narrow


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
