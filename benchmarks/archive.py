"""What old rows cost: bytes a tick, the time of a sweep, and how fast small files become one."""

from __future__ import annotations

import csv
import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import rig
from benchmarks.figures import Figure
from market.pairs import Pair
from market.rows import Rows, TickRows
from market.ticks import TICK, Ticks
from storage.archive import place_of
from storage.compact import compact_all
from storage.hot import HotFile
from storage.sweep import Swept

DATA = Path(__file__).parents[1] / "tests/data"
RECORDED = ("binance_spot_btcusdt_20240808-09", "binance_spot_btcusdt_20260216")
PAIR = Pair("binance", "spot", "BTCUSDT")
SWEEP_TICKS, SWEEPS = 30_000, 40
PAGE_TICKS, PAGES = 8_192, 50
TICK_S = 0.0005
NEVER_NS = 4 * 10**18
_SIDES = {"buy": 1, "sell": -1}


def measure_archive() -> list[Figure]:
    """Sweep recorded trades, again and again at later times, and put the files together."""
    with rig.folder() as root:
        sizes = [_bytes_a_tick(root / name, _recorded(name)) for name in RECORDED]
        found = [
            Figure(f"bytes a tick, {n}", size, "B", 6.0) for n, size in zip(RECORDED, sizes, strict=True)
        ]
        return [*found, *_life(root / "life")]


def _bytes_a_tick(root: Path, ticks: Ticks) -> float:
    with closing(_opened(root)) as hot:
        for part in np.array_split(ticks, 3):
            _swept(hot, part)
    _compact(root)
    return _archived_bytes(root) / len(ticks)


def _life(root: Path) -> list[Figure]:
    """Measure a longer record: the trades of one recording, a while later each time."""
    recorded = _repeated(_recorded(RECORDED[0]), SWEEP_TICKS * SWEEPS)
    sweeps_s: list[float] = []
    held_s: list[float] = []
    with closing(_opened(root)) as hot:
        for part in np.array_split(recorded, SWEEPS):
            hot.flush(Rows(ticks=[TickRows(hot.last_tick_seq() + 1, part)]), hot.position + 1)
            with _another_thread() as gaps_s:
                start_s = time.perf_counter()
                _swept(hot, part[:0])
                sweeps_s.append(time.perf_counter() - start_s)
            held_s.append(max(gaps_s))
        small = _archived_bytes(root) / len(recorded)
        start_s = time.perf_counter()
        _compact(root)
        compact_s = time.perf_counter() - start_s
        page_s = [_page_s(hot, at) for at in np.linspace(0, len(recorded) - PAGE_TICKS, PAGES).astype(int)]
    return [
        Figure(f"sweep of {SWEEP_TICKS:,} ticks, median of {SWEEPS}", median(sweeps_s) * 1e3, "ms"),
        Figure("  the slowest of these", max(sweeps_s) * 1e3, "ms"),
        Figure("  longest wait of another thread in one, median", median(held_s) * 1e3, "ms", 5.0),
        Figure("bytes a tick before they are put together", small, "B"),
        Figure("  and after", _archived_bytes(root) / len(recorded), "B", 6.0),
        Figure("ticks put together a second", len(recorded) / compact_s, "1/s"),
        Figure(f"page of {PAGE_TICKS:,} swept ticks, median of {PAGES}", median(page_s) * 1e3, "ms"),
    ]


@contextmanager
def _another_thread() -> Iterator[list[float]]:
    """Let a thread wake up every half millisecond, as events do, and note how late it was."""
    gaps_s, done = [0.0], threading.Event()

    def tick() -> None:
        while not done.is_set():
            start_s = time.perf_counter()
            time.sleep(TICK_S)
            gaps_s.append(time.perf_counter() - start_s - TICK_S)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield gaps_s
    finally:
        done.set()
        thread.join()


def _opened(root: Path) -> HotFile:
    return HotFile.open(root / PAIR.path / "trading.duckdb", PAIR.key, (60,))


def _swept(hot: HotFile, ticks: Ticks) -> Swept:
    if len(ticks):
        hot.flush(Rows(ticks=[TickRows(hot.last_tick_seq() + 1, ticks)]), hot.position + 1)
    return hot.sweep({"ticks": (NEVER_NS, None)})


def _page_s(hot: HotFile, after: int) -> float:
    start_s = time.perf_counter()
    assert len(hot.ticks_after(after, PAGE_TICKS)) == PAGE_TICKS  # noqa: S101 - else nothing was measured
    return time.perf_counter() - start_s


def _compact(root: Path) -> None:
    """Put files together, then remove those that were superseded, as if that were long ago."""
    for _ in range(2):
        compact_all(root / "archive", NEVER_NS / 10**9)


def _archived_bytes(root: Path) -> int:
    place = place_of(root / PAIR.path, PAIR.key)
    return sum(file.path.stat().st_size for file in place.files("ticks"))


def _recorded(name: str) -> Ticks:
    with gzip.open(DATA / f"{name}.csv.gz", "rt") as lines:
        return np.array([_tick(row) for row in csv.DictReader(lines)], TICK)


def _tick(row: dict[str, str]) -> tuple[int, int, float, float, int, int]:
    received_ns = int(row["ts_recv_ns"] or 0)
    return (
        int(row["trade_id"]),
        int(row["ts_event_ns"]),
        float(row["price"]),
        float(row["size"]),
        received_ns,
        _SIDES[row["side"]],
    )


def _repeated(ticks: Ticks, count: int) -> Ticks:
    laps = -(-count // len(ticks))
    out: Ticks = np.tile(ticks, laps)
    lap = np.repeat(np.arange(laps), len(ticks))
    out["trade_id"] += lap * len(ticks)
    for name in ("ts_ns", "received_ns"):
        out[name] += lap * (int(np.ptp(ticks["ts_ns"])) + 1_000_000)
    return out[:count]
