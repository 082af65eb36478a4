"""Recorded trades as a feed: the recorded times are kept and the network is never asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
from duckdb import DuckDBPyConnection

from market.errors import UsageError
from market.inputs import Began, GapClosed, GapOpened, Input, Rejected, TickBatch
from market.ticks import TICK, Ticks
from market.times import DAY_NS, NS_PER_S

CHUNK_TICKS = 4_096
MAX_REJECTED = 10_000  # of a file
COLUMNS = ("trade_id", "price", "size", "side", "ts_event_ns")
YEAR_2009_NS = 1_230_768_000_000_000_000
UNSOUND = "needs an id, a price and a size above 0, a side of buy or sell, and a time from 2009 to now"
_QUERY = """
    WITH typed AS (
        SELECT TRY_CAST(trade_id AS BIGINT) AS id, TRY_CAST(price AS DOUBLE) AS price,
            TRY_CAST(size AS DOUBLE) AS size, TRY_CAST(ts_event_ns AS BIGINT) AS ts_ns,
            CASE lower(side) WHEN 'buy' THEN 1 WHEN 'b' THEN 1 WHEN 'sell' THEN -1 WHEN 's' THEN -1 ELSE 0 END
                ::TINYINT AS side,
            coalesce(lower(side), '') IN ('buy', 'b', 'sell', 's', '') AS sided,
            concat_ws(',', trade_id, price, size, side, ts_event_ns) AS raw
        FROM {source})
    SELECT coalesce(id, 0) AS trade_id, coalesce(price, 0) AS price, coalesce(size, 0) AS size,
        coalesce(ts_ns, 0) AS ts_ns, side,
        coalesce(sided AND id >= 0 AND price > 0 AND size > 0 AND isfinite(price) AND isfinite(size)
            AND ts_ns BETWEEN $since_ns AND $until_ns, false) AS sound,
        CASE WHEN NOT sound THEN raw END AS raw
    FROM typed ORDER BY trade_id
"""


_HEADER = "SELECT trade_id, price, size, side, ts_event_ns FROM {source} LIMIT 0"
_FIRST_ID = "SELECT min(TRY_CAST(trade_id AS BIGINT)) FROM {source}"


class ReplayFeed:
    """Hand out recorded trades, all at once (`speed` 0) or at `speed` times the recorded pace."""

    def __init__(self, files: tuple[Path, ...], speed: float, next_id: int | None, last_ts_ns: int) -> None:
        self.finished = False
        self.duplicates = 0
        self.replayed = 0
        self._speed, self._next_id, self._last_ts_ns = speed, next_id, last_ts_ns
        self.rejected = 0
        self._rejected: list[bytes] = []  # at most MAX_REJECTED
        self._chunks = self._read(files)
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
        self.finished = self._ready is None
        out: list[Input] = [Rejected(now_ns, UNSOUND, raw[:1024]) for raw in self._rejected]
        self.rejected += len(self._rejected)
        self._rejected.clear()
        if self._ready is not None:
            due = self._due_count(now_ns)
            ticks, self._ready = self._ready[:due], self._ready[due:] if due < len(self._ready) else None
            out += self._contiguous(self._fresh(ticks), now_ns)
        return out

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        return []

    def status(self) -> dict[str, object]:
        return {
            "state": "replaying",
            "replayed": self.replayed,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "holes": 0,
        }

    def _read(self, files: tuple[Path, ...]) -> Iterator[Ticks]:
        for file in _by_first_id(files):
            ticks, rejected = read_trades(file)
            self._rejected += rejected
            for start in range(0, len(ticks), CHUNK_TICKS):
                yield ticks[start : start + CHUNK_TICKS]

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
        fresh: Ticks = ticks[keep]
        self.duplicates += len(ticks) - len(fresh)
        return fresh

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


def read_trades(file: Path) -> tuple[Ticks, list[bytes]]:
    """Read a trade file (CSV, CSV.gz or Parquet): trades sorted by id, and the beginning of what is none.

    Raises UsageError naming file and column.
    """
    with duckdb.connect() as con:
        limits = {"since_ns": YEAR_2009_NS, "until_ns": time.time_ns() + DAY_NS}
        columns = _ask(con, file, _QUERY, limits).fetchnumpy()
    sound = columns["sound"]
    ticks = np.empty(int(sound.sum()), TICK)
    for name in ("trade_id", "price", "size", "ts_ns", "side"):
        ticks[name] = columns[name][sound]
    ticks["received_ns"] = ticks["ts_ns"]
    return ticks, [raw.encode() for raw in columns["raw"][~sound][:MAX_REJECTED]]


def check_files(files: Sequence[Path]) -> None:
    """Raise UsageError for the first file that cannot be read as trades."""
    with duckdb.connect() as con:
        for file in files:
            _ask(con, file, _HEADER, {})


def _by_first_id(files: tuple[Path, ...]) -> list[Path]:
    """Order files by what they hold: by name part 10 goes before part 2, whose trades would look repeated."""
    if len(files) < 2:
        return list(files)
    with duckdb.connect() as con:
        first = {file: _ask(con, file, _FIRST_ID, {}).fetchall()[0][0] for file in files}
    return sorted(files, key=lambda file: first[file] or 0)


def _ask(con: DuckDBPyConnection, file: Path, sql: str, more: dict[str, int]) -> DuckDBPyConnection:
    csv = "read_csv($file, header = true, all_varchar = true, null_padding = true)"
    source = "read_parquet($file)" if file.suffix == ".parquet" else csv
    try:
        return con.execute(sql.format(source=source), {"file": str(file), **more})
    except duckdb.Error as error:
        needs = f"no trade file with the columns {', '.join(COLUMNS)}"
        raise UsageError(f"{file}: {needs}: {str(error).splitlines()[0]}") from error
