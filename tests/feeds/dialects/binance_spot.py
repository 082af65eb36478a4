"""Binance spot, from github.com/binance/binance-spot-api-docs (2026-07)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from feeds import binance_spot
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade

FIRST_ID = 4_400_000_000
MS = 1_000_000
LIMITS = {"/api/v3/trades": 1_000, "/api/v3/historicalTrades": 1_000}


def text(number: float) -> str:
    return f"{Decimal(repr(number)):.8f}"


@dataclass
class BinanceSpot:
    """Raw streams on `/ws`; REST pages from an id on."""

    symbol: str = "BTCUSDT"
    venue: Venue = binance_spot.VENUE

    def trade_id(self, number: int) -> int:
        return FIRST_ID + number

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        try:
            asked = json.loads(message)
        except ValueError:
            return [json.dumps({"error": {"code": 3, "msg": "Invalid JSON: expected value"}, "id": None})]
        if path != "/ws" or asked.get("method") != "SUBSCRIBE":
            return [json.dumps({"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": 1})]
        return [json.dumps({"result": None, "id": asked["id"]})]

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:
        head = {"e": "trade", "E": now_ns // MS, "s": self.symbol}
        return [packed(head | self._told(x)) for x in trades] if path == "/ws" else []

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        sides = {"b": text(bid), "B": "31.21", "a": text(ask), "A": "40.66"}
        return [packed({"u": 400_900_217 + now_ns // MS, "s": self.symbol} | sides)] if path == "/ws" else []

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        return []  # ping frames, every twenty seconds, are all there is

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        if path not in LIMITS and path != "/api/v3/exchangeInfo":
            return 404, b"<html>404 Not found</html>"
        if query.get("symbol") != self.symbol:
            return 400, json.dumps({"code": -1121, "msg": "Invalid symbol."}).encode()
        if path == "/api/v3/exchangeInfo":
            return 200, json.dumps(self._listings(now_ns)).encode()
        limit = min(int(query.get("limit", "500")), LIMITS[path])
        if "fromId" in query and path == "/api/v3/historicalTrades":
            page = [x for x in tape if self.trade_id(x.number) >= int(query["fromId"])][:limit]
        else:
            page = list(tape[-limit:])
        return 200, json.dumps([self._row(x) for x in page]).encode()

    def _told(self, x: FakeTrade) -> dict[str, object]:
        trade = {"t": self.trade_id(x.number), "p": text(x.price), "q": text(x.size), "T": x.ts_ns // MS}
        return {**trade, "m": x.side < 0, "M": True}

    def _row(self, x: FakeTrade) -> dict[str, object]:
        trade = {"id": self.trade_id(x.number), "price": text(x.price), "qty": text(x.size)}
        quote = {"quoteQty": text(x.price * x.size), "time": x.ts_ns // MS}
        return {**trade, **quote, "isBuyerMaker": x.side < 0, "isBestMatch": True}

    def _listings(self, now_ns: int) -> dict[str, object]:
        filters = [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01000000",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001000"},
        ]
        listed = {"symbol": self.symbol, "status": "TRADING", "baseAsset": "BTC", "filters": filters}
        return {"timezone": "UTC", "serverTime": now_ns // MS, "rateLimits": [], "symbols": [listed]}


def packed(message: dict[str, object]) -> str:
    return json.dumps(message, separators=(",", ":"))


DIALECT = BinanceSpot()
