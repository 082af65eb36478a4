"""`marketd record`: a pair's raw frames into files, by sockets of its own, daemon or not."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
import uvloop

from daemon import logs
from daemon.settings import VENUES as SPOKEN
from daemon.settings import Settings
from feeds import clock
from feeds.live import Address
from feeds.recording import Recorder
from feeds.recording_format import Kept
from feeds.tap import Tap
from feeds.venues import VENUES
from market.errors import Retryable, Unreachable, UsageError
from market.pairs import Pair

log = structlog.get_logger()
TAKE_S = 0.1
LINE_S = 1.0
CONNECT_S = 30.0


def record(settings: Settings, pair: Pair, out: Path | None, seconds: float | None) -> int:
    """Record until Ctrl-C, SIGTERM or for so many seconds.

    Raises UsageError for what cannot be recorded, Unreachable if the venue is not reached, Retryable if the
    disk refuses the last frames.
    """
    tap = _tap(settings, pair)
    logs.configure(settings.log.level, settings.log.format)
    folder = out or settings.data_dir / "recordings" / pair.path
    return uvloop.run(_Recording(pair, tap, folder.absolute()).run(seconds))


def _tap(settings: Settings, pair: Pair) -> Callable[[], Tap]:
    """Prepare a tap, to be made where a loop runs."""
    if any(one.pair == pair and one.push for one in settings.pairs):
        raise UsageError(f"{pair} is pushed into Redis: there is no socket to record")
    market = pair.exchange, pair.market
    if market not in VENUES:
        supported = ", ".join(" ".join(venue) for venue in SPOKEN)
        raise UsageError(f"{pair}: {' '.join(market)} is not supported (supported: {supported})")
    source, limits = settings.exchanges[market], settings.run_dir / "limits"
    shared = limits if limits.parent.is_dir() else None  # no daemon of this folder, nobody to share with
    address = Address(source.ws_url, source.rest_url, shared)
    return lambda: Tap(VENUES[market], address, pair.symbol, settings.engine.stale_after_s)


class _Recording:
    def __init__(self, pair: Pair, tap: Callable[[], Tap], folder: Path) -> None:
        self._pair, self._make, self._folder = pair, tap, folder
        self._recorder = Recorder(folder, pair.key)
        self._frames = self._bytes = 0
        self._held: list[Kept] = []  # until a connection was opened: without one there is no recording
        self._trouble = ""  # what the disk refuses
        self._stop = asyncio.Event()

    async def run(self, seconds: float | None) -> int:
        loop, tap = asyncio.get_running_loop(), self._make()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        listening = asyncio.create_task(tap.run())
        try:
            await self._work(tap, listening, seconds)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        self._take(tap)
        if not tap.opened:
            raise Unreachable(f"{self._pair}: {tap.last_error or 'no connection was opened'}")
        self._recorder.close()
        self._tell(f"recorded: {self._so_far()} in {self._folder}")
        return 0

    async def _work(self, tap: Tap, listening: asyncio.Task[None], seconds: float | None) -> None:
        began_s = told_s = time.monotonic()
        while not self._stop.is_set():
            await asyncio.sleep(TAKE_S)
            if listening.done():
                _raise(listening)
            self._take(tap)
            now_s = time.monotonic()
            if now_s - told_s >= LINE_S:
                told_s = now_s
                self._flush()
                self._tell(f"{self._pair}: {self._so_far()}, {self._state(tap)}")
            if (seconds is not None and now_s - began_s >= seconds) or (
                not tap.opened and now_s - began_s >= CONNECT_S
            ):
                return

    def _take(self, tap: Tap) -> None:
        self._held += tap.take(clock.now_ns())
        if tap.opened:
            for kept in self._held:
                self._frames += 1
                self._bytes += len(kept.frame)
                self._guard(partial(self._recorder.append, kept))
            self._held.clear()

    def _flush(self) -> None:
        self._guard(self._recorder.flush)

    def _guard(self, write: Callable[[], None]) -> None:
        """Write; what the disk refuses waits in memory, as far as that goes, and is told."""
        try:
            write()
        except Retryable as error:
            if str(error) != self._trouble:
                log.error("disk_refuses", error=str(error))
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _so_far(self) -> str:
        lost = f", {self._recorder.lost:,} frames lost" if self._recorder.lost else ""
        return f"{self._frames:,} frames, {self._bytes:,} bytes{lost}"

    def _state(self, tap: Tap) -> str:
        if self._trouble:
            return self._trouble
        if tap.subscribed:
            return "connected"
        return f"connecting {tap.refused or tap.last_error}".rstrip()

    def _tell(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _raise(listening: asyncio.Task[None]) -> None:
    """Raise what ended the tap by itself."""
    try:
        listening.result()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
