"""Recorded trades as a feed: the recorded times are kept and the network is never asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from market.errors import UsageError
from market.inputs import Began, GapClosed, GapOpened, Input, Rejected, TickBatch
from market.ticks import TICK, Ticks
from market.times import NS_PER_S

CHUNK_TICKS = 4_096
COLUMNS = ("trade_id", "price", "size", "side", "ts_event_ns")
_QUERY = """
    SELECT trade_id::BIGINT AS trade_id, price::DOUBLE AS price, size::DOUBLE AS size,
        ts_event_ns::BIGINT AS ts_ns,
        CASE lower(side) WHEN 'buy' THEN 1 WHEN 'b' THEN 1 WHEN 'sell' THEN -1 WHEN 's' THEN -1 ELSE 0 END
            ::TINYINT AS side
    FROM {source} ORDER BY trade_id
"""


class ReplayFeed:
    """Hand out recorded trades, all at once (`speed` 0) or at `speed` times the recorded pace."""

    def __init__(self, files: tuple[Path, ...], speed: float, next_id: int | None, last_ts_ns: int) -> None:
        self.finished = False
        self.duplicates = 0
        self.replayed = 0
        self._speed, self._next_id, self._last_ts_ns = speed, next_id, last_ts_ns
        self._chunks = _chunks(files)
        self._ready: Ticks | None = None
        self._began: tuple[int, int] | None = None  # wall clock and event time of the first tick

    async def run(self) -> None:
        """Wait for ever: nothing keeps a replay alive but its files."""
        await asyncio.Event().wait()

    async def wait(self, timeout_s: float) -> None:
        """Return at once, or when the next trade is due."""
        if self.finished:
            await asyncio.sleep(timeout_s)
            return
        due_s = (self._due_ns() - time.time_ns()) / NS_PER_S
        await asyncio.sleep(min(max(due_s, 0.0), timeout_s))

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:  # noqa: ARG002 - trades alone close bars
        """Return the trades that are due, with what is missing between them."""
        if self._ready is None:
            self._ready = next(self._chunks, None)
        if self._ready is None:
            self.finished = True
            return []
        due = self._due_count(now_ns)
        ticks, self._ready = self._ready[:due], self._ready[due:] if due < len(self._ready) else None
        sound = _is_sound(ticks)
        rejected = [
            Rejected(now_ns, "price and size must be above 0", str(t).encode()) for t in ticks[~sound]
        ]
        return [*rejected, *self._contiguous(self._fresh(ticks[sound]), now_ns)]

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        return []

    def status(self) -> dict[str, object]:
        return {"state": "replaying", "replayed": self.replayed, "duplicates": self.duplicates, "holes": 0}

    def _due_ns(self) -> int:
        if not self._speed or self._ready is None or self._began is None:
            return 0
        wall_ns, event_ns = self._began
        return wall_ns + int((int(self._ready["ts_ns"][0]) - event_ns) / self._speed)

    def _due_count(self, now_ns: int) -> int:
        assert self._ready is not None  # noqa: S101 - take() has just filled it
        if not self._speed:
            return len(self._ready)
        if self._began is None:
            self._began = now_ns, int(self._ready["ts_ns"][0])
        wall_ns, event_ns = self._began
        until_ns = event_ns + int((now_ns - wall_ns) * self._speed)
        return int(np.searchsorted(self._ready["ts_ns"], until_ns, side="right"))

    def _fresh(self, ticks: Ticks) -> Ticks:
        """Drop what the record already has."""
        ids = ticks["trade_id"]
        keep = np.diff(ids, prepend=-1) != 0
        if self._next_id is not None:
            keep &= ids >= self._next_id
        self.duplicates += len(ids) - int(keep.sum())
        return ticks[keep]

    def _contiguous(self, ticks: Ticks, now_ns: int) -> list[Input]:
        """Cut at every jump of the ids and name what is missing there."""
        out: list[Input] = []
        cuts = np.flatnonzero(np.diff(ticks["trade_id"]) != 1) + 1
        for run in np.split(ticks, cuts):
            if len(run):
                out += self._step_to(run, now_ns)
        self.replayed += len(ticks)
        return out

    def _step_to(self, run: Ticks, now_ns: int) -> list[Input]:
        first, out = int(run["trade_id"][0]), list[Input]()
        if self._next_id is None:
            out.append(Began(first))
        elif first > self._next_id:
            gap, missing = self._next_id, first - self._next_id
            until_ns = int(run["ts_ns"][0])
            out.append(GapOpened(gap, first - 1, self._last_ts_ns, until_ns, now_ns, "ids jumped"))
            out.append(GapClosed(gap, now_ns, missing, "not in the files, and a replay asks nobody"))
        self._next_id, self._last_ts_ns = int(run["trade_id"][-1]) + 1, int(run["ts_ns"][-1])
        return [*out, TickBatch(run)]


def _chunks(files: tuple[Path, ...]) -> Iterator[Ticks]:
    for file in files:
        ticks = read_trades(file)
        for start in range(0, len(ticks), CHUNK_TICKS):
            yield ticks[start : start + CHUNK_TICKS]


def read_trades(file: Path) -> Ticks:
    """Read a trade file (CSV, CSV.gz or Parquet), sorted by id; raise UsageError naming file and column."""
    source = "read_parquet($file)" if file.suffix == ".parquet" else "read_csv($file, header = true)"
    try:
        with duckdb.connect() as con:
            columns = con.execute(_QUERY.format(source=source), {"file": str(file)}).fetchnumpy()
    except duckdb.Error as error:
        raise UsageError(f"{file}: {str(error).splitlines()[0]} (needs {', '.join(COLUMNS)})") from error
    ticks = np.empty(len(columns["trade_id"]), TICK)
    for name in ("trade_id", "price", "size", "ts_ns", "side"):
        ticks[name] = columns[name]
    ticks["received_ns"] = ticks["ts_ns"]
    return ticks


def _is_sound(ticks: Ticks) -> npt.NDArray[np.bool_]:
    price, size = ticks["price"], ticks["size"]
    return np.array(np.isfinite(price) & np.isfinite(size) & (price > 0) & (size > 0), bool)
