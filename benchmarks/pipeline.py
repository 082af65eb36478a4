"""One pair's whole path in this process, without a network: frames → ticks → journal → core → hot file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from actors import effects, folds
from actors.engine import Engine
from actors.hot_writer import HotWriter
from actors.lane_frames import Fields, Outgoing
from actors.outlets import Outlets
from actors.recovery import PairFiles, open_pair
from actors.spec import EngineSpec, LiveSource, PairSpec
from analytics import anomaly, candles, fvg, market_state, order_flow, profile, zones
from benchmarks.recording import Frames
from benchmarks.stopwatch import Stopwatch
from feeds import binance_frames
from feeds.binance_spot import VENUE
from feeds.inbox import Arrivals
from feeds.intake import Intake, IntakeRules
from feeds.splicer import Splicer
from market.inputs import Input
from market.pairs import Pair

PAIR = Pair("binance", "spot", "BTCUSDT")
NEVER_MS = 60_000
ANALYTICS = (
    ("panes", folds, "panes"),
    ("candles", candles, "step"),
    ("order flow", order_flow, "step"),
    ("gaps", fvg, "step"),
    ("zones", zones, "step"),
    ("profile", profile, "step"),
    ("market state", market_state, "step"),
    ("outliers", anomaly, "step"),
    ("announcing", effects.Effects, "tell"),
)
"""What is looked at inside the core: the functions as their callers find them."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run cost: CPU of the whole process, wall time, and CPU by step."""

    ticks: int
    batches: int
    cpu_s: float
    wall_s: float
    steps_s: dict[str, float]


class RecordedFeed:
    """Hand out recorded frames in batches of a size, then stop the engine.

    With `flush_every` the hot file is flushed after so many batches instead of by the clock.
    """

    finished = False

    def __init__(
        self, intake: Intake, writer: HotWriter, frames: Frames, size: int, flush_every: int
    ) -> None:
        self.batches = 0
        self.engine: Engine | None = None
        self._intake, self._writer, self._flush_every = intake, writer, flush_every
        self._slices = _slices(frames, size)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def wait(self, timeout_s: float) -> None:
        """Return at once: there is always something."""

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:  # noqa: ARG002 - recorded time rules
        frames, received_ns = next(self._slices, ([], []))
        if not frames:
            if self.engine is not None:
                self.engine.stop()
            return []
        self.batches += 1
        if self._flush_every and self.batches % self._flush_every == 0:
            self._writer.start()
        out = self._intake.frames(0, Arrivals(frames, received_ns, [1] * len(frames)), received_ns[-1])
        return out + self._intake.tick(received_ns[-1], next_close_ns)

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        return []

    def status(self) -> dict[str, object]:
        return {}


class Nobody:
    """A lane that takes everything at once: events become messages, and nothing waits for them."""

    connected = True
    acked_seq = 0
    error = ""

    async def run(self) -> None:
        await asyncio.Event().wait()

    def push(self, events: Sequence[Outgoing]) -> None:
        self.acked_seq = events[-1].seq

    def snapshot(self, fields: Fields) -> None:
        pass


def run(frames: Frames, size: int, flush_every: int = 0) -> Run:
    """Send frames down the path in batches of `size`, into a new record that is removed afterwards."""
    with TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        engine = EngineSpec(gather_ms=0)
        if flush_every:
            engine = replace(engine, flush_interval_ms=NEVER_MS)
        spec = PairSpec(PAIR, PAIR.key, Path(folder) / "pair", LiveSource("", ""), engine)
        files = open_pair(spec.folder, spec.pair, spec.engine)
        try:
            return uvloop.run(_run(spec, files, frames, size, flush_every))
        finally:
            files.close()


async def _run(spec: PairSpec, files: PairFiles, frames: Frames, size: int, flush_every: int) -> Run:
    rules = IntakeRules(spec.engine.stale_after_s, spec.engine.close_grace_ms, spec.engine.quotes_interval_ms)
    intake = Intake(VENUE, spec.pair.symbol, Splicer(frames.first_id), rules)
    intake.lines[0].opened(frames.received_ns[0])
    writer = HotWriter(files.hot, spec.folder / "trading.duckdb.wal")
    feed = RecordedFeed(intake, writer, frames, size, flush_every)
    feed.engine = Engine(spec, files, writer, feed, Outlets(Nobody()))
    with Stopwatch() as watch:
        watch.attach("decode", binance_frames, "parse")
        watch.attach("splice", intake.splicer, "live")
        watch.attach("journal", files.journal, "append")
        watch.attach("core", files.core, "handle")
        for name, owner, method in ANALYTICS:
            watch.attach(f"  {name}", owner, method)
        watch.attach("hot file", files.hot, "flush")
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await feed.engine.run()
        await writer.close()
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    if files.hot.last_tick_seq() != len(frames):
        raise AssertionError(f"{files.hot.last_tick_seq()} of {len(frames)} trades were stored")
    steps_s = {step: spent / 1e9 for step, spent in watch.spent_ns.items()}
    steps_s["the rest"] = cpu_s - sum(steps_s.values())
    return Run(len(frames), feed.batches, cpu_s, wall_s, steps_s)


def _slices(frames: Frames, size: int) -> Iterator[tuple[list[bytes], list[int]]]:
    for start in range(0, len(frames), size):
        yield frames.raw[start : start + size], frames.received_ns[start : start + size]
