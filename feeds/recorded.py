"""Files of recorded trades, read by DuckDB: what they hold, in order, and what of it is no trade."""

# ruff: noqa: S608 - what is put into SQL here is ours; paths are parameters

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
from duckdb import DuckDBPyConnection

from market.errors import UsageError
from market.inputs import TickBatch
from market.ticks import TICK, Ticks
from market.times import DAY_NS

CHUNK_TICKS = 4_096
MAX_REJECTED = 10_000  # of what is read at once
MAX_ID_LENGTH = 128
MEMORY = "512MB"  # of what is sorted; more of it goes to the disk
COLUMNS = ("trade_id", "price", "size", "side", "ts_event_ns")
YEAR_2009_NS = 1_230_768_000_000_000_000

_NO_IDS = "('', 'none', 'null', 'nan', '<na>')"  # what data frames write for one that is missing
_ROWS = f"""
    SELECT *, coalesce(sided AND price > 0 AND size > 0 AND isfinite(price) AND isfinite(size)
            AND ts_ns BETWEEN $since_ns AND $until_ns, false) AS fits,
        CASE WHEN id IS NULL THEN coalesce(fits AND lower(name) NOT IN {_NO_IDS}, false) ELSE false END
            AS text
    FROM (
        SELECT trim(trade_id::VARCHAR) AS name, TRY_CAST(trade_id AS BIGINT) AS id,
            TRY_CAST(price AS DOUBLE) AS price, TRY_CAST(size AS DOUBLE) AS size,
            TRY_CAST(ts_event_ns AS BIGINT) AS ts_ns,
            CASE lower(side) WHEN 'buy' THEN 1 WHEN 'b' THEN 1 WHEN 'sell' THEN -1 WHEN 's' THEN -1 ELSE 0 END
                ::TINYINT AS side,
            coalesce(lower(side), '') IN ('buy', 'b', 'sell', 's', '') AS sided,
            concat_ws(',', trade_id, price, size, side, ts_event_ns) AS raw
        FROM {{source}})
"""
_BY_ID = f"""
    SELECT coalesce(id, 0) AS trade_id, coalesce(price, 0) AS price, coalesce(size, 0) AS size,
        coalesce(ts_ns, 0) AS ts_ns, side, fits AND coalesce(id >= 0, false) AS sound, text,
        CASE WHEN NOT sound THEN raw END AS raw
    FROM ({_ROWS}) ORDER BY trade_id
"""
_HEADER = "SELECT trade_id, price, size, side, ts_event_ns FROM {source} LIMIT 0"
_FIRST_ID = f"""
    SELECT min(id), coalesce(bool_or(CASE WHEN id IS NULL THEN lower(name) NOT IN {_NO_IDS} END), false)
    FROM (SELECT trim(trade_id::VARCHAR) AS name, TRY_CAST(trade_id AS BIGINT) AS id FROM {{source}})
"""
_ANY_TEXT = f"SELECT coalesce(bool_or(text), false) FROM ({_ROWS})"
_EARLY_TEXT = _ANY_TEXT.replace("{source}", "{source} LIMIT 1000")
_TO_SORT = f"""
    INSERT INTO trades SELECT $number, row_number() OVER (), name, id, price, size, ts_ns, side, raw
    FROM (
        SELECT * REPLACE (CASE WHEN NOT (fits AND known) THEN raw END AS raw)
        FROM (
            SELECT *, coalesce(CASE WHEN $texts THEN length(name) BETWEEN 1 AND {MAX_ID_LENGTH}
                AND lower(name) NOT IN {_NO_IDS} ELSE id >= 0 END, false) AS known
            FROM ({_ROWS})))
"""
_TRADES = """
    CREATE TABLE trades (file INTEGER, n BIGINT, name VARCHAR, id BIGINT, price DOUBLE, size DOUBLE,
        ts_ns BIGINT, side TINYINT, raw VARCHAR)
"""
_SORT = """
    CREATE TABLE sorted AS SELECT {name} AS name, {number} AS trade_id, price, size, ts_ns, side
    FROM (SELECT *, row_number() OVER (PARTITION BY {name} ORDER BY ts_ns, file, n) AS copy
        FROM trades WHERE raw IS NULL)
    WHERE copy = 1 ORDER BY ts_ns, {tie}
"""
_KNOWN = """
    SELECT coalesce(max(rowid) + 1, 0) FROM sorted WHERE ts_ns <= $last_ts_ns
        AND (ts_ns < $last_ts_ns OR name IN (SELECT unnest($recent::VARCHAR[])))
"""


class ById(NamedTuple):
    """Trades of a file by integer id, and the beginning of what is none; with text ids that is not all."""

    ticks: Ticks
    rejected: list[bytes]
    has_texts: bool = False


class Edge(NamedTuple):
    """Where a record ends: time of its newest trade, ids of its last ones."""

    last_ts_ns: int
    recent_ids: Sequence[str]


