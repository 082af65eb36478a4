"""A backlog of recorded trades into the embedded QuestDB: rows a second, until SQL sees them too."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil

from benchmarks.figures import Figure
from feeds.replay import read_trades
from market.rows import Candle
from market.ticks import Ticks, joined
from market.times import DAY_NS, NS_PER_S
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_frames import TradeRows

FILE = Path(__file__).parents[1] / "tests/data/binance_spot_btcusdt_20240808-09.csv.gz"
PAIRS, BATCH, ROWS = 4, 20_000, 400_000
RUNS = 4  # the first warms the server up; of the others the one least disturbed counts
POLL_S = 0.01
SEEN_WITHIN_S = 60.0
_MINUTE_NS = 60 * NS_PER_S
_FLAT = (100.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 100.0, 0, True, 0)


class _Run(NamedTuple):
    wall_s: float
    cpu_s: float  # of this process
    seen_s: float  # until SQL saw the last row


def measure_questdb() -> list[Figure]:
    """Write backlogs to a new server, and bars up to the end of a day."""
    with TemporaryDirectory() as folder:
        server = EmbeddedQuestDB(Path(folder))
        start = time.monotonic()
        store = QuestDB(server.start())
        started_s = time.monotonic() - start
        try:
            store.prepare()
            runs = [_run(store, number) for number in range(RUNS)]
            day_s = min(_day_s(store, number) for number in range(RUNS))
            used_mb = psutil.Process(server.pid).memory_info().rss / 1e6
        finally:
            store.close()
            server.stop()
    best = min(runs[1:])
    return [
        Figure("rows a second from a backlog", ROWS / best.wall_s, "1/s", goal=200_000, at_least=True),
        Figure("  by a server just started", ROWS / runs[0].wall_s, "1/s"),
        Figure("  CPU a row, our side", best.cpu_s / ROWS * 1e6, "µs"),
        Figure("  from the last acknowledgement until SQL sees it", best.seen_s, "s"),
        Figure("the last bar of a day, its daily bar included", day_s * 1e3, "ms"),
        Figure("start of the server", started_s, "s"),
        Figure("memory of the server", used_mb, "MB"),
    ]


def _run(store: QuestDB, number: int) -> _Run:
    batches = _batches(number)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    stored = sum(store.write_trades(batch).stored for batch in batches)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    start = time.perf_counter()
    while (seen := store.health().rows["trades"]) < (number + 1) * ROWS:
        if time.perf_counter() - start > SEEN_WITHIN_S:
            raise RuntimeError(f"of {stored} rows SQL sees {seen - number * ROWS}")
        time.sleep(POLL_S)
    return _Run(wall_s, cpu_s, time.perf_counter() - start)


def _batches(number: int) -> list[list[TradeRows]]:
    """Cut the recording, repeated with rising times, into requests to which every pair adds its share."""
    size = BATCH // PAIRS
    ticks = _repeated(ROWS // PAIRS)
    first = number * len(ticks) + 1
    return [
        [TradeRows(f"pair-{p}", "binance", first + at, ticks[at : at + size]) for p in range(PAIRS)]
        for at in range(0, len(ticks), size)
    ]


def _repeated(count: int) -> Ticks:
    recorded, _ = read_trades(FILE)
    span_ns = int(recorded["ts_ns"][-1] - recorded["ts_ns"][0]) + 1
    laps = []
    for lap in range(-(-count // len(recorded))):
        ticks = recorded.copy()
        ticks["ts_ns"] += lap * span_ns
        ticks["trade_id"] += lap * len(recorded)
        laps.append(ticks)
    return joined(laps)[:count]


def _day_s(store: QuestDB, number: int) -> float:
    """Write a day of bars but the last, then measure the last, which closes the day."""
    bars = [Candle(number * DAY_NS + at, *_FLAT) for at in range(0, DAY_NS, _MINUTE_NS)]
    store.write_candles([("pair-0", bars[:-1])])
    start = time.perf_counter()
    store.write_candles([("pair-0", bars[-1:])])
    return time.perf_counter() - start
