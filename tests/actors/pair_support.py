"""Pairs in processes that can be killed, and pairs worked by hand, without a loop or a network."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import duckdb

from actors.pair import PairService
from actors.recovery import PairFiles, open_pair
from actors.spec import EngineSpec, LiveSource, PairSpec
from feeds import splicer
from market.inputs import Input
from market.pairs import Pair
from market.rows import Candle, OrderFlow, Rows, timeframe_text
from market.times import NS_PER_S

ROOT = Path(__file__).parents[2]
PAIR = Pair("binance", "spot", "BTCUSDT")
QUICK = EngineSpec(
    flush_interval_ms=100,
    max_batch_ticks=256,
    segment_s=1,
    segment_bytes=10_000,
    stale_after_s=2.0,
    close_grace_ms=200,
    quotes_interval_ms=100,
    timeframes_s=(1, 5, 60),
)

# Importing takes longer than a life lasts here: one process imports, and forks a pair whenever it is asked.
NURSERY = """
import os, sys
from tests.actors.pair_support import live
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # logs
        live(*line.split())
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def spec(folder: Path, ws_url: str = "", rest_url: str = "", engine: EngineSpec = QUICK) -> PairSpec:
    return PairSpec(PAIR, PAIR.key, folder, LiveSource(ws_url, rest_url), engine)


def live(folder: str, ws_url: str, rest_url: str) -> None:
    """Be a pair until killed, or until SIGTERM; impatient with holes, so that some are filled late."""
    splicer.WAIT_NS = NS_PER_S // 10

    async def work() -> None:
        service = PairService(spec(Path(folder), ws_url, rest_url))
        loop = asyncio.get_running_loop()
        stopping: list[asyncio.Task[int]] = []
        loop.add_signal_handler(signal.SIGTERM, lambda: stopping.append(loop.create_task(service.stop())))
        await service.run()

    asyncio.run(work())


class Nursery:
    """Starts pairs, one at a time, each in a process of its own."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def start(self, folder: Path, ws_url: str, rest_url: str) -> int:
        """Let a pair live; return its process's id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder} {ws_url} {rest_url}\n")
        self._process.stdin.flush()
        return int(self._line())

    def end(self, pid: int, number: signal.Signals) -> None:
        """Send a signal, and wait for the end."""
        os.kill(pid, number)
        assert self._line() == "dead"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


@asynccontextmanager
async def working(pair: PairSpec) -> AsyncIterator[PairService]:
    service = PairService(pair)
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        await asyncio.wait_for(service.stop(), 30)
        await running


class ByHand:
    """A pair worked as its engine does, step by step; dropping it without `close` is a kill."""

    def __init__(self, folder: Path, engine: EngineSpec = QUICK) -> None:
        self.files: PairFiles = open_pair(folder, PAIR, engine)
        self._pending = Rows()

    def take(self, *inputs: Input) -> None:
        for record in self.files.core.records(inputs):
            number = self.files.journal.append(record)
            self._pending.extend(self.files.core.handle(number, record).rows)

    def flush(self) -> None:
        self.files.hot.flush(self._pending, self.files.journal.number)
        self._pending = Rows()

    def rotate(self) -> None:
        self.files.journal.rotate(*self.files.core.snapshot())

    def close(self) -> None:
        self.files.close()


Tables = dict[str, list[tuple[Any, ...]]]


def tables(folder: Path) -> Tables:
    """Read every table of a pair's file, times as nanoseconds, in the order of their rows' keys."""
    with duckdb.connect(str(folder / "trading.duckdb"), read_only=True) as con:
        names = [name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {
            name: con.execute(f"SELECT {_columns(con, name)} FROM {name} ORDER BY ALL").fetchall()  # noqa: S608 - our own tables
            for name in names
            if name != "meta"
        }


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> str:
    described = con.execute(f"DESCRIBE {table}").fetchall()
    return ", ".join(f"epoch_ns({name})" if kind == "TIMESTAMP_NS" else name for name, kind, *_ in described)


def candles(read: Tables, timeframe_s: int) -> list[Candle]:
    return [Candle(*row) for row in read[f"candles_{timeframe_text(timeframe_s)}"]]


def flow(read: Tables) -> list[OrderFlow]:
    return [OrderFlow(*row) for row in read["order_flow"]]


def events(read: Tables) -> Sequence[tuple[int, int, str, dict[str, Any]]]:
    return [
        (seq, ts, name, cast("dict[str, Any]", json.loads(data))) for seq, ts, name, data in read["events"]
    ]
