"""Binance USD-M futures, from developers.binance.com, derivatives/usds-margined-futures (2026-05)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from feeds import binance_usdm
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade

FIRST_ID = 2_200_000_000
FIRST_FILL = 5_129_698_000
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
MS = 1_000_000
DAY_NS = 86_400_000 * MS


def text(number: float) -> str:
    return format(Decimal(repr(number)), "f")


@dataclass
class BinanceUsdm:
    """A day of aggTrades is kept; whatever is subscribed to is granted, and told on its own root only."""

    symbol: str = "BTCUSDT"
    kept_ns: int = DAY_NS
    venue: Venue = binance_usdm.VENUE

    def trade_id(self, number: int) -> int:
        return FIRST_ID + number

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        try:
            asked = json.loads(message)
        except ValueError:
            return [json.dumps({"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})]
        if asked.get("method") not in METHODS:
            told = f"Invalid request: unknown variant {asked.get('method')}, expected one of {METHODS}"
            return [json.dumps({"code": 2, "msg": told})]
        return [json.dumps({"result": None, "id": asked["id"]})]

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:
        if not path.startswith("/market/"):
            return []
        head = {"e": "aggTrade", "E": now_ns // MS, "s": self.symbol}
        return [self._on(path, "aggTrade", head | self._row(x, {"nq": text(x.size)})) for x in trades]

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        if not path.startswith("/public/"):
            return []
        shown = {
            "e": "bookTicker",
            "u": 400_900_217 + now_ns // MS,
            "E": now_ns // MS,
            "T": now_ns // MS - 2,
            "s": self.symbol,
            "b": text(bid),
            "B": "31.21",
            "a": text(ask),
            "A": "40.66",
        }
        return [self._on(path, "bookTicker", shown)]

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        return []  # ping frames, every three minutes, are all there is

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        if path == "/fapi/v1/exchangeInfo":
            return 200, json.dumps(self._listings(now_ns)).encode()
        if path != "/fapi/v1/aggTrades":
            return 404, b"<html>404 Not found</html>"
        if query.get("symbol") != self.symbol:
            return refused(-1121, "Invalid symbol.")
        limit = int(query.get("limit", "500"))
        if not 1 <= limit <= 1_000:
            return refused(-1130, "Data sent for parameter 'limit' is not valid.")
        kept = [x for x in tape if x.ts_ns >= now_ns - self.kept_ns]
        if "fromId" in query:
            page = [x for x in kept if self.trade_id(x.number) >= int(query["fromId"])][:limit]
        else:
            page = kept[-limit:]
        return 200, json.dumps([self._row(x, {}) for x in page]).encode()

    def _row(self, x: FakeTrade, more: dict[str, object]) -> dict[str, object]:
        fill = FIRST_FILL + 5 * x.number  # ids of ADL and insurance fund trades lie between
        row = {"a": self.trade_id(x.number), "p": text(x.price), "q": text(x.size), "f": fill}
        return {**row, **more, "l": fill + x.number % 3, "T": x.ts_ns // MS, "m": x.side < 0}

    def _on(self, path: str, stream: str, payload: dict[str, object]) -> str:
        if not path.startswith(("/market/stream", "/public/stream")):
            return json.dumps(payload, separators=(",", ":"))
        wrapped = {"stream": f"{self.symbol.lower()}@{stream}", "data": payload}
        return json.dumps(wrapped, separators=(",", ":"))

    def _listings(self, now_ns: int) -> dict[str, object]:
        limits = [{"interval": "MINUTE", "intervalNum": 1, "limit": 2400, "rateLimitType": "REQUEST_WEIGHT"}]
        symbols = [listing("BLZUSDT", "SETTLING", "0.00001"), listing(self.symbol, "TRADING", "0.10")]
        return {"exchangeFilters": [], "rateLimits": limits, "serverTime": now_ns // MS, "symbols": symbols}


def listing(symbol: str, status: str, tick_size: str) -> dict[str, object]:
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1598252400000,
        "status": status,
        "filters": [
            {"filterType": "LOT_SIZE", "maxQty": "1000", "minQty": "0.001", "stepSize": "0.001"},
            {"filterType": "PRICE_FILTER", "maxPrice": "4529764", "minPrice": "1", "tickSize": tick_size},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        ],
    }


def refused(code: int, told: str) -> tuple[int, bytes]:
    return 400, json.dumps({"code": code, "msg": told}).encode()


DIALECT = BinanceUsdm()
