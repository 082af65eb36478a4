"""A pair's numbered rows from any number on: what was swept from the archive, the rest from its file."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from market.rows import EventRow, TickRows
from market.ticks import EMPTY, TICK, Ticks
from storage.archive import ArchiveDamaged, ArchiveFile, Place, check, current
from storage.archive_sql import relation, source
from storage.sweep import Archived

_EVENTS = "SELECT seq, epoch_ns(timestamp), event, data"

Columns = dict[str, npt.NDArray[Any]]


class Pages:
    """Read on the writer's connection of a pair's file."""

    def __init__(self, con: duckdb.DuckDBPyConnection, place: Place) -> None:
        self._con, self._place = con, place
        self._spans: dict[Path, tuple[int, int]] = {}  # of seq, by file; bounded by the files that count

    def ticks(self, after: int, upto: int, archived: Archived, texts_from: int) -> TickRows:
        """Read ticks after + 1 to upto, with their ids if any is text, as those from `texts_from` on are."""
        if upto <= after:
            return TickRows(after + 1, EMPTY)
        texts = has_texts(upto, texts_from)
        select = numbered_ticks(upto, texts_from) + (", trade_id AS name" if texts else "")
        found = self._run("ticks", select, (after, upto), archived).fetchnumpy()
        self._expect("ticks", found["seq"], after, upto)
        return TickRows(after + 1, as_ticks(found), tuple(found["name"].tolist()) if texts else ())

    def events(self, after: int, upto: int, archived: Archived) -> list[EventRow]:
        """Read events after + 1 to upto."""
        if upto <= after:
            return []
        found = self._run("events", _EVENTS, (after, upto), archived).fetchall()
        self._expect("events", np.array([row[0] for row in found], np.int64), after, upto)
        return [EventRow(number, ts_ns, event, data.encode()) for number, ts_ns, event, data in found]

    def _run(
        self, table: str, select: str, span: tuple[int, int], archived: Archived
    ) -> duckdb.DuckDBPyConnection:
        parts = [table]
        if span[0] < archived.upto(table) and (files := self._files(table, span, archived.sweep)):
            parts.append(f"({relation(files, table)})")
        where = f"seq > {span[0]} AND seq <= {span[1]}"
        union = " UNION ALL ".join(f"{select} FROM {part} WHERE {where}" for part in parts)
        return self._con.execute(f"{union} ORDER BY seq")

    def _files(self, table: str, span: tuple[int, int], sweep: int) -> list[ArchiveFile]:
        """Pick the whole files that hold any of a span."""
        files = current(self._place.files(table), sweep)
        self._spans = {path: known for path, known in self._spans.items() if path.exists()}
        picked = [file for file in files if _meet(self._span(file), span)]
        check(picked)
        return picked

    def _span(self, file: ArchiveFile) -> tuple[int, int]:
        if file.path not in self._spans:
            check([file])
            sql = f"SELECT min(seq), max(seq) FROM {source([file.path])}"
            (self._spans[file.path],) = self._con.execute(sql).fetchall()
        return self._spans[file.path]

    def _expect(self, table: str, seq: npt.NDArray[np.int64], after: int, upto: int) -> None:
        if len(seq) != upto - after or not bool((seq == np.arange(after + 1, upto + 1)).all()):
            missing = np.setdiff1d(np.arange(after + 1, upto + 1), seq)
            first = int(missing[0]) if len(missing) else after + 1
            what = f"{len(missing)} of {table} missing from seq {first} on"
            raise ArchiveDamaged(f"{self._place.folder(table)}: {what}")


def has_texts(upto: int, texts_from: int) -> bool:
    """Tell whether an id is text among those of the ticks up to a number."""
    return 0 < texts_from <= upto


def numbered_ticks(upto: int, texts_from: int) -> str:
    """Write the SELECT of ticks up to a number as `as_ticks` takes it; seq stands for an id that is text."""
    number = "trade_id::BIGINT"
    if has_texts(upto, texts_from):
        number = f"CASE WHEN seq >= {texts_from} THEN seq ELSE TRY_CAST(trade_id AS BIGINT) END"
    return f"""
        SELECT seq, {number} AS trade_id, epoch_ns(timestamp) AS ts_ns, price, volume AS size,
            epoch_ns(received_at) AS received_ns,
            CASE side WHEN 'BUY' THEN 1 WHEN 'SELL' THEN -1 ELSE 0 END AS side
    """


def as_ticks(found: Columns) -> Ticks:
    """Put the columns of `numbered_ticks` into one array."""
    ticks = np.empty(len(found["seq"]), TICK)
    for name in TICK.names or ():
        ticks[name] = found[name]
    return ticks


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Tell whether seq a[0] to a[1] and b[0] + 1 to b[1] have any in common."""
    return a[0] <= b[1] and b[0] < a[1]
