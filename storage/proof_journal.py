"""Prove the newest ticks by the journal that they came from: bars do not tell all of what a tick says."""

# ruff: noqa: S608 - every name and number put into SQL here is one of our own

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from market.inputs import TickBatch
from market.ticks import joined
from storage.hot_meta import head_of, meta
from storage.journal import JournalDamaged, Segment, segments
from storage.proof_sql import Check

JOURNALED = 100_000
"""So many of the last ticks are compared, and the rest of the segment that they begin in."""

_COLUMNS = ("timestamp", "price", "volume", "side", "trade_id", "received_at")
_TABLE = """
CREATE TEMP TABLE journaled AS
SELECT seq, timestamp, price, volume, CASE side WHEN 1 THEN 'BUY' WHEN -1 THEN 'SELL' END AS side,
    trade_id::VARCHAR AS trade_id, received_at
FROM source
"""


def check(cursor: duckdb.DuckDBPyConnection) -> Check:
    """Put what is whole at the journal's end beside the ticks, numbered back from the file's own position."""
    head = head_of(meta(cursor))
    sql = "SELECT path FROM duckdb_databases() WHERE database_name = current_catalog()"
    ((path,),) = cursor.execute(sql).fetchall()
    batches = _newest(Path(path).parent / "journal", head.record)
    _put(cursor, batches, max(head.ticks.last, head.archived.upto("ticks")))
    cases = " ".join(
        f"WHEN t.{name} IS DISTINCT FROM j.{name} "
        f"THEN concat('{name} is ', t.{name}, ', the journal says ', j.{name})"
        for name in _COLUMNS
    )
    return Check(
        "the newest ticks are those of the journal",
        "SELECT count(*) FROM journaled",
        f"""
        SELECT seq AS key, CASE WHEN t.seq IS NULL THEN 'not stored' {cases} END AS fault
        FROM journaled j LEFT JOIN ticks t USING (seq) WHERE fault IS NOT NULL
        """,
        key_is_time=False,
    )


def _newest(folder: Path, position: int) -> list[TickBatch]:
    """Read back from record `position`, as far as no record is missing; a segment may be let go meanwhile."""
    found: list[TickBatch] = []
    for segment in reversed(segments(folder)):
        if segment.first > position:
            continue
        if sum(len(batch.ticks) for batch in found) >= JOURNALED:
            break
        try:
            batches = _batches(segment, position)
        except (JournalDamaged, FileNotFoundError):
            break
        found, position = [*batches, *found], segment.first - 1
    return found


def _batches(segment: Segment, position: int) -> list[TickBatch]:
    number, found = segment.first - 1, list[TickBatch]()
    for number, inputs in segment.records():
        found += (item for item in inputs if isinstance(item, TickBatch))
        if number == position:
            return found
    raise JournalDamaged(f"{segment.path}: ends at record {number}, not {position}")


def _put(cursor: duckdb.DuckDBPyConnection, batches: list[TickBatch], last: int) -> None:
    ticks = joined(batch.ticks for batch in batches)
    ids = [name for batch in batches for name in batch.ids or map(str, batch.ticks["trade_id"].tolist())]
    source = {  # noqa: F841 - DuckDB finds it by its name here
        "seq": np.arange(last - len(ticks) + 1, last + 1),
        "timestamp": np.ascontiguousarray(ticks["ts_ns"]).view("M8[ns]"),
        "price": np.ascontiguousarray(ticks["price"]),
        "volume": np.ascontiguousarray(ticks["size"]),
        "side": np.ascontiguousarray(ticks["side"]),
        "trade_id": np.array(ids, object),
        "received_at": np.ascontiguousarray(ticks["received_ns"]).view("M8[ns]"),
    }
    cursor.execute(_TABLE)
