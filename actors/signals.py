"""From the pairs' lanes to Redis: what gathers while one pipeline is under way is the next one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from actors.lane_frames import Fields, Outgoing
from actors.lane_server import Lane, LaneServer
from actors.latency import Durations
from actors.priority import Place, take
from actors.signal_feed import Feed, gather, take_turn
from actors.supervise import end, live, vitals
from market.backoff import delays
from market.errors import BadFrame, Retryable, SequenceBroken
from market.times import NS_PER_MS, NS_PER_S
from storage.bus import SNAPSHOT_TTL_S, Sent
from storage.state_keys import StateBus

IDLE_PING_S = 1.0
LATENCIES = 4_096

log = structlog.get_logger(__name__)


class SignalService:
    """Takes events from every pair on the node and acknowledges them when Redis has answered.

    Memory is bounded: of a lane whose events wait, no more is read. When Redis comes back without entries it
    had, the pairs concerned are told to begin again where its streams end.
    """

    def __init__(self, path: Path, bus: StateBus) -> None:
        self._bus = bus
        self._server = LaneServer[Lane](path, lambda server: Lane(server, self))
        self._feeds: dict[Lane, Feed] = {}
        self._lanes: dict[Feed, Lane] = {}
        self._hellos: deque[Feed] = deque()  # wait to be told where to begin; one per lane
        self._turns: deque[Feed] = deque()  # have something to send; each once
        self._work = asyncio.Event()
        self._redis_ok = False
        self._lost = ""  # why Redis cannot be used now
        self._lost_at: float | None = None
        self._refused: dict[str, str] = {}  # by symbol, as long as it lasts
        self._latencies_ns: deque[int] = deque(maxlen=LATENCIES)
        self._publish_s = Durations()
        self._counts: Counter[str] = Counter()

    def status(self) -> dict[str, Any]:
        """Say how it stands; latencies are from a frame's receipt to Redis's answer."""
        latencies = sorted(self._latencies_ns)
        return {
            "redis_ok": self._redis_ok and not self._refused,
            "reached": self._redis_ok or self._lost_at is None,
            "error": self._lost,
            "refused": dict(self._refused),
            "lanes": len(self._feeds),
            "acked": {feed.hello.pair_key: feed.acked for feed in self._lanes if feed.resumed},
            "waiting": sum(len(feed.pending) for feed in self._lanes),
            "publish_s": self._publish_s.series,
            "publish_latency_p50_ms": _quantile_ms(latencies, 0.50),
            "publish_latency_p99_ms": _quantile_ms(latencies, 0.99),
            **{
                name: self._counts[name]
                for name in ("published", "replayed", "reconnects", "snapshots_refused", "states_refused")
            },
        }

    async def run(self) -> None:
        """Serve until cancelled."""
        waits = delays()
        try:
            await self._server.start()
            while True:
                try:
                    await self._cycle()
                    waits = delays()
                except Retryable as error:
                    self._note_lost(str(error))
                    await asyncio.sleep(next(waits))
        finally:
            self._server.close()
            await self._bus.close()

    def joined(self, lane: Lane) -> None:
        for other, feed in list(self._feeds.items()):
            if feed.symbol == lane.hello.symbol:
                other.close()  # the pair has restarted; its old socket may not have noticed
        feed = Feed(lane.hello)
        self._feeds[lane] = feed
        self._lanes[feed] = lane
        self._hellos.append(feed)
        self._work.set()

    def events(self, lane: Lane, events: list[Outgoing]) -> None:
        feed = self._feeds[lane]
        try:
            feed.accept(events)
        except SequenceBroken as error:
            log.warning("lane_sequence_broken", pair=error.pair, expected=error.expected, got=error.got)
            lane.close()
            return
        try:
            feed.look(events)
        except BadFrame as error:  # no reason to keep back what it is among
            log.warning("state_not_understood", pair=lane.hello.pair_key, reason=error.reason)
        if feed.full:
            lane.pause()
        take_turn(self._turns, feed)
        self._work.set()

    def snapshot(self, lane: Lane, fields: Fields) -> None:
        feed = self._feeds[lane]
        feed.snapshot, feed.snapshot_ns, feed.snapshot_waits = fields, time.monotonic_ns(), True
        self._work.set()

    def left(self, lane: Lane) -> None:
        feed = self._feeds.pop(lane)
        del self._lanes[feed]
        feed.drop()

    async def _cycle(self) -> None:
        if not self._redis_ok:
            await self._come_back()
        await self._greet()
        await self._show()
        await self._send()
        if self._turns:
            return
        try:
            async with asyncio.timeout(IDLE_PING_S):
                await self._work.wait()
        except TimeoutError:
            await self._bus.ping()
        self._work.clear()

    async def _come_back(self) -> None:
        """Find out what the server still holds, and have the pairs bring again what it lost."""
        resumed = [feed for feed in self._lanes if feed.resumed]
        points = await self._bus.resume_points({feed.symbol: feed.last_seq for feed in resumed})
        rewound = [self._rewind(feed, points[feed.symbol]) for feed in resumed if feed in self._lanes]
        for feed in self._lanes:
            feed.snapshot_waits = feed.snapshot is not None
            feed.physics_waits = feed.physics is not None
        self._note_back(sum(rewound))

    def _rewind(self, feed: Feed, stream_seq: int) -> bool:
        start = feed.rewind(stream_seq, self._bus.maxlen)
        if start is None:
            return False
        self._lanes[feed].resume(start)
        self._lanes[feed].go_on()
        return True

    async def _greet(self) -> None:
        """Tell pairs that have said hello where to begin."""
        feeds = [feed for feed in self._hellos if feed in self._lanes]
        if feeds:
            points = await self._bus.resume_points({feed.symbol: feed.hello.last_seq for feed in feeds})
            for feed in feeds:
                if lane := self._lanes.get(feed):
                    lane.resume(feed.begin(points[feed.symbol], self._bus.maxlen))
        while self._hellos and (self._hellos[0] not in self._lanes or self._hellos[0].resumed):
            self._hellos.popleft()

    async def _show(self) -> None:
        """Bring the newest market states; those between were never shown by themselves."""
        shown = {feed: state for feed in self._lanes if (state := feed.shows) is not None}
        if not shown:
            return
        refused = await self._bus.keep({feed.symbol: state.value for feed, state in shown.items()})
        self._counts["states_refused"] += len(refused)
        for feed, state in shown.items():
            feed.physics_waits = feed.physics is not state

    async def _send(self) -> None:
        """Send one pipeline of what waits and acknowledge it."""
        snapshots = self._waiting_snapshots()
        batch = gather(self._turns)
        if not batch and not snapshots:
            return
        try:
            sent = await self._bus.send(
                {
                    feed.symbol: [(event.seq, event.message) for event in events]
                    for feed, events in batch.items()
                },
                {feed.symbol: fields for feed, fields in snapshots.items()},
            )
            self._confirm(batch, sent)
        finally:
            for feed in batch:
                take_turn(self._turns, feed)
        for feed, fields in snapshots.items():
            feed.snapshot_waits = feed.snapshot is not fields

    def _waiting_snapshots(self) -> dict[Feed, Fields]:
        alive_ns = time.monotonic_ns() - SNAPSHOT_TTL_S * NS_PER_S
        return {
            feed: feed.snapshot
            for feed in self._lanes
            if feed.snapshot_waits and feed.snapshot is not None and feed.snapshot_ns > alive_ns
        }

    def _confirm(self, batch: dict[Feed, list[Outgoing]], sent: Sent) -> None:
        now_ns = time.time_ns()
        self._counts["replayed"] += sent.replayed
        self._counts["snapshots_refused"] += sent.snapshots_refused
        for feed, events in batch.items():
            self._note_refusal(feed.symbol, sent.refused.get(feed.symbol))
            lane = self._lanes.get(feed)
            if lane is None:
                continue
            if feed.symbol in sent.refused:
                lane.close()
                continue
            feed.confirm(events)
            lane.ack(feed.acked)
            if not feed.full:
                lane.go_on()
            self._counts["published"] += len(events)
            delays_ns = [now_ns - event.received_ns for event in events if event.received_ns]
            self._latencies_ns.extend(delays_ns)
            for delay_ns in delays_ns:
                self._publish_s.add(delay_ns / NS_PER_S)

    def _note_lost(self, reason: str) -> None:
        self._redis_ok, self._lost = False, reason
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            log.warning("redis_lost", reason=reason)

    def _note_back(self, rewound: int) -> None:
        self._redis_ok, self._lost = True, ""
        if self._lost_at is not None:
            log.info("redis_back", down_s=round(time.monotonic() - self._lost_at, 1), rewound=rewound)
            self._lost_at = None
            self._counts["reconnects"] += 1

    def _note_refusal(self, symbol: str, reason: str | None) -> None:
        if reason is None:
            self._refused.pop(symbol, None)
        elif symbol not in self._refused:
            self._refused[symbol] = reason
            log.warning("redis_refused", symbol=symbol, reason=reason)


class SignalSupervisor:
    """The service as an actor's class; create it where an event loop runs."""

    def __init__(self, path: Path, url: str, maxlen: int, prepare: Callable[[], None]) -> None:
        prepare()
        take(Place.FIRST)
        self._service = SignalService(path, StateBus(url, maxlen))
        self._task = live(self._service.run())

    async def status(self) -> bytes:
        return orjson.dumps(vitals() | self._service.status())

    async def stop(self) -> None:
        """Close lanes and connection; what was not acknowledged stays with the pairs."""
        await end(self._task)


def _quantile_ms(ordered_ns: list[int], share: float) -> float | None:
    return ordered_ns[int(share * (len(ordered_ns) - 1))] / NS_PER_MS if ordered_ns else None