def read_by_id(file: Path) -> ById:
    """Read a trade file (CSV, CSV.gz or Parquet); raise UsageError naming file and column."""
    with duckdb.connect() as con:
        columns = _ask(con, file, _BY_ID, _limits()).fetchnumpy()
    sound = columns["sound"]
    rejected = [raw.encode() for raw in columns["raw"][~sound][:MAX_REJECTED]]
    return ById(_ticks(columns, sound), rejected, bool(columns["text"].any()))


def check_trades(files: Sequence[Path]) -> None:
    """Raise UsageError for the first file that cannot be read as trades."""
    with duckdb.connect() as con:
        for file in files:
            _ask(con, file, _HEADER, {})


def begins_with_texts(file: Path) -> bool:
    """Tell whether any of a file's first ids is text."""
    with duckdb.connect() as con:
        return bool(_ask(con, file, _EARLY_TEXT, _limits()).fetchall()[0][0])


def by_first_id(files: Sequence[Path]) -> tuple[list[Path], bool]:
    """Order files by what they hold, and tell whether any has a text id.

    By name part 10 goes before part 2, whose trades would look repeated.
    """
    with duckdb.connect() as con:
        told = {file: _ask(con, file, _FIRST_ID, {}).fetchall()[0] for file in files}
        doubtful = [file for file, (_, texts) in told.items() if texts]
        texts = any(_ask(con, file, _ANY_TEXT, _limits()).fetchall()[0][0] for file in doubtful)
    return sorted(files, key=lambda file: told[file][0] or 0), texts


class SortedTrades:
    """All trades of files by time, each id once: text ids in the order of the files, integers by value.

    They are in a database of their own, beyond MEMORY on the disk, until it is closed.
    """

    def __init__(self, files: Sequence[Path], edge: Edge, *, texts: bool) -> None:
        """Read them; raises UsageError naming file and column."""
        spill = Path(tempfile.gettempdir()) / f"marketd-replay-{os.getpid()}"
        self._con = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(spill)})
        self._texts = texts
        self._con.execute(_TRADES)
        for number, file in enumerate(files):
            _ask(self._con, file, _TO_SORT, _limits() | {"number": number, "texts": texts})
        refused = self._con.execute("SELECT raw FROM trades WHERE raw IS NOT NULL LIMIT ?", [MAX_REJECTED])
        self.rejected = [raw.encode() for (raw,) in refused.fetchall()]
        parts = {"name": "name", "number": "0", "tie": "file, n"}
        self._con.execute(
            _SORT.format(**parts if texts else {"name": "id::VARCHAR", "number": "id", "tie": "id"})
        )
        self._start = self._known(edge)
        self._count = self._ask("SELECT count(*) FROM sorted")
        sound = self._ask("SELECT count(*) FROM trades WHERE raw IS NULL")
        self.duplicates = sound - self._count + self._start  # in the files or in the record already
        self._con.execute("DROP TABLE trades")

    def batches(self) -> Iterator[TickBatch]:
        """Yield what the record has not."""
        for at in range(self._start, self._count, CHUNK_TICKS):
            page = f"FROM sorted WHERE rowid >= {at} AND rowid < {at + CHUNK_TICKS} ORDER BY rowid"
            columns = self._con.execute(page).fetchnumpy()
            names = tuple(columns["name"].tolist()) if self._texts else ()
            yield TickBatch(_ticks(columns, slice(None)), ids=names)

    def close(self) -> None:
        self._con.close()

    def _known(self, edge: Edge) -> int:
        """Count the trades that the record has: those before its newest, and of the same time the known."""
        if not edge.recent_ids:
            return 0
        return self._ask(_KNOWN, {"last_ts_ns": edge.last_ts_ns, "recent": list(edge.recent_ids)})

    def _ask(self, sql: str, parameters: dict[str, object] | None = None) -> int:
        ((number,),) = self._con.execute(sql, parameters or {}).fetchall()
        return int(number)


def _ticks(columns: dict[str, npt.NDArray[Any]], picked: npt.NDArray[Any] | slice) -> Ticks:
    ticks = np.empty(len(columns["ts_ns"][picked]), TICK)
    for name in ("trade_id", "price", "size", "ts_ns", "side"):
        ticks[name] = columns[name][picked]
    ticks["received_ns"] = ticks["ts_ns"]
    return ticks


def _limits() -> dict[str, object]:
    return {"since_ns": YEAR_2009_NS, "until_ns": time.time_ns() + DAY_NS}


def _ask(con: DuckDBPyConnection, file: Path, sql: str, more: dict[str, object]) -> DuckDBPyConnection:
    csv = "read_csv($file, header = true, all_varchar = true, null_padding = true)"
    source = "read_parquet($file)" if file.suffix == ".parquet" else csv
    try:
        return con.execute(sql.format(source=source), {"file": str(file), **more})
    except duckdb.Error as error:
        needs = f"no trade file with the columns {', '.join(COLUMNS)}"
        raise UsageError(f"{file}: {needs}: {str(error).splitlines()[0]}") from error
