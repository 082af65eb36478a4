"""A backlog of events from a pair's file, through the real lane and supervisor, into a real Redis.

QuestDB's and LanceDB's backlogs are the parts `questdb` and `vectors`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import redis

from actors.hot_writer import HotWriter
from actors.lane_client import LaneClient
from actors.lane_frames import Hello, Outgoing
from benchmarks import rig
from benchmarks.figures import Figure
from market.events import Event
from market.rows import EventRow, Rows
from market.times import NS_PER_S
from storage.bus import MAX_STREAM_ENTRIES
from storage.embedded_redis import EmbeddedRedis
from storage.hot import HotFile

EVENTS, PAIR = 100_000, "binance:spot:BTCUSDT"
GOAL = 20_000.0
RUNS = 3
TIMEOUT_S = 120.0
_T0_NS = 1_766_318_400 * NS_PER_S
_CANDLE = (
    b'{"timeframe":"1m","timestamp":"2025-12-21T12:01:00Z","open":104213.97,"high":104299.0,"low":104200.01,'
    b'"close":104250.55,"volume":12.345678901,"buy_volume":6.1234567,"sell_volume":6.2222213,'
    b'"vwap":104248.12345678901,"trade_count":1234,"is_complete":true,"revision":0}'
)
_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from actors.signals import SignalService
from storage.bus import Bus
asyncio.run(SignalService(Path(sys.argv[1]), Bus(sys.argv[2], int(sys.argv[3]))).run())
"""


class _Run(NamedTuple):
    wall_s: float
    pair_cpu_s: float
    supervisor_cpu_s: float
    entries: int


def measure_throughput() -> list[Figure]:
    """Bring the same backlog into an empty server a few times; the run least disturbed counts."""
    with rig.folder() as folder:
        hot = _filled(folder / "pair")
        try:
            runs = [_run(folder / f"{number}", hot) for number in range(RUNS)]
        finally:
            hot.close()
    best = min(runs)
    if any(run.entries < MAX_STREAM_ENTRIES for run in runs):
        raise RuntimeError(f"a stream of {min(run.entries for run in runs)} entries")
    return [
        Figure(
            "events a second into Redis, from a backlog", EVENTS / best.wall_s, "1/s", GOAL, at_least=True
        ),
        Figure("  CPU an event, the pair's side", best.pair_cpu_s / EVENTS * 1e6, "µs"),
        Figure("  CPU an event, the supervisor", best.supervisor_cpu_s / EVENTS * 1e6, "µs"),
    ]


def _filled(folder: Path) -> HotFile:
    hot = HotFile.open(folder / "trading.duckdb", PAIR, (60,))
    rows = Rows()
    for seq in range(1, EVENTS + 1):
        rows.insert("events", EventRow(seq, _T0_NS + seq, "CANDLE_CLOSED", _CANDLE))
    hot.flush(rows, 1)
    return hot


def _run(folder: Path, hot: HotFile) -> _Run:
    server = EmbeddedRedis(folder)
    lane = folder / "signal.sock"
    url = server.start()
    try:
        arguments = ["-c", _SUPERVISOR, str(lane), url, str(MAX_STREAM_ENTRIES)]
        with rig.child(*arguments) as process:
            supervisor = psutil.Process(process.pid)
            before_s = time.process_time()
            rig.wait_until(lane.exists, "a lane", process, 0.01)
            ready_s = rig.cpu_s([supervisor])
            wall_s = asyncio.run(_bring(lane, hot))
            spent_s, supervisor_s = time.process_time() - before_s, rig.cpu_s([supervisor]) - ready_s
        with redis.Redis.from_url(url) as client:
            entries = int(client.xlen(f"stream:state_update:{PAIR}"))
    finally:
        server.stop()
    return _Run(wall_s, spent_s, supervisor_s, entries)


async def _bring(lane: Path, hot: HotFile) -> float:
    """Do as a pair does whose Redis was away; return the seconds until the last acknowledgement."""
    writer, done = HotWriter(hot, lane.with_name("none.wal")), asyncio.Event()

    async def read_after(seq: int, limit: int) -> list[Outgoing]:
        rows = await writer.run(lambda: hot.events_after(seq, limit))
        return [Outgoing(row[0], 0, Event(*row).message(PAIR)) for row in rows]

    def acked(seq: int) -> None:
        if seq == EVENTS:
            done.set()

    client = LaneClient(lane, lambda: Hello(PAIR, PAIR, EVENTS, 0), read_after, acked)
    began_s = time.perf_counter()
    task = asyncio.create_task(client.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await done.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])
        await writer.close()
    return time.perf_counter() - began_s
