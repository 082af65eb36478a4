"""Ticks and bars from the pairs' lanes to QuestDB. The only actor that loads pandas."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog

from actors.page_service import Delivery, PageService
from actors.priority import Place, take
from actors.supervise import bring_back, end, live, vitals
from market.errors import MarketdError, Retryable
from market.pairs import Pair
from market.streams import TICKS
from storage.pages import decode_candles, decode_ticks
from storage.questdb import QuestDB
from storage.questdb_frames import CandleRows, TradeRows
from storage.questdb_retention import Policy, retain
from storage.questdb_sql import Sql
from storage.questdb_url import parse

log = structlog.get_logger(__name__)
LOOK_S = 60.0
EXPORT_TIMEOUT_S = 600.0
TEND_S = 5.0


class QuestDBPages:
    """QuestDB as a store of pages; `where` is its address, or the file that a server of ours writes it to."""

    def __init__(self, where: str | Path) -> None:
        self._where = where
        self._url = ""
        self._server: QuestDB | None = None
        self._writing = threading.Lock()  # `write` and `look` run in threads of their own
        self._rejected = 0
        self._tended_s = 0.0
        self._health: dict[str, Any] = {}

    def prepare(self) -> None:
        """Connect, to where the server is now, and see that its tables are right."""
        url = self._where if isinstance(self._where, str) else _told(self._where)
        if self._server is None or url != self._url:
            self.close()
            self._server, self._url = QuestDB(url), url
        self._server.prepare()

    def write(self, deliveries: Sequence[Delivery]) -> int:
        """Write ticks, then bars; return how many rows the server took."""
        server = self._ready()
        self._tend(server)
        written = []
        if ticks := [_trades(one) for one in deliveries if one.hello.stream == TICKS]:
            with self._writing:
                written.append(server.write_trades(ticks))
        if candles := [_candles(one) for one in deliveries if one.hello.stream != TICKS]:
            written.append(server.write_candles([(symbol, bars) for symbol, bars in candles if bars]))
        self._rejected += sum(one.rejected for one in written)
        return sum(one.stored for one in written)

    def ping(self) -> None:
        self._ready().ping()
        self._tend(self._ready())

    def status(self) -> dict[str, Any]:
        return {"rejected": self._rejected, "tables": self._health}

    def look(self, policy: Policy) -> int:
        """See how the tables are, and archive old days; return the rows archived. Raises MarketdError."""
        self._ready()
        health = QuestDB(self._url).health()
        self._health = {
            "rows": health.rows,
            "lag": health.lag,
            "suspended": health.suspended,
            "view": health.view,
        }
        return retain(Sql(parse(self._url), EXPORT_TIMEOUT_S), policy, alone=self._writing)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _tend(self, server: QuestDB) -> None:
        """See now and then that what is acknowledged is also written: a full disk stops that unsaid."""
        now_s = time.monotonic()
        if now_s > self._tended_s + TEND_S:
            self._tended_s = now_s
            server.go_on()

    def _ready(self) -> QuestDB:
        if self._server is None:
            raise Retryable("not connected yet")
        return self._server


class QuestDBSupervisor:
    """The service as an actor's class; create it where an event loop runs."""

    def __init__(self, path: Path, where: str | Path, policy: Policy, prepare: Callable[[], None]) -> None:
        prepare()
        take(Place.LAST)
        bring_back("pyarrow", "pandas")
        self._pages, self._policy = QuestDBPages(where), policy
        self._service = PageService("questdb", path, self._pages)
        self._archived, self._trouble = 0, ""
        self._task = live(self._service.run())
        self._looking = live(self._look())

    async def status(self) -> bytes:
        own = {"archived": self._archived, "trouble": self._trouble}
        return orjson.dumps(vitals() | self._service.status() | own)

    async def stop(self) -> None:
        """Close lanes and connection; what was not acknowledged stays with the pairs."""
        await end(self._looking)
        await end(self._task)

    async def _look(self) -> None:
        """Look after the tables now and then; what cannot be done now is tried the next time."""
        while True:
            try:
                self._archived += await asyncio.to_thread(self._pages.look, self._policy)
                self._trouble = ""
            except MarketdError as error:
                if self._service.status()["ok"] and self._trouble != str(error):
                    log.warning("questdb_not_tended", reason=str(error))
                self._trouble = str(error)
            await asyncio.sleep(LOOK_S)


def _told(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Retryable("the embedded server has not started yet") from error


def _trades(delivery: Delivery) -> TradeRows:
    hello, page = delivery
    rows = decode_ticks(page.body, page.after_seq + 1, page.last_seq - page.after_seq)
    exchange = Pair.parse(hello.pair_key).exchange
    return TradeRows(hello.symbol, exchange, rows.first_seq, rows.ticks, rows.ids)


def _candles(delivery: Delivery) -> CandleRows:
    return delivery.hello.symbol, decode_candles(delivery.page.body)
