"""From frames to journal inputs: parse, splice, conflate quotes, judge silence, read the venue's clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from feeds.lines import Arrivals, LineState
from feeds.silence import Silence
from feeds.splice import Splice
from feeds.venue import Notice, Parsed, Venue
from market.inputs import Clock, Input, Quote
from market.ticks import Ticks
from market.times import NS_PER_MS

RENUMBERED = "trades come under ids that the record has used: the venue began its ids anew"
MAX_UNKNOWN = 100  # kinds of messages that are told apart
OTHERS = "others"
ENGINES = frozenset({"online", "cancel_only", "limit_only", "maintenance", "post_only"})
"""States of a venue's engine that it may tell of itself."""


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
    """Own everything between one pair's sockets and its journal."""

    def __init__(
        self, venue: Venue, symbol: str, splicer: Splice, rules: IntakeRules, *, stale: bool = False
    ) -> None:
        self.splicer = splicer
        self.silence = Silence(rules.stale_after_s, stale=stale)
        self.rejected = 0
        self.refused = ""  # what the venue last said no to
        self.engine = ""  # the state of the venue, where it tells that
        self.unknown: Counter[str] = Counter()
        self.contract_size = 1.0
        self._venue, self._symbol, self._rules = venue, symbol, rules
        life_s = venue.rules.max_life_s
        self.lines = [LineState(line.acks, rules.stale_after_s, life_s) for line in venue.lines(symbol)]
        self._clock = VenueClock()
        self._quote: Quote | None = None
        self._quote_due_ns = 0

    @property
    def stale(self) -> bool:
        return self.silence.stale

    @property
    def silent(self) -> str:
        """Say how it is that nothing comes."""
        return "connected, but nothing comes" if self.subscribed else "not connected"

    @property
    def subscribed(self) -> bool:
        """Whether trades come."""
        return self.lines[0].subscribed

    def frames(self, line: int, arrivals: Arrivals, now_ns: int) -> list[Input]:
        """Take what the sockets of a line brought, in order."""
        out: list[Input] = []
        for epoch, part in _by_epoch(arrivals):
            parsed = self._venue.parse(part.frames, part.received_ns, self._symbol)
            self.rejected += len(parsed.rejected)
            out += parsed.rejected
            if parsed.venue_time_ns:
                self._clock.saw(parsed.venue_time_ns, part.received_ns[-1])
            out += self._spliced(parsed, now_ns, granted=self._heard(line, epoch, parsed, now_ns, out))
        return out

    def tick(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Let time pass; `next_close_ns` is the end of the earliest open bar."""
        out = self.splicer.tick(now_ns)
        missed, checking = self.splicer.deaf, self.splicer.checking
        out += self.silence.tick(now_ns, self.silent, checking=checking, missed=missed)
        if missed:
            self.silence.deaf()
        if self.subscribed and self.silence.checks(now_ns):
            self.splicer.check()
        if self._quote is not None and now_ns >= self._quote_due_ns:
            out.append(self._quote)
            self._quote, self._quote_due_ns = None, now_ns + self._rules.quotes_interval_ms * NS_PER_MS
        return out + self._close_by_clock(now_ns, next_close_ns)

    def judged(self, now_ns: int, reason: str, *, trading: bool | None) -> list[Input]:
        """Take the venue's answer to whether the symbol is traded; None: there is none."""
        if trading is False:
            self.silence.halts(now_ns)
        elif trading and self.subscribed:
            self.silence.suspects(now_ns, reason)
            self.splicer.check()
        else:
            return self.silence.fails(now_ns, reason)
        return []

    def in_base_units(self, ticks: Ticks) -> Ticks:
        """Turn contracts into what they stand for."""
        if self.contract_size != 1.0:
            ticks["size"] *= self.contract_size
        return ticks

    def _heard(self, line: int, epoch: int, parsed: Parsed, now_ns: int, out: list[Input]) -> bool:
        """Judge what a socket brought; tell whether it has just been granted all that was asked of it."""
        fed = bool(len(parsed.ticks) or parsed.quote)
        state = self.lines[line]
        state.heard(epoch, now_ns, fed=fed)
        for notice in parsed.notices:
            self._note(notice, state, epoch)
        if fed or any(notice.kind == "alive" for notice in parsed.notices):
            out += self.silence.heard(now_ns)
        acks = sum(notice.subscribed for notice in parsed.notices)
        return acks > 0 and state.acknowledged(epoch, acks) and line == 0

    def _note(self, notice: Notice, state: LineState, epoch: int) -> None:
        if notice.kind == "shutdown":
            state.closing(epoch)
        elif notice.kind == "refused":
            self.refused = f"{notice.code}: {notice.text}"
        elif notice.kind == "alive" and notice.text in ENGINES:
            self.engine = notice.text
        elif notice.kind == "unknown":
            known = notice.text in self.unknown or len(self.unknown) < MAX_UNKNOWN
            self.unknown[notice.text if known else OTHERS] += notice.count

    def _spliced(self, parsed: Parsed, now_ns: int, *, granted: bool) -> list[Input]:
        if granted:
            self.splicer.connected()
        if len(parsed.ticks):
            self.silence.traded(now_ns)
        if quote := parsed.quote:
            size = self.contract_size
            self._quote = replace(quote, bid_size=quote.bid_size * size, ask_size=quote.ask_size * size)
        ticks = self.in_base_units(parsed.ticks)
        out = self.splicer.live(ticks, now_ns, parsed.newest_id, parsed.ids)
        return out + self.silence.useful(now_ns, RENUMBERED if self.splicer.renumbered else "")

    def _close_by_clock(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Close the bars of a quiet pair: only while the connection is healthy and nothing is missing."""
        if next_close_ns is None or self.stale or not self.subscribed or not self.splicer.settled:
            return []
        event_ns = self._clock.at(now_ns) - self._rules.close_grace_ms * NS_PER_MS
        return [Clock(event_ns)] if event_ns >= next_close_ns else []


def _by_epoch(arrivals: Arrivals) -> Iterator[tuple[int, Arrivals]]:
    """Part frames where they came over another socket than the one before."""
    if arrivals.epochs.count(arrivals.epochs[0]) == len(arrivals.epochs):  # but in a handover it is always so
        yield arrivals.epochs[0], arrivals
        return
    for epoch, group in groupby(zip(*arrivals, strict=True), key=itemgetter(2)):
        yield epoch, Arrivals(*map(list, zip(*group, strict=True)))
