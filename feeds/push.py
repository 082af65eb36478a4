"""A feed of what collectors push into a Redis stream: bounded pages, each journaled with where it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import structlog

from feeds import clock
from feeds.frames import Trade, to_ticks
from feeds.push_fields import Told, read
from feeds.push_order import Order, Placed, TickRule
from feeds.push_stream import BEGINNING, Page, PushStream, place_of
from market.backoff import delays
from market.errors import Retryable
from market.inputs import Clock, FeedRecovered, FeedStale, Input, Position, Quote, TickBatch
from market.times import NS_PER_MS, NS_PER_S

log = structlog.get_logger()
RETRY_S = (0.1, 5.0)
TRIM_EVERY_S = 1.0
GONE = "the server lost the stream, with all that nobody had read of it"
OTHER = "the server went back to an earlier state of the stream"

NOTHING = Page([], added=0)  # was ever pushed: whatever comes from now on is owed

Known: TypeAlias = Callable[[Sequence[Trade]], Awaitable[set[str]]]
"""Say which ids of these trades the record has."""


@dataclass(frozen=True, slots=True)
class PushRules:
    """The knobs of one feed; `counted` ids are integers that rise by one."""

    counted: bool
    trim: bool
    stale_after_s: float
    quotes_interval_ms: int


class Start(NamedTuple):
    """Where the journal stands: the text of its last Position, and whether it says that the feed is stale."""

    position: str = ""
    stale: bool = False


FRESH = Start()


class _State(msgspec.Struct, frozen=True):
    """What a Position says: all up to entry `at` is in the record, and entry `added` of the stream's is it.

    The rest is what the tick rule needs of the trades before, and the newest time that was told.
    """

    source: Literal["push"] = "push"
    at: str = BEGINNING
    added: int = -1  # not looked yet
    price: float = 0.0
    sign: int = 1
    inferred: int = 0
    newest_ns: int = 0


class _Handed(NamedTuple):
    """A page as journal inputs."""

    inputs: list[Input]
    at: str
    newest_ns: int  # of its trades; 0: there are none
    told: Told

    def all(self, next_close_ns: int | None) -> list[Input]:
        """Add the time it tells, where that closes anything."""
        clock_ns = self.told.clock_ns
        closes = self.newest_ns or (next_close_ns is not None and clock_ns >= next_close_ns)
        return [*self.inputs, Clock(clock_ns)] if closes and clock_ns > self.newest_ns else self.inputs


class PushFeed:
    """Hand out journal inputs as entries come; one page is held, the next is read when it was taken."""

    finished = False

    def __init__(
        self,
        stream: PushStream,
        order: Order,
        known: Known,
        rules: PushRules,
        start: Start = FRESH,
    ) -> None:
        self.last_error = ""
        self.rejected = self.duplicates = self.behind = self.connects = 0
        self._stream, self._order, self._known, self._rules = stream, order, known, rules
        state = _state(start.position)
        self._at, self._added = state.at, state.added
        self._rule = TickRule(state.price, state.sign, state.inferred)
        self._newest_ns = max(state.newest_ns, order.newest_ns)
        self._stale = start.stale
        self._failing_ns = clock.now_ns()  # since when the server does not answer; 0: it does
        self._handed_ns, self._beat_ns = 0, int(rules.stale_after_s / 2 * NS_PER_S)
        self._ready: _Handed | None = None
        self._taken = self._kept = self._trimmed = self._at  # up to where: handed out, journaled, let go
        self._trim_due_s, self._untrimmed = 0.0, ""  # why the server keeps what is journaled
        self._quote: Quote | None = None
        self._quote_due_ns = 0
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Read until cancelled."""
        waits = delays(*RETRY_S)
        try:
            while True:
                try:
                    await self._read()
                    waits = delays(*RETRY_S)
                except Retryable as error:
                    self._complain(error)
                    await asyncio.sleep(next(waits))
        finally:
            await self._stream.close()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is something to look at, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:
        """Return what has come; what was returned before is in the journal by now."""
        self._wake.clear()
        self._kept = self._taken
        out = self._judged(now_ns)
        if self._ready is not None:
            out += self._handed_out(self._ready, next_close_ns)
        if self._quote is not None and now_ns >= self._quote_due_ns:
            out.insert(0, self._quote)
            self._quote, self._quote_due_ns = None, now_ns + self._rules.quotes_interval_ms * NS_PER_MS
        return out

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        """Return what was read; the rest stays in the stream."""
        return self._handed_out(self._ready, None) if self._ready is not None else []

    def status(self) -> dict[str, object]:
        """Say what a person asks first: does it come, and is anything missing."""
        return {
            "state": self._state(),
            "stream": self._stream.name,
            "server": self._stream.server,
            "connects": self.connects,
            "reconnects": max(0, self.connects - 1),
            "last_error": self.last_error,
            "behind": self.behind,
            "untrimmed": self._untrimmed,
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "sides_inferred": self._rule.inferred,
            "holes": self._order.open_holes,
        }

    def _state(self) -> str:
        if self._stale:
            return "stale"
        if self._failing_ns:
            return "connecting"
        return "catching up" if self.behind else "streaming"

    async def _read(self) -> None:
        """Hand in what follows, now and then that nothing did: so it is seen to live. Then wait for more."""
        await self._room.wait()
        await self._trim()
        page = await self._stream.page(self._at)
        self._answered()
        if not page.exists and self._added <= 0:
            page = NOTHING
        if not page.exists or page.added < self._added or place_of(page.last_id) < place_of(self._at):
            log.warning("push_stream_lost", stream=self._stream.name, added=page.added, read=self._added)
            self._at, self._added = BEGINNING, 0
            self._taken = self._kept = self._trimmed = BEGINNING  # ids of before say nothing of these
            self._order.lost(0, GONE)
        else:
            await self._hand_in(page)
            if page.is_last:
                await self._stream.wait(self._at)

    async def _hand_in(self, page: Page) -> None:
        now_ns = clock.now_ns()
        told = read(page.entries, now_ns, self._newest_ns, counted=self._rules.counted)
        doubtful = self._order.doubtful([*told.trades, *(trade for trade, _ in told.old)])
        known = await self._known(doubtful) if doubtful else set()
        refused = [why for trade, why in told.old if not self._order.has(trade, known)]
        is_new = self._account(page)
        if not page.entries and not is_new and now_ns - self._handed_ns < self._beat_ns:
            return
        placed = self._order.place(told.trades, known, now_ns)
        self.duplicates += len(told.trades) - len(placed.trades) + len(told.old) - len(refused)
        self._newest_ns, told = told.newest_ns, told._replace(rejected=told.rejected + refused)
        self._at = page.entries[-1][0].decode() if page.entries else self._at
        self._ready, self._handed_ns = self._inputs(told, placed, now_ns), now_ns
        self._room.clear()
        self._wake.set()

    def _account(self, page: Page) -> bool:
        """Compare what was read with what was ever added; tell whether anything was lost."""
        before = page.added - page.length if self._added < 0 else self._added
        self._added = before + len(page.entries)
        lost = page.added - self._added if page.is_last else 0
        self.behind = 0 if page.is_last else max(0, page.added - self._added)
        if lost:
            self._added = page.added
            log.warning("push_entries_lost", stream=self._stream.name, entries=lost)
            reason = f"{lost:,} entries were deleted before they were read" if lost > 0 else OTHER
            self._order.lost(max(0, lost), reason)
        return lost != 0

    def _inputs(self, told: Told, placed: Placed, now_ns: int) -> _Handed:
        trades = self._rule.apply(placed.trades)
        ticks, ids = to_ticks([(trade, now_ns) for trade in trades])
        rule = self._rule
        state = _State("push", self._at, self._added, rule.price, rule.sign, rule.inferred, self._newest_ns)
        position = Position(msgspec.json.encode(state).decode(), rule.inferred)
        out: list[Input] = [*told.rejected, *placed.before, position]
        if trades:
            out.append(TickBatch(ticks, ids=ids))
        return _Handed([*out, *placed.after], self._at, trades[-1].ts_ns if trades else 0, told)

    def _handed_out(self, page: _Handed, next_close_ns: int | None) -> list[Input]:
        self._ready, self._taken = None, page.at
        self._room.set()
        self.rejected += len(page.told.rejected)
        self._quote = page.told.quote or self._quote
        return page.all(next_close_ns)

    async def _trim(self) -> None:
        """Let entries go that are journaled, now and then."""
        due = self._rules.trim and self._kept != self._trimmed and time.monotonic() >= self._trim_due_s
        if due:
            upto = self._kept
            try:
                more, self._untrimmed = await self._stream.trim(upto), ""
            except Retryable as error:  # reading goes on, and tells of a server that is away
                if not self._untrimmed:
                    log.warning("push_stream_not_trimmed", stream=self._stream.name, error=str(error))
                more, self._untrimmed = False, str(error)
            if not more:
                self._trimmed, self._trim_due_s = upto, time.monotonic() + TRIM_EVERY_S

    def _answered(self) -> None:
        self.connects += self._failing_ns > 0
        self._failing_ns, self.last_error = 0, ""

    def _complain(self, error: Retryable) -> None:
        if not self._failing_ns:
            self._failing_ns = clock.now_ns()
        if str(error) != self.last_error:
            log.warning("feed_cut", stream=self._stream.name, error=str(error))
        self.last_error = str(error)

    def _judged(self, now_ns: int) -> list[Input]:
        """Tell of a server that has not answered for too long, and of one that does again."""
        silent_s = (now_ns - self._failing_ns) / NS_PER_S if self._failing_ns else 0.0
        if self._stale and not self._failing_ns:
            self._stale = False
            return [FeedRecovered(now_ns)]
        if self._stale or silent_s < self._rules.stale_after_s:
            return []
        self._stale = True
        return [FeedStale(now_ns, round(silent_s, 3), self.last_error or "Redis does not answer")]


def _state(position: str) -> _State:
    """Read what the journal says; a position of another kind of feed says nothing."""
    try:
        return msgspec.json.decode(position, type=_State)
    except msgspec.MsgspecError:
        return _State()
