"""A pair's DuckDB file: a view of its journal, written in one transaction a flush."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import structlog
from msgspec.structs import replace

from market.errors import Retryable
from market.rows import EventRow, Flags, Row, Rows, TickRows
from market.ticks import Ticks, joined
from storage import archive_ledger
from storage.archive import place_of
from storage.archive_ledger import Ledger
from storage.archive_pages import Pages
from storage.duck import Damaged, connect, mark, set_aside, set_mark, translated, wal
from storage.hot_meta import Head, Span, checked, create, extend, head_of, meta, names, text_of
from storage.inserts import Inserter
from storage.schema import COPIED, LIVING, is_sequence
from storage.sweep import Archived, Cut, Living, Mark, Plan, Sweeper, Swept, cut, cut_living

__all__ = ["REJECTED_CAP", "Damaged", "HotFile", "set_aside"]

log = structlog.get_logger()
REJECTED_CAP = 10_000

_CAP_REJECTED = """
DELETE FROM rejected WHERE rowid NOT IN (SELECT rowid FROM rejected ORDER BY rowid DESC LIMIT ?)
"""


class Left(NamedTuple):
    """What of a record a file still holds: the least number or time of each table that has rows.

    Living rows that had ended at record `ended` are in the archive.
    """

    record: int
    first: dict[str, int]
    ended: int


class HotFile:
    """The only writer of one pair's file; every call belongs to one thread.

    Readers work on cursors of `connection`. Faults of the engine come out as Retryable (a full disk, a file
    that another process holds) or Damaged.
    """

    def __init__(self, path: Path, con: duckdb.DuckDBPyConnection) -> None:
        known = meta(con)
        con.execute("SET enable_progress_bar = false")  # a long sweep would write to stdout
        self.connection = con
        self._path = path
        self._sql = Inserter(con)
        self._head = head_of(known)
        self._cursors = dict(self._head.cursors)
        self._place = place_of(path.parent, known["pair"])
        self._sweeper = Sweeper(con, self._place)
        self._pages = Pages(con, self._place)
        self._amended = self._has_rows("amended")
        self._ended: dict[str, int] = {}  # by living table: record up to which ended rows were swept
        self._uncopied = set(COPIED)  # tables that may have changed since they were copied
        self._journal_from = archive_ledger.load(path.parent).journal_from

    @classmethod
    def open(
        cls,
        path: Path,
        pair_key: str,
        timeframes_s: Iterable[int],
        record: int = 0,
    ) -> HotFile:
        """Open or create the file and prove that it is whole.

        A new one stands for journal record `record` above what the archive's ledger says. Raises Damaged,
        Retryable (another process has it open) or UsageError (written by a later marketd).
        """
        timeframes = tuple(timeframes_s)
        if mark(path).exists():
            raise Damaged(f"{path}: a checkpoint was interrupted")
        fresh = not path.exists()
        if fresh and wal(path).exists():
            raise Damaged(f"{path}: only its log is left")
        path.parent.mkdir(parents=True, exist_ok=True)
        with translated(path, opening=True):
            con = connect(path)
            try:
                if fresh:
                    create(con, path, pair_key, timeframes, record)
                checked(con, path, pair_key)
                extend(con, timeframes)
                return cls(path, con)
            except BaseException:
                con.close()
                raise

    @property
    def meta(self) -> dict[str, str]:
        """What the file says of itself."""
        return meta(self.connection)

    @property
    def position(self) -> int:
        """Number of the journal record that the rows stand for; 0 when there is none."""
        return self._head.record

    @property
    def archived(self) -> Archived:
        """Tell what the archive holds of this pair."""
        return self._head.archived

    def tables(self) -> set[str]:
        """Name the tables there are, those of candles that are no longer kept among them."""
        return names(self.connection)

    def last_tick_seq(self) -> int:
        return max(self._head.ticks.last, self.archived.upto("ticks"))

    def last_event_seq(self) -> int:
        return max(self._head.events.last, self.archived.upto("events"))

    def cursor(self, sink: str) -> int:
        """Give the last sequence number that `sink` acknowledged; 0 when none."""
        return self._cursors.get(sink, (0, 0))[0]

    def set_cursor(self, sink: str, seq: int) -> None:
        """Move a cursor; it is written with the next flush, and an older one only repeats what sinks know."""
        self._cursors[sink] = seq, time.time_ns()

    def flush(self, rows: Rows, position: int) -> None:
        """Write rows, cursors and position in one transaction: all or nothing."""
        if not rows and position == self.position and self._cursors == self._head.cursors:
            return
        with translated(self._path), self._transaction():
            head = self._write(rows, position)
            self._sql.run("UPDATE meta SET value = ? WHERE key = 'position'", [text_of(head)])
        self._head = head

    @property
    def texts_from(self) -> int:
        """Number of the first tick whose id is text, as those of all later ones are; 0: none is."""
        return self._head.texts_from

    def ticks_after(self, seq: int, limit: int) -> Ticks:
        """Read the ticks numbered seq + 1 to seq + limit, in order, those that were swept from the archive.

        Raises ArchiveDamaged if the archive has not all of them.
        """
        return self.tick_rows_after(seq, limit).ticks

    def tick_rows_after(self, seq: int, limit: int) -> TickRows:
        """Read what `ticks_after` does, with the ids that are text."""
        with translated(self._path):
            upto = min(seq + limit, self.last_tick_seq())
            return self._pages.ticks(seq, upto, self.archived, self.texts_from)

    def events_after(self, seq: int, limit: int) -> list[EventRow]:
        """Read the events numbered seq + 1 to seq + limit, as `ticks_after` does."""
        with translated(self._path):
            return self._pages.events(seq, min(seq + limit, self.last_event_seq()), self.archived)

    def sweep(self, plan: Plan, living: Living | None = None) -> Swept:
        """Move rows into the archive: durable and read back there before they are deleted here.

        `living` names, by table, the keys of rows that have not ended, as of the last flush; the others go.
        A table that this file has not is passed over. Raises Retryable,
        with nothing changed, if a disk refuses.
        """
        sweep, living = self.archived.sweep + 1, living or {}
        with translated(self._path):
            here = plan.keys() & names(self.connection)
            cuts = [cut(self.connection, t, plan[t], self.archived.upto(t)) for t in sorted(here)]
            cuts += [cut_living(self.connection, t, living[t]) for t in sorted(living)]
            cuts = [part for part in cuts if part.rows]
            if not cuts:
                self._note_ends(living)
                return Swept(self.archived.sweep, {})
            for part in cuts:
                self._sweeper.expect(part.table, self.archived.upto(part.table))
            with self._sweeper.attempt(sweep):
                written = {part.table: self._sweeper.write(part, sweep) for part in cuts}
                self._delete(cuts, sweep)
        self._note_ends(living)
        self._save_ledger()
        return Swept(sweep, written, any(part.more for part in cuts))

    def _note_ends(self, living: Living) -> None:
        self._ended |= dict.fromkeys(living, self.position)

    def left(self) -> Left:
        """Tell what is still here of a record, once the small tables are copied; raises Retryable.

        Journal that made nothing of this may go, when `release_journal` has noted it.
        """
        with translated(self._path):
            self._copy()
            tables = names(self.connection) - {"meta", *COPIED, *LIVING}
            first = {table: self._first(table) for table in tables}
            ended = [self._ended.get(table, 0) for table in LIVING if self._has_rows(table)]
        known = {table: least for table, least in first.items() if least is not None}
        return Left(self.position, known, min(ended, default=self.position))

    def release_journal(self, first: int) -> None:
        """Note, durably, that segments before `first` are not needed any more; raises Retryable."""
        archive_ledger.save(self._path.parent, self._ledger(first))
        self._journal_from = first

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file; a kill meanwhile leaves the mark that makes it Damaged.

        Raises Retryable, with nothing done, while a reader is in the way.
        """
        set_mark(self._path, there=True)
        with translated(self._path):
            try:
                self._sql.run("CHECKPOINT")
            except duckdb.TransactionException:
                set_mark(self._path, there=False)
                raise
        set_mark(self._path, there=False)

    def doubt(self) -> None:
        """Read every row, where a reader met damage; raises Damaged if it is this file's."""
        with translated(self._path), closing(self.connection.cursor()) as cursor:
            for table in sorted(names(self.connection)):
                cursor.execute(f"SELECT max(hash(rows)) FROM {table} AS rows")  # noqa: S608 - our own tables

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._sql.run("BEGIN")
        try:
            yield
            self._sql.run("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):  # a failed commit has already rolled back
                self._sql.run("ROLLBACK")
            raise

    def _write(self, rows: Rows, position: int) -> Head:
        events = _plus_events(self._head.events, rows.inserted)
        ticks, texts = self._write_ticks(rows.ticks), self.texts_from or _texts_from(rows.ticks)
        head = Head(position, ticks, events, dict(self._cursors), self.archived, texts)
        self._uncopied |= {*rows.inserted, *rows.replaced} & {*COPIED}
        for table, new in rows.inserted.items():
            if new:
                self._sql.insert(table, new[-REJECTED_CAP:] if table == "rejected" else new)
        for table, changed in rows.replaced.items():
            if changed:
                self._sql.replace(table, changed)
        for table, keyed in rows.living.items():
            self._live(table, keyed)
        if rows.flags:
            self._flag(rows.flags)
        for key, value in rows.meta.items():
            self._sql.run("DELETE FROM meta WHERE key = ?", [key])
            self._sql.run("INSERT INTO meta VALUES (?, ?)", [key, value])
        if rows.inserted.get("rejected"):
            self._sql.run(_CAP_REJECTED, [REJECTED_CAP])
        return head

    def _live(self, table: str, keyed: Mapping[str, Row | None]) -> None:
        """Let living rows be as they are now; the archive's copy of one that there never was is denied."""
        self._sql.delete(table, tuple(keyed))
        if here := {key: row for key, row in keyed.items() if row is not None}:
            self._sql.insert(table, tuple(here.values()))
            self._recall([(table, key) for key in here])
        if table in self.archived.marks:
            self._amend([(table, key, None) for key, row in keyed.items() if row is None])

    def _flag(self, flags: Mapping[int, int]) -> None:
        """Change the flags of ticks that came before."""
        upto = self.archived.upto("ticks")
        for flag in (0, 1):
            if seqs := [seq for seq, now in flags.items() if now == flag and seq > upto]:
                listed = ", ".join(map(str, seqs))
                self._sql.run_once(f"UPDATE ticks SET outlier_flag = {flag} WHERE seq IN ({listed})")  # noqa: S608 - ours
        self._amend([("ticks", str(seq), flag) for seq, flag in flags.items() if seq <= upto])

    def _amend(self, rows: Sequence[tuple[str, str, int | None]]) -> None:
        """Note what the archive holds otherwise."""
        if rows:
            self._recall([(table, key) for table, key, _ in rows])
            self._sql.insert("amended", rows)
            self._uncopied.add("amended")
            self._amended = True

    def _recall(self, keys: Sequence[tuple[str, str]]) -> None:
        """Take back what was noted."""
        if self._amended:
            for table, key in keys:
                self._sql.run("DELETE FROM amended WHERE table_name = ? AND key = ?", [table, key])
            self._uncopied.add("amended")

    def _write_ticks(self, chunks: Iterable[TickRows]) -> Span:
        chunks = [chunk for chunk in chunks if len(chunk)]
        if not chunks:
            return self._head.ticks
        counts = [len(chunk) for chunk in chunks]
        before = np.cumsum([0, *counts[:-1]])
        seq = np.arange(sum(counts)) + np.repeat([chunk.first_seq for chunk in chunks] - before, counts)
        flags = np.concatenate([_flags(chunk) for chunk in chunks])
        self._sql.insert_ticks(seq, joined(chunk.ticks for chunk in chunks), flags, _ids(chunks))
        return self._head.ticks.plus(len(seq), int(seq.min()), int(seq.max()))

    def _delete(self, cuts: list[Cut], sweep: int) -> None:
        """Delete what the archive has now, and say so, in one transaction."""
        marks = {part.table: Mark(part.upto, self.position) for part in cuts}
        archived = Archived(sweep, self.archived.marks | marks, self.archived.copied)
        gone = {part.table: part for part in cuts if is_sequence(part.table)}
        ticks = _minus(self._head.ticks, gone.get("ticks"))
        events = _minus(self._head.events, gone.get("events"))
        head = replace(self._head, ticks=ticks, events=events, archived=archived)
        with self._transaction():
            for part in cuts:
                self.connection.execute(f"DELETE FROM {part.table} WHERE {part.where}")  # noqa: S608 - ours
            self._sql.run("UPDATE meta SET value = ? WHERE key = 'position'", [text_of(head)])
        self._head = head

    def _copy(self) -> None:
        """Bring the archive's copies of small tables up to this file."""
        for table in sorted(self._uncopied):
            archive_ledger.copy(self.connection, self._place, table, self.position)
            self._uncopied.discard(table)

    def _first(self, table: str) -> int | None:
        key = "seq" if is_sequence(table) else "epoch_ns(timestamp)"
        ((least,),) = self.connection.execute(f"SELECT min({key}) FROM {table}").fetchall()  # noqa: S608 - ours
        return None if least is None else int(least)

    def _has_rows(self, table: str) -> bool:
        return bool(self.connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall())  # noqa: S608 - ours

    def _save_ledger(self) -> None:
        """Write the ledger; one that is older only makes a rebuilt file hold more."""
        try:
            archive_ledger.save(self._path.parent, self._ledger(self._journal_from))
        except Retryable as error:
            log.warning("archive_ledger_refused", file=str(self._path), error=str(error))

    def _ledger(self, journal_from: int) -> Ledger:
        return Ledger(self.archived, self._head.cursors, journal_from, self.texts_from)


def _texts_from(chunks: Iterable[TickRows]) -> int:
    return next((chunk.first_seq for chunk in chunks if chunk.ids), 0)


def _flags(chunk: TickRows) -> Flags:
    return np.zeros(len(chunk), np.int8) if chunk.flags is None else chunk.flags


def _ids(chunks: Sequence[TickRows]) -> list[str]:
    """Name every tick if any has a text id."""
    if not any(chunk.ids for chunk in chunks):
        return []
    return [name for c in chunks for name in c.ids or map(str, c.ticks["trade_id"].tolist())]


def _minus(said: Span, part: Cut | None) -> Span:
    if part is None:
        return said
    rows = said.rows - part.rows
    return Span(rows, part.upto + 1, said.last) if rows else Span()


def _plus_events(said: Span, inserted: dict[str, list[Row]]) -> Span:
    numbers = [row[0] for row in inserted.get("events", ())]
    return said.plus(len(numbers), min(numbers), max(numbers)) if numbers else said
