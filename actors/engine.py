"""One pair at work: feed → journal → core → lane, and rows → hot file. Everything but Ray."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar, cast

import structlog
from duckdb import DuckDBPyConnection

from actors.effects import Effects
from actors.hot_writer import HotWriter
from actors.lane_frames import Outgoing
from actors.latency import Durations, Latencies
from actors.outlets import Outlet, Outlets
from actors.pacing import Pacing
from actors.recovery import PairFiles
from actors.spec import PairSpec
from feeds import clock
from market.errors import Fatal, Retryable
from market.events import Event
from market.inputs import Input, Instrument
from market.rows import Candle, Row
from market.times import NS_PER_MS, NS_PER_S
from storage.duck import Damaged
from storage.reads import begin
from storage.resync import place
from storage.schema import is_living
from storage.sweep import Plan, Swept

log = structlog.get_logger()
T = TypeVar("T")
IDLE_S = 0.25
FULL_RETRY_S = 1.0
SNAPSHOT_EVERY_NS = 20 * NS_PER_S  # a quiet pair's snapshot lives 60 s in Redis
SNAPSHOT_AT_MOST_NS = 100 * NS_PER_MS


class Feed(Protocol):
    """Where journal inputs come from."""

    finished: bool

    async def run(self) -> None: ...
    async def wait(self, timeout_s: float) -> None: ...
    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]: ...
    def drain(self, now_ns: int) -> list[Input]: ...
    def status(self) -> dict[str, object]: ...


class Engine:
    """Own one pair's files and feed until stopped.

    Rows that wait for the hot file are bounded: at 4 x max_batch_ticks the feed is not asked for more. Once
    told to stop it waits for no disk: what that refuses is fetched again, or folded again, at the next start.
    """

    def __init__(
        self,
        spec: PairSpec,
        files: PairFiles,
        writer: HotWriter,
        feed: Feed,
        outlets: Outlets,
    ) -> None:
        self.latencies, self.journal_s = Latencies(), Durations()
        self.tick_lag_ns: int | None = None  # receive minus exchange time of the newest trade
        self._spec, self._files, self._feed, self._lane = spec, files, feed, outlets.lane
        self._journal, self._writer = files.journal, writer
        self.core = files.core
        self._pages = outlets.pages
        self._outlets = [page.outlet for page in outlets.pages]
        if outlets.lane is not None:
            self._outlets.insert(0, Outlet("redis", "events", outlets.lane, lambda: self.last_event))
        writer.on_written = self._look
        self.last_candle: Candle | None = None  # the last one closed, of 1m, which every pair keeps
        self.recent: deque[tuple[int, int]] = deque(maxlen=64)  # (seq, received_ns) of the newest events
        self._pacing = Pacing(spec.engine.gather_ms * NS_PER_MS, spec.engine.flush_interval_ms * NS_PER_MS)
        self._write_due_ns = 0
        self._segment_since_ns, self._segment_first = clock.now_ns(), 0  # number of its head's last record
        self._rotate_after_ns = 0
        self._full_at = 0  # number of the record with which the segment was found full
        self._snapshot_ns = 0
        self._stopping = False
        self._refused = ""  # why the journal's disk takes nothing
        self._traded = False  # since the last snapshot

    @property
    def last_event(self) -> int:
        return self.core.state.ledger.next_event - 1

    @property
    def blocked(self) -> str:
        """Say what the disk refuses; empty when it takes everything."""
        return self._refused or self._writer.error

    @property
    def flush_s(self) -> Durations:
        return self._writer.flush_s

    @property
    def finished(self) -> bool:
        """True when a replay has given all its trades and they are in the hot file."""
        return self._feed.finished and self._writer.idle

    @property
    def feed_status(self) -> dict[str, object]:
        return self._feed.status()

    @property
    def sinks(self) -> dict[str, dict[str, object]]:
        """Say how far each sink is behind."""
        now_ns = clock.now_ns()
        return {outlet.sink: outlet.status(now_ns) for outlet in self._outlets}

    async def run(self) -> None:
        """Work until `stop` is called or a replay's files end, then leave everything written."""
        works = [self._feed.run(), *(outlet.lane.run() for outlet in self._outlets)]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            if self._spec.tick_size:
                await self._commit([Instrument(self._spec.tick_size)])
            await self._work(tasks)
            tasks[0].cancel()
            await self._commit(self._feed.drain(clock.now_ns()))
            await self._writer.flush()
            await asyncio.gather(*(outlet.deliver(self._spec.pair.key) for outlet in self._outlets))
            await self._writer.flush()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        self._stopping = True
        self._writer.hurry()

    async def ask(self, read: Callable[[DuckDBPyConnection, dict[str, list[Row]]], T]) -> T:
        """Run a reader, in a thread, on the file as subscribers know it, the open bars beside."""
        if self.blocked:
            raise Fatal(f"{self._spec.pair}: cannot be asked while the disk refuses: {self.blocked}")
        view = self._writer.view(self.core.open_rows, lambda: begin(self._files.hot.connection))
        opened, cursor = await view
        with closing(cursor):
            reading = asyncio.create_task(asyncio.to_thread(read, cursor, opened))
            try:
                return await asyncio.shield(reading)
            except asyncio.CancelledError:
                cursor.interrupt()
                await asyncio.wait([reading])
                raise
            except Damaged:
                await self._writer.run(self._files.hot.doubt)
                raise

    async def sweep(self) -> Swept:
        """Move what is old, and what every sink has, from the file into the archive; let old journal go.

        Raises Retryable when a disk refuses; what was moved by then is moved, the rest is where it was.
        """
        if self.blocked:
            raise Retryable(f"{self._spec.pair}: the disk refuses: {self.blocked}")
        files = self._files
        hot_s = with_former(self._spec.hot_s, await self._writer.run(files.hot.tables))
        plan = sweep_plan(self.core.state.ledger.watermark_ns, hot_s, self._acked())
        living: dict[str, Collection[str]] = {}

        def look() -> None:  # at the moment of the flush: a row that is born later has not ended
            living.update({t: tuple(keyed) for t, keyed in self.core.living().items() if t in hot_s})

        _, swept = await self._writer.view(look, lambda: files.hot.sweep(plan, living))
        gone = self._journal.drop_before(await self._writer.run(lambda: files.cut.find(files.hot)))
        await self._writer.run(lambda: _unlink(gone))
        return swept

    async def resync(self, store: str, from_ns: int) -> int:
        """Have a store get everything since a time again; return how many of its streams begin anew."""
        count = 0
        for page in [page for page in self._pages if page.outlet.sink.partition(".")[0] == store]:
            look = functools.partial(place, stream=page.stream, from_ns=from_ns)
            if (seq := await self.ask(look)) is not None:
                page.rewind(seq)
                count += 1
        return count

    def _acked(self) -> dict[str, int]:
        """Say by table up to where every sink of it has acknowledged."""
        acked: dict[str, int] = {}
        for outlet in self._outlets:
            seq = outlet.lane.acked_seq
            acked[outlet.table] = min(seq, acked.get(outlet.table, seq))
        return acked

    async def _work(self, tasks: list[asyncio.Task[None]]) -> None:
        late_ns = 0
        while not self._stopping:
            await self._feed.wait(IDLE_S)
            await self._turn()
            for task in tasks:
                if task.done():
                    task.result()  # a feed or lane that ended has a reason, and it is raised here
            gather_ns = self._pacing.gather_ns(late_ns)
            due_ns = time.monotonic_ns() + gather_ns
            await asyncio.sleep(gather_ns / NS_PER_S)
            late_ns = time.monotonic_ns() - due_ns

    async def _turn(self) -> None:
        now_ns = clock.now_ns()
        await self._commit(self._feed.take(now_ns, self.core.next_close_ns))
        await self._settle_tick_size()
        self._show(now_ns)
        self._write(now_ns)
        if self._segment_is_full(now_ns):
            self._rotate(now_ns)

    async def _commit(self, inputs: Sequence[Input]) -> None:
        """Make inputs durable, then fold and announce them."""
        for record in self.core.records([item for item in inputs if self._is_news(item)]):
            await self._commit_record(record)
            await asyncio.sleep(0)

    def _is_news(self, item: Input) -> bool:
        """Tell whether an input may change anything: a configured tick size goes before the venue's."""
        if not isinstance(item, Instrument):
            return True
        return item.tick_size == (self._spec.tick_size or item.tick_size) != self.core.state.ledger.tick_size

    async def _settle_tick_size(self) -> None:
        """Let a replay that ends with too few trades to decide be content with those."""
        if self._feed.finished and (guess := self.core.guess) is not None:
            await self._commit([guess])

    async def _commit_record(self, record: list[Input]) -> None:
        number = await self._append(record)
        self._perform(number, self.core.handle(number, record))
        if self._writer.pending_rows >= 4 * self._spec.engine.max_batch_ticks:
            await self._writer.flush()
        elif self._writer.pending_rows >= self._spec.engine.max_batch_ticks:
            self._writer.start()

    async def _append(self, record: list[Input]) -> int:
        """Append a record, waiting for as long as the disk refuses it."""
        while True:
            began_s = time.perf_counter()
            try:
                number = self._journal.append(record)
            except Retryable as error:
                self._complain(error)
                if self._stopping:
                    raise
                await asyncio.sleep(FULL_RETRY_S)
            else:
                self.journal_s.add(time.perf_counter() - began_s)
                self._refused = ""
                return number

    def _complain(self, error: Retryable) -> None:
        if not self._refused:
            log.error("journal_refused", pair=self._spec.pair.key, error=str(error))
        self._refused = str(error)

    def _perform(self, number: int, effects: Effects) -> None:
        if effects.events and self._lane is not None:
            self._lane.push([self.outgoing(event) for event in effects.events])
            self.recent.extend((event.seq, event.received_ns) for event in effects.events)
        if shown := effects.rows.inserted.get("candles_1m"):
            self.last_candle = cast("Candle", shown[-1])
        for _, ticks in effects.rows.ticks:
            self._traded = True
            self.latencies.add(clock.now_ns() - int(ticks["received_ns"][0]))
            self.tick_lag_ns = int(ticks["received_ns"][-1]) - int(ticks["ts_ns"][-1])
        self._writer.add(effects.rows, number)

    def outgoing(self, event: Event) -> Outgoing:
        return Outgoing(event.seq, event.received_ns, event.message(self._spec.alias))

    def _show(self, now_ns: int) -> None:
        """Send the pair's snapshot after trades, and now and then without, so that it does not expire."""
        wait_ns = SNAPSHOT_AT_MOST_NS if self._traded else SNAPSHOT_EVERY_NS
        if self._lane is None or now_ns - self._snapshot_ns < wait_ns:
            return
        self._snapshot_ns, self._traded = now_ns, False
        if fields := self.core.market():
            self._lane.snapshot(fields)

    def _look(self) -> None:
        for outlet in self._outlets:
            outlet.look(clock.now_ns())

    def _write(self, now_ns: int) -> None:
        if now_ns >= self._write_due_ns and not self._writer.busy:
            self._write_due_ns = now_ns + self._pacing.flush_ns(self._writer.last_flush_ns)
            self._writer.start()

    def _segment_is_full(self, now_ns: int) -> bool:
        if now_ns < self._rotate_after_ns or self._journal.number == self._segment_first:
            return False
        old = now_ns - self._segment_since_ns > self._spec.engine.segment_s * NS_PER_S
        return old or self._journal.bytes > self._spec.engine.segment_bytes

    def _rotate(self, now_ns: int) -> None:
        """Begin a new segment, as soon as the hot file is nowhere near the old one's beginning."""
        self._full_at = self._full_at or self._journal.number
        if self._writer.written < self._full_at:
            self._writer.start()
            return
        try:
            self._journal.rotate(*self.core.snapshot())
        except Retryable as error:
            self._complain(error)
            self._rotate_after_ns = now_ns + int(FULL_RETRY_S * NS_PER_S)
            return
        self._segment_since_ns, self._segment_first, self._full_at = now_ns, self._journal.number, 0


def _unlink(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def with_former(hot_s: Mapping[str, int], tables: Iterable[str]) -> dict[str, int]:
    """Let candles that are no longer kept go too, after the longest that any stay: they pin the journal."""
    candles = [seconds for table, seconds in hot_s.items() if table.startswith("candles_")]
    former = {table for table in tables if table.startswith("candles_")} - hot_s.keys()
    return {**dict.fromkeys(former, max(candles)), **hot_s} if candles else dict(hot_s)


def sweep_plan(now_ns: int, hot_s: Mapping[str, int], acked: Mapping[str, int]) -> Plan:
    """Say what may go of each table: what is older, by the pair's own clock, and what its sinks have.

    The rows of living tables go when they have ended, whatever their age.
    """
    return {
        table: (now_ns - seconds * NS_PER_S, acked.get(table))
        for table, seconds in hot_s.items()
        if not is_living(table)
    }
