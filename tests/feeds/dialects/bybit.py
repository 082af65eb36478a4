"""What Bybit v5 sends: docs/v5 of github.com/bybit-exchange/docs (2026-07), and messages of 2026-08."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from feeds import bybit
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade

_CONNECTION = "d9avt8shteepr00gfc1g-4zd1x"
_SIDES = {1: "Buy", -1: "Sell"}
_IN_A_MESSAGE = 1_024


@dataclass
class BybitDialect:
    """One market of the venue; REST has one page, of 60 trades on spot and 1,000 on linear."""

    venue: Venue
    category: str
    page: int
    symbol: str = "BTCUSDT"

    def trade_id(self, number: int) -> int | str:
        """Spot's ids rise by whatever other symbols' trades take; linear's say nothing."""
        if self.category == "spot":
            return 2_290_000_001_189_048_101 + 7 * number + number % 3
        return str(uuid5(NAMESPACE_OID, f"{self.symbol} {number}"))

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        if path != self._path:
            return []
        asked = json.loads(message)
        request, topics = asked.get("req_id", ""), asked.get("args", [])
        if asked["op"] == "ping":
            return [self._reply("pong", "ping", request)]
        if strange := [x for x in topics if x not in (self._trades, self._book)]:
            text = f"error:handler not found,topic:{strange[0]}"
            return [self._reply(text, "subscribe", request, success=False)]
        out = [self._reply("subscribe" if self.category == "spot" else "", "subscribe", request)]
        if self._book in topics and tape:
            out += self.quote(path, tape[-1].price * 0.9999, tape[-1].price * 1.0001, now_ns)
        return out

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:
        if path != self._path:
            return []
        parts = [trades[i : i + _IN_A_MESSAGE] for i in range(0, len(trades), _IN_A_MESSAGE)]
        return [self._message(self._trades, [self._row(x) for x in part], now_ns) for part in parts]

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        if path != self._path:
            return []
        sides = {"b": [[_text(bid), "1.5"]], "a": [[_text(ask), "2.25"]]}
        data = {"s": self.symbol, **sides, "u": 18521288, "seq": 7961638724}
        message = {"topic": self._book, "ts": now_ns // 10**6, "type": "snapshot", "data": data}
        return [json.dumps(message | {"cts": now_ns // 10**6 - 2})]

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002 - none
        return []

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        if path not in {"/v5/market/recent-trade", "/v5/market/instruments-info"}:
            return 404, b"404 page not found"
        if query.get("category") != self.category:
            return 200, _body(now_ns, {}, 10001, "params error: Category is invalid")
        if query.get("symbol") != self.symbol:
            return 200, self._no_such_symbol(path, now_ns)
        if path == "/v5/market/instruments-info":
            return 200, _body(now_ns, {"category": self.category, "list": [self._listing()]})
        limit = min(int(query.get("limit", self.page)), self.page)
        rows = [self._rest_row(x) for x in reversed(tape[-limit:])]
        return 200, _body(now_ns, {"category": self.category, "list": rows})

    @property
    def _path(self) -> str:
        return f"/v5/public/{self.category}"

    @property
    def _trades(self) -> str:
        return f"publicTrade.{self.symbol}"

    @property
    def _book(self) -> str:
        return f"orderbook.1.{self.symbol}"

    def _reply(self, text: str, op: str, request: str, *, success: bool = True) -> str:
        body = {"success": success, "ret_msg": text, "conn_id": _CONNECTION}
        if request or self.category != "spot":
            body["req_id"] = request
        return json.dumps(body | {"op": op})

    def _message(self, topic: str, data: list[dict[str, Any]], now_ns: int) -> str:
        """Spot puts `ts` before `type`, linear after it."""
        ts, kind = {"ts": now_ns // 10**6}, {"type": "snapshot"}
        head = ts | kind if self.category == "spot" else kind | ts
        return json.dumps({"topic": topic} | head | {"data": data}, separators=(",", ":"))

    def _row(self, x: FakeTrade) -> dict[str, Any]:
        time, price, size = x.ts_ns // 10**6, _text(x.price), _text(x.size)
        tail = {"BT": False, "RPI": False}
        if self.category == "spot":
            head = {"i": str(self.trade_id(x.number)), "T": time, "p": price, "v": size, "S": _SIDES[x.side]}
            return head | {"seq": 112488547164 + x.number, "s": self.symbol} | tail
        head = {"T": time, "s": self.symbol, "S": _SIDES[x.side], "v": size, "p": price, "L": "PlusTick"}
        return head | {"i": self.trade_id(x.number)} | tail | {"seq": 753843954913 + x.number // 3}

    def _rest_row(self, x: FakeTrade) -> dict[str, Any]:
        return {
            "execId": str(self.trade_id(x.number)),
            "symbol": self.symbol,
            "price": _text(x.price),
            "size": _text(x.size),
            "side": _SIDES[x.side],
            "time": str(x.ts_ns // 10**6),
            "isBlockTrade": False,
            "isRPITrade": False,
            "seq": str(753843954913 + x.number),
        }

    def _listing(self) -> dict[str, Any]:
        prices = {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"}
        lots = {"minOrderQty": "0.001", "qtyStep": "0.001"}
        coins = {"baseCoin": "BTC", "quoteCoin": "USDT"}
        return {
            "symbol": self.symbol,
            "status": "Trading",
            **coins,
            "priceFilter": prices,
            "lotSizeFilter": lots,
        }

    def _no_such_symbol(self, path: str, now_ns: int) -> bytes:
        """Linear refuses; spot has an empty list of instruments, and refuses elsewhere in other words."""
        nothing: dict[str, Any] = {"category": "", "list": []}
        if self.category != "spot":
            return _body(now_ns, nothing, 10001, "params error: symbol invalid")
        if path == "/v5/market/instruments-info":
            return _body(now_ns, nothing | {"category": "spot"})
        return _body(now_ns, nothing, 10001, "Not supported symbols")


SPOT = BybitDialect(bybit.SPOT, "spot", 60)
LINEAR = BybitDialect(bybit.LINEAR, "linear", 1_000)


def _body(now_ns: int, result: dict[str, Any], code: int = 0, text: str = "OK") -> bytes:
    head = {"retCode": code, "retMsg": text, "result": result}
    return json.dumps(head | {"retExtInfo": {}, "time": now_ns // 10**6}).encode()


def _text(number: float) -> str:
    return format(Decimal(repr(number)), "f")
