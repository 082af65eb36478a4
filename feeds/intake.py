"""From frames to journal inputs: parse, splice, conflate quotes, judge silence, read the venue clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feeds import binance_frames
from feeds.splicer import Splicer
from market.inputs import Clock, FeedRecovered, FeedStale, Input, Quote
from market.times import NS_PER_MS, NS_PER_S

ACK_TIMEOUT_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """The knobs of one feed."""

    stale_after_s: float
    close_grace_ms: int
    quotes_interval_ms: int


class VenueClock:
    """Tell the venue's time: what its last timed message said, and what has passed since that was received.

    Never ahead of this host's clock, so that a message from the future closes nothing; behind by the delay of
    that message, so that a delayed stream closes no bar before its trades are here.
    """

    def __init__(self) -> None:
        self._behind_ns: int | None = None

    def saw(self, venue_ns: int, received_ns: int) -> None:
        self._behind_ns = max(0, received_ns - venue_ns)

    def at(self, now_ns: int) -> int:
        """Return 0 before the first message: a venue that replays the past lives years behind this host."""
        return 0 if self._behind_ns is None else now_ns - self._behind_ns


class Intake:
    """Own everything between one pair's socket and its journal."""

    def __init__(self, symbol: str, splicer: Splicer, rules: IntakeRules, *, stale: bool = False) -> None:
        self.splicer = splicer
        self.subscribed = False
        self.rejected = 0
        self._symbol, self._rules = symbol, rules
        self._clock = VenueClock()
        self._stale = stale
        self._open = False
        self._opened_ns = 0
        self._data_ns = 0
        self._quote: Quote | None = None
        self._quote_due_ns = 0

    @property
    def stale(self) -> bool:
        return self._stale

    def opened(self, now_ns: int) -> None:
        """Begin a connection: it is not subscribed yet."""
        self.subscribed, self._open = False, True
        self._opened_ns = now_ns

    def lost(self) -> None:
        self.subscribed = self._open = False

    def frames(self, frames: Sequence[bytes], received_ns: Sequence[int], now_ns: int) -> list[Input]:
        """Take what the socket brought, in order."""
        parsed = binance_frames.parse(frames, received_ns, self._symbol)
        self.rejected += len(parsed.rejected)
        out: list[Input] = list(parsed.rejected)
        acknowledged = any(notice.subscribed for notice in parsed.notices)
        if acknowledged:
            self.subscribed = self._open
            self.splicer.connected()
        if len(parsed.ticks) or parsed.quote:
            out += self._healthy(now_ns)
        if parsed.venue_time_ns:
            self._clock.saw(parsed.venue_time_ns, received_ns[-1])
        if parsed.quote:
            self._quote = parsed.quote
        out += self.splicer.live(parsed.ticks, now_ns)
        if acknowledged:  # again: these ticks may be of the connection before
            self.splicer.connected()
        return out

    def tick(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Let time pass; `next_close_ns` is the end of the earliest open bar."""
        out = self.splicer.tick(now_ns)
        out += self._silence(now_ns)
        if self._quote is not None and now_ns >= self._quote_due_ns:
            out.append(self._quote)
            self._quote, self._quote_due_ns = None, now_ns + self._rules.quotes_interval_ms * NS_PER_MS
        return out + self._close_by_clock(now_ns, next_close_ns)

    def healthy_since_open(self) -> bool:
        return self._data_ns > self._opened_ns

    def hopeless(self, now_ns: int) -> bool:
        """Tell whether this connection should be given up: not acknowledged in time, or silent too long."""
        quiet_ns = now_ns - max(self._opened_ns, self._data_ns)
        return quiet_ns > (self._rules.stale_after_s * NS_PER_S if self.subscribed else ACK_TIMEOUT_NS)

    def _healthy(self, now_ns: int) -> list[Input]:
        self._data_ns = now_ns
        if not self._stale:
            return []
        self._stale = False
        return [FeedRecovered(now_ns)]

    def _silence(self, now_ns: int) -> list[Input]:
        self._data_ns = self._data_ns or now_ns  # silence counts from the first look at the clock
        silent_s = (now_ns - self._data_ns) / NS_PER_S
        if self._stale or silent_s < self._rules.stale_after_s:
            return []
        self._stale = True
        reason = "connected, but nothing comes" if self.subscribed else "not connected"
        return [FeedStale(now_ns, round(silent_s, 3), reason)]

    def _close_by_clock(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Close the bars of a quiet pair: only while the connection is healthy and nothing is missing."""
        if next_close_ns is None or self._stale or not self.subscribed or not self.splicer.settled:
            return []
        event_ns = self._clock.at(now_ns) - self._rules.close_grace_ms * NS_PER_MS
        return [Clock(event_ns)] if event_ns >= next_close_ns else []
