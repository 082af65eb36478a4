"""Keep an embedded server up: started beside everything else, and again when it died or hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import structlog

from market.errors import MarketdError

log = structlog.get_logger()
SILENT_S = 30.0  # a server that lives and whose user gets nothing done for so long is started again
RETRY_S = 10.0


class Server(Protocol):
    """A server of our own."""

    def alive(self) -> bool: ...
    def start(self) -> str: ...
    def stop(self) -> None: ...


class Keeper:
    """Own one server; `started` is called after each start, with its URL.

    The server lives on a thread of its own: the kernel ends it with the thread that started it, and starting
    it keeps nobody waiting.
    """

    def __init__(self, name: str, server: Server, started: Callable[[str], None] | None = None) -> None:
        self.restarts = 0
        self.error = ""  # why it does not run
        self._name, self._server, self._started = name, server, started
        self._thread = ThreadPoolExecutor(1, f"{name}-server")
        self._starting: Future[None] | None = None
        self._well_s = self._retry_s = 0.0

    def start(self) -> Future[None]:
        """Begin to start it; the future raises what hinders it."""
        self._starting = self._thread.submit(self._start)
        return self._starting

    def look(self, *, well: bool) -> None:
        """Judge it, knowing whether its user is well served; start it again if that is needed."""
        now_s = time.monotonic()
        if self._starting is not None:
            if self._starting.done():
                self._note_started(self._starting, now_s)
        elif self.error:
            if now_s >= self._retry_s:
                self.start()
        else:
            self._well_s = now_s if well else self._well_s
            self._restart_if(hangs=now_s - self._well_s > SILENT_S)

    def stop(self) -> None:
        """End it, also one that is still starting; harmless if it is gone."""
        self._server.stop()
        self._thread.shutdown()

    def _start(self) -> None:
        url = self._server.start()
        if self._started is not None:
            self._started(url)

    def _note_started(self, starting: Future[None], now_s: float) -> None:
        self._starting = None
        try:
            starting.result()
        except (MarketdError, OSError) as error:  # OSError: a disk that takes no more
            self._retry_s = now_s + RETRY_S
            if self.error != str(error):
                log.error("server_not_started", server=self._name, reason=str(error))
            self.error = str(error)
        else:
            self._well_s, self.error = now_s, ""

    def _restart_if(self, *, hangs: bool) -> None:
        if self._server.alive() and not hangs:
            return
        self.restarts += 1
        log.error("server_hangs" if hangs else "server_died", server=self._name, restarts=self.restarts)
        self._thread.submit(self._server.stop)
        self.start()
