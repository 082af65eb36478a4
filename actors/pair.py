"""A pair's process: recover, work, and begin again after whatever went wrong. The Ray side is this thin."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from actors.engine import Engine, Feed
from actors.hot_writer import HotWriter
from actors.lane_client import LaneClient
from actors.lane_frames import Hello, Outgoing
from actors.outlets import Outlets
from actors.page_source import outlet
from actors.priority import Place, take
from actors.push import push_feed
from actors.recovery import PairFiles, open_pair
from actors.replaying import replay_feed
from actors.report import report
from actors.spec import PairSpec, PushSource, ReplaySource
from actors.state import Ledger
from feeds.intake import Intake, IntakeRules
from feeds.live import Address, LiveFeed
from feeds.overlap import Overlap
from feeds.requests import Courtesy
from feeds.splice import Splice
from feeds.splicer import Splicer
from feeds.venue import Venue
from feeds.venues import VENUES
from market.backoff import delays
from market.errors import Fatal, MarketdError, Retryable
from market.events import Event
from market.times import NS_PER_S
from storage.proof import Claim, prove
from storage.reads import export

log = structlog.get_logger()
SINK = "redis"
HEALTHY_S = 60.0  # a failure after so much work is a new one


class PairService:
    """Keep one pair going for ever; what stops it is said in `failure`, and tried again."""

    def __init__(self, spec: PairSpec) -> None:
        self.spec = spec
        self.failure = ""
        self.engine: Engine | None = None
        self._stopping = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()
        self._kept = 0

    async def run(self) -> None:
        waits = delays(1.0, 30.0)
        while not self._stopping.is_set():
            self._released.clear()
            began_s = time.monotonic()
            try:
                await self._once()
            except MarketdError as error:
                self.failure = str(error)
                log.error("pair_failed", pair=self.spec.pair.key, error=self.failure)
            except Exception as error:  # a fault nobody foresaw must not end the pair in silence
                self.failure = f"{type(error).__name__}: {error}"
                log.exception("pair_failed", pair=self.spec.pair.key)
            self._released.set()
            if time.monotonic() - began_s > HEALTHY_S:
                waits = delays(1.0, 30.0)
            await self._pause(next(waits))

    async def stop(self) -> int:
        """Store what was received, hand on what can be, let go of the files; return the ticks kept."""
        self._stopping.set()
        if self.engine is not None:
            self.engine.stop()
        await self._released.wait()
        return self._kept

    async def query(self, sql: str, fmt: str, out: Path) -> None:
        """Write the answer to `out`, up to date with everything that was published."""
        await self._working().ask(lambda cursor, opened: export(cursor, opened, sql, fmt, out))

    async def prove(self) -> list[Claim]:
        """Prove the record as it stands now."""
        spec = self.spec
        return await self._working().ask(
            lambda cursor, opened: prove(cursor, opened, spec.engine.timeframes_s, contiguous=spec.contiguous)
        )

    async def sweep(self) -> dict[str, Any]:
        """Move old rows into the archive; say how much that was, and whether there is more."""
        swept = await self._working().sweep()
        parts = swept.tables.values()
        return {
            "rows": sum(part.rows for part in parts),
            "bytes": sum(part.bytes for part in parts),
            "more": swept.more,
        }

    async def resync(self, store: str, from_ns: int) -> int:
        """Have a store get everything since a time again; say how many of its streams begin anew."""
        return await self._working().resync(store, from_ns)

    def status(self) -> dict[str, Any]:
        return report(self.spec, self.engine, self.failure)

    def _working(self) -> Engine:
        if self.engine is not None:
            return self.engine
        if self.failure:
            raise Fatal(f"{self.spec.pair}: {self.failure}")
        raise Retryable(f"{self.spec.pair}: is recovering")

    async def _once(self) -> None:
        """Recover, and work until stopped or failed."""
        spec = self.spec
        files = await asyncio.to_thread(
            open_pair,
            spec.folder,
            spec.pair,
            spec.engine,
            params=spec.params,
            contiguous=spec.contiguous,
        )
        writer = HotWriter(files.hot, self.spec.folder / "trading.duckdb.wal")
        try:
            pages = [outlet(self.spec, sink, files.hot, writer) for sink in self.spec.sinks]
            lane = self._lane(files, writer)
            self.engine = Engine(self.spec, files, writer, self._feed(files), Outlets(lane, pages))
            self.failure = ""
            log.info("pair_recovered", pair=self.spec.pair.key, ticks=files.core.state.ledger.next_seq - 1)
            if self._stopping.is_set():
                self.engine.stop()
            await self.engine.run()
        finally:
            self.engine = None
            self._kept = files.core.state.ledger.next_seq - 1
            try:
                await writer.close()
            finally:
                files.close()

    def _feed(self, files: PairFiles) -> Feed:
        ledger, source, engine = files.core.state.ledger, self.spec.source, self.spec.engine
        if isinstance(source, ReplaySource):
            return replay_feed(self.spec, source, ledger)
        if isinstance(source, PushSource):
            return push_feed(self.spec, source, files, lambda read: self._working().ask(read))
        pair = self.spec.pair
        venue = VENUES[pair.exchange, pair.market]
        rules = IntakeRules(engine.stale_after_s, engine.close_grace_ms, engine.quotes_interval_ms)
        splicer = splice_of(ledger, venue, source.back_s)
        intake = Intake(venue, pair.symbol, splicer, rules, stale=ledger.stale)
        return LiveFeed(venue, Address(source.ws_url, source.rest_url, source.shared), pair.symbol, intake)

    def _lane(self, files: PairFiles, writer: HotWriter) -> LaneClient | None:
        if self.spec.signal_lane is None:
            return None
        cursor = files.hot.cursor(SINK)

        def hello() -> Hello:
            last = files.core.state.ledger.next_event - 1
            return Hello(self.spec.pair.key, self.spec.alias, last, lane.acked_seq or cursor)

        async def read_after(seq: int, limit: int) -> list[Outgoing]:
            rows = await writer.run(lambda: files.hot.events_after(seq, limit))
            if not rows:
                await writer.flush()
                rows = await writer.run(lambda: files.hot.events_after(seq, limit))
            events = (Event(*row) for row in rows)
            return [Outgoing(event.seq, 0, event.message(self.spec.alias)) for event in events]

        lane = LaneClient(self.spec.signal_lane, hello, read_after, lambda seq: writer.set_cursor(SINK, seq))
        return lane

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


class PairActor:
    """The Ray actor around a PairService; `prepare` sets up logging in the actor's process."""

    def __init__(self, spec: PairSpec, prepare: Callable[[], None]) -> None:
        prepare()
        take(Place.USUAL)
        gc.freeze()  # what was imported stays: to look through it again costs 0.1 s, in which nothing runs
        self._service = PairService(spec)
        self._life = asyncio.get_running_loop().create_task(self._service.run())

    async def status(self) -> bytes:
        """Report as JSON, which Ray hands on as it is: of a dict it would pickle each tuple by itself."""
        return orjson.dumps(self._service.status())

    async def query(self, sql: str, fmt: str, out: str) -> None:
        await self._service.query(sql, fmt, Path(out))

    async def prove(self) -> list[Claim]:
        return await self._service.prove()

    async def sweep(self) -> dict[str, Any]:
        return await self._service.sweep()

    async def resync(self, store: str, from_ns: int) -> int:
        return await self._service.resync(store, from_ns)

    async def stop(self) -> int:
        """Drain; return how many ticks the record holds."""
        return await self._service.stop()


def splice_of(ledger: Ledger, venue: Venue, back_s: int) -> Splice:
    """Go on with a record where it stands."""
    rules = venue.rules
    page = rules.page_limit if rules.pages_by_id else 0
    courtesy = Courtesy(back_s * NS_PER_S, page, windows=rules.windows)
    if rules.contiguous:
        gaps = [(gap.first_id, gap.last_id, gap.next_id, gap.from_ns) for gap in ledger.gaps]
        return Splicer(ledger.next_id, gaps, ledger.last_ts_ns, courtesy)
    spans = [(gap.first_id, gap.from_ns, gap.to_ns) for gap in ledger.gaps]
    return Overlap(ledger.next_seq, ledger.recent_ids, ledger.last_ts_ns, gaps=spans, courtesy=courtesy)
