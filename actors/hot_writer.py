"""Rows on their way to the hot file: gathered, and written in one transaction a second on a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from actors.latency import Durations
from actors.priority import step_back
from market.errors import Retryable
from market.rows import Rows
from market.times import NS_PER_S
from storage.duck import Damaged
from storage.hot import HotFile

log = structlog.get_logger()
S = TypeVar("S")
T = TypeVar("T")
CHECKPOINT_BYTES = 1024 * 1024  # until then DuckDB holds the rows in memory, those that were swept too
CHECKPOINT_EVERY_S = 60.0  # a checkpoint takes 0.1 s of CPU and more of the disk's time
MAX_WAL_BYTES = 64 * 1024 * 1024  # sooner than that, if a restart would have so much to read
RETRY_S = 1.0


class HotWriter:
    """The only user of a HotFile's writing connection."""

    def __init__(self, hot: HotFile, wal: Path) -> None:
        self.error = ""
        self.flush_s, self.last_flush_ns = Durations(), 0
        self.on_written: Callable[[], None] = _nothing
        self._hot, self._wal = hot, wal
        self._thread = ThreadPoolExecutor(1, "hot-file", initializer=step_back)
        self._rows, self._position = Rows(), hot.position
        self.pending_rows = 0
        self._cursors: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None
        self._held = asyncio.Lock()
        self._damage: Damaged | None = None
        self._patient = True
        self._checkpoint_due_s = time.monotonic() + CHECKPOINT_EVERY_S

    @property
    def busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    @property
    def written(self) -> int:
        """Number of the last record whose rows are in the file."""
        return self._hot.position

    @property
    def idle(self) -> bool:
        """True when everything added is in the file."""
        return not self.busy and self._position == self.written

    def add(self, rows: Rows, position: int) -> None:
        """Take what record `position` made."""
        self._rows.extend(rows)
        self.pending_rows += rows.count
        self._position = position

    def set_cursor(self, sink: str, seq: int) -> None:
        """Note what a sink has acknowledged; it is written with the next rows."""
        self._cursors[sink] = seq

    def start(self) -> None:
        """Begin to write what has gathered, if there is anything and nothing is being written already.

        Raises what ended the write before: its rows are only in the journal now.
        """
        if not self.busy and not self._held.locked():
            self._begin()

    def hurry(self) -> None:
        """Wait no more for a disk that refuses: from now on that is raised, for the journal has it all."""
        self._patient = False

    async def flush(self) -> None:
        """Return when everything gathered before the call is in the file."""
        await self.view(lambda: None, lambda: None)

    async def view(self, look: Callable[[], S], begin: Callable[[], T]) -> tuple[S, T]:
        """Flush, and return what `look` and, on the file's thread, `begin` saw: the same moment."""
        async with self._held:
            await self._written()
            seen = look()
            self._begin()
            await self._written()
            return seen, await self.run(begin)

    async def run(self, work: Callable[[], T]) -> T:
        """Do something with the file on its own thread; that it is damaged ends the next write too."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Damaged as damage:
            self._damage = damage
            raise

    def _begin(self) -> None:
        if self._damage is not None:
            raise self._damage
        if self._writing is not None:
            self._writing.result()
        if self._cursors or self._position != self._hot.position:
            # Taken here and not when the task first runs: what comes in between is of a later moment.
            rows, cursors = self._rows, self._cursors
            self._rows, self._cursors, self.pending_rows = Rows(), {}, 0
            self._writing = asyncio.create_task(self._write(rows, cursors, self._position))

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Let what is being written succeed or fail, and close the thread; the file stays open."""
        self.hurry()
        if self._writing is not None:
            await asyncio.wait([self._writing])
            if error := self._writing.exception():
                log.error("hot_file_failed", error=str(error))
        self._thread.shutdown()

    async def _write(self, rows: Rows, cursors: dict[str, int], position: int) -> None:
        """Write until it succeeds: what the disk refuses now stays in memory, bounded by the engine."""
        while True:
            try:
                await self.run(lambda: self._flush(rows, cursors, position))
            except Retryable as error:
                self._complain(str(error))
                if not self._patient:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                self.error = ""
                self.on_written()
                await self._checkpoint()
                return

    def _flush(self, rows: Rows, cursors: dict[str, int], position: int) -> None:
        began_s = time.perf_counter()
        for sink, seq in cursors.items():
            self._hot.set_cursor(sink, seq)
        self._hot.flush(rows, position)
        took_s = time.perf_counter() - began_s
        self.flush_s.add(took_s)
        self.last_flush_ns = int(took_s * NS_PER_S)

    def _complain(self, error: str) -> None:
        if error != self.error:
            log.error("hot_file_refused", error=error)
        self.error = error

    async def _checkpoint(self) -> None:
        """Fold the write-ahead log into the file when it has grown; a reader in the way means later."""
        now_s, size = time.monotonic(), self._wal.stat().st_size if self._wal.exists() else 0
        if size < CHECKPOINT_BYTES or (now_s < self._checkpoint_due_s and size < MAX_WAL_BYTES):
            return
        self._checkpoint_due_s = now_s + CHECKPOINT_EVERY_S
        try:
            await self.run(self._hot.checkpoint)
        except Retryable as error:
            log.info("checkpoint_later", error=str(error))


def _nothing() -> None:
    """Serve nobody: rows are written, and it is nobody's concern yet."""
