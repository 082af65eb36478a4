"""Old days of trades leave QuestDB: each is exported as Parquet, the file verified, and only then dropped.

A day is as old as the newest trade in the table makes it; the host's clock has no say. Files are never
overwritten: a day that comes back (by a replay, or a trade that was found late) makes another one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog

from market.errors import Retryable
from storage.durable import sync_path
from storage.questdb_daily import await_applied
from storage.questdb_sql import Sql

log = structlog.get_logger(__name__)
# Of a VARCHAR that is copied as it is, the server's Parquet has nothing but NULL (9.3.4): a computed one is
# there.
_EXPORT = (
    "SELECT symbol, price, size, timestamp, exchange, side, seq, concat(trade_id, '') trade_id FROM trades"
    " WHERE timestamp IN '{}'"
)
_SUMS = "SELECT count(), sum(seq), sum(size), sum(length(trade_id)) FROM trades WHERE timestamp IN '{}'"
_PARTITIONS = "SELECT name, numRows FROM table_partitions('trades') ORDER BY name"
_BATCH = 1 << 16
APART_S = 30.0  # no answer may keep writers waiting for longer


class Policy(NamedTuple):
    """Days that trades stay in the server, and then as files; 0: for ever."""

    folder: Path
    hot_days: int = 30
    archive_days: int = 730


class Sums(NamedTuple):
    """What a day's trades add up to: enough to tell that none is missing, doubled or another."""

    rows: int
    seqs: int
    size: float
    ids: int  # characters of them

    def agrees(self, other: Sums) -> bool:
        exact = (self.rows, self.seqs, self.ids) == (other.rows, other.seqs, other.ids)
        return exact and abs(self.size - other.size) <= 1e-9 * abs(other.size)


def retain(
    sql: Sql, policy: Policy, timeout_s: float = 60.0, alone: AbstractContextManager[object] | None = None
) -> int:
    """Export and drop the days that are too old, delete the files that are; return the rows exported.

    `alone` keeps writers of trades away, and is entered for the end of each day: a row that they write then
    would go with it. Raises Retryable when the server or the disk refuses, or a file is not what the server
    has: then the day stays where it is.
    """
    today = _today(sql) if policy.hot_days else None
    if today is None:
        return 0
    exported = 0
    for day in _older(sql, today - timedelta(days=policy.hot_days)):
        await_applied(sql, "trades", timeout_s)
        exported += _move(sql, day, policy.folder, alone or nullcontext())
    if policy.archive_days:
        _forget(policy.folder, today - timedelta(days=policy.archive_days))
    return exported


def _today(sql: Sql) -> date | None:
    """Tell the day of the newest trade; of an empty table the server answers no row, or an empty one."""
    newest = sql.rows("SELECT cast(max(timestamp) AS DATE) FROM trades")
    return date.fromisoformat(newest[0][0][:10]) if newest and newest[0][0] else None


def _older(sql: Sql, before: date) -> Iterator[date]:
    for name, rows in sql.rows(_PARTITIONS):
        day = date.fromisoformat(name[:10])
        if day < before and rows:
            yield day


def _move(sql: Sql, day: date, folder: Path, alone: AbstractContextManager[object]) -> int:
    """Export a day, and drop it if nothing was written into it meanwhile."""
    path = _free(folder / f"date={day}")
    part = path.with_suffix(".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        sql.export(_EXPORT.format(day), part)
        found = exported(part)
    except OSError as error:
        raise Retryable(f"{part}: {error}") from error
    with alone:
        sql = sql.within(APART_S)
        await_applied(sql, "trades", APART_S)  # until then SQL does not see all that a drop would take
        sums = _stored(sql, day)
        if not found.agrees(sums):
            raise Retryable(f"{part}: holds {found}, QuestDB {sums} of {day}: tried again later")
        part.rename(path)
        sync_path(path.parent)
        sql.rows(f"ALTER TABLE trades DROP PARTITION LIST '{day}'")
    log.info("questdb_day_archived", day=str(day), rows=sums.rows, file=str(path))
    return sums.rows


def _stored(sql: Sql, day: date) -> Sums:
    ((rows, seqs, size, ids),) = sql.rows(_SUMS.format(day))
    return Sums(rows, seqs or 0, size or 0.0, ids or 0)


def exported(path: Path) -> Sums:
    """Add up an exported file; raises OSError for what is no Parquet file."""
    import pyarrow.compute as pc  # noqa: PLC0415 - only QuestDB's supervisor has it
    from pyarrow import parquet  # noqa: PLC0415

    rows, seqs, size, ids = 0, 0, 0.0, 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH, columns=["seq", "size", "trade_id"]):
            rows += len(batch)
            seqs += pc.sum(batch["seq"]).as_py() or 0
            size += pc.sum(batch["size"]).as_py() or 0.0
            ids += pc.sum(pc.utf8_length(batch["trade_id"])).as_py() or 0
    return Sums(rows, seqs, size, ids)


def _free(folder: Path) -> Path:
    """Name the next file of a day."""
    taken = [int(path.stem.rpartition("-")[2]) for path in folder.glob("trades-*.parquet")]
    return folder / f"trades-{max(taken, default=0) + 1}.parquet"


def _forget(folder: Path, before: date) -> None:
    for day in folder.glob("date=*"):
        if date.fromisoformat(day.name.removeprefix("date=")) < before:
            shutil.rmtree(day)
            log.info("questdb_archive_forgotten", day=day.name)
