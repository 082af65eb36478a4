"""Ticks and bars from the pairs' lanes to QuestDB. The only actor that loads pandas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.page_service import Delivery, PageService
from actors.supervise import bring_back, end, give_way, live, vitals
from market.errors import Retryable
from market.pairs import Pair
from market.streams import TICKS
from storage.pages import decode_candles, decode_ticks
from storage.questdb import QuestDB
from storage.questdb_frames import CandleRows, TradeRows


class QuestDBPages:
    """QuestDB as a store of pages; `where` is its address, or the file that a server of ours writes it to."""

    def __init__(self, where: str | Path) -> None:
        self._where = where
        self._url = ""
        self._server: QuestDB | None = None
        self._rejected = 0

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
        written = []
        if ticks := [_trades(one) for one in deliveries if one.hello.stream == TICKS]:
            written.append(server.write_trades(ticks))
        if candles := [_candles(one) for one in deliveries if one.hello.stream != TICKS]:
            written.append(server.write_candles([(symbol, bars) for symbol, bars in candles if bars]))
        self._rejected += sum(one.rejected for one in written)
        return sum(one.stored for one in written)

    def ping(self) -> None:
        self._ready().ping()

    def status(self) -> dict[str, Any]:
        return {"rejected": self._rejected}

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _ready(self) -> QuestDB:
        if self._server is None:
            raise Retryable("not connected yet")
        return self._server


class QuestDBSupervisor:
    """The service as an actor's class; create it where an event loop runs."""

    def __init__(self, path: Path, where: str | Path, prepare: Callable[[], None]) -> None:
        prepare()
        give_way()
        bring_back("pyarrow", "pandas")
        self._service = PageService("questdb", path, QuestDBPages(where))
        self._task = live(self._service.run())

    async def status(self) -> dict[str, Any]:
        return vitals() | self._service.status()

    async def stop(self) -> None:
        """Close lanes and connection; what was not acknowledged stays with the pairs."""
        await end(self._task)


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
