"""OKX, from www.okx.com/docs-v5/en (2026-06)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from feeds import okx
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade

FIRST_ID = 130_639_474
CONNECTION = "a4d3ae55"
HOME = {"trades-all": "/ws/v5/business", "tickers": "/ws/v5/public"}
MOVED = {
    "trades-all": ("64001", "This channel has been migrated to the '/business' URL."),
    "tickers": ("64002", 'This channel is not supported by "/business" URL.'),
}
MS = 1_000_000
THREE_MONTHS_NS = 90 * 86_400_000 * MS
CONTRACT = {"ctMult": "1", "ctType": "linear", "ctVal": "0.01", "ctValCcy": "BTC", "settleCcy": "USDT"}
NO_SUCH = "Instrument ID, Instrument ID code or Spread ID doesn't exist."


def text(number: float) -> str:
    return format(Decimal(repr(number)), "f")


@dataclass
class Okx:
    """Trades on one socket, quotes on the other; REST pages lead backwards, newest first."""

    venue: Venue
    symbol: str
    kept_ns: int = THREE_MONTHS_NS

    def trade_id(self, number: int) -> int:
        return FIRST_ID + number

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        if message == "ping":
            return ["pong"]
        try:
            asked = json.loads(message)
            args = asked["args"] if asked["op"] == "subscribe" else None
        except (ValueError, KeyError, TypeError):
            args = None
        if args is None:
            return [event("error", code="60012", msg=f"Invalid request: {message}")]
        return [told for arg in args for told in self._subscribe(path, asked["id"], arg, tape)]

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        if path != HOME["trades-all"]:
            return []
        return [self._push("trades-all", self._row(x)) for x in trades]

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        if path != HOME["tickers"]:
            return []
        row = {
            "instType": self._type(),
            "instId": self.symbol,
            "last": text(bid),
            "lastSz": "0.1",
            "askPx": text(ask),
            "askSz": "11",
            "bidPx": text(bid),
            "bidSz": "5",
            "open24h": "9000",
            "volCcy24h": "2222",
            "ts": str(now_ns // MS),
        }
        return [self._push("tickers", row)]

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002
        return []  # the venue is silent; it answers pings

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        limits = {"/api/v5/market/trades": 500, "/api/v5/market/history-trades": 100}
        if path == "/api/v5/public/instruments":
            return self._instruments(query)
        if path not in limits:
            return 404, b"<html>404 Not found</html>"
        if query.get("instId") != self.symbol:
            return reply("51001", NO_SUCH)
        limit = int(query.get("limit", "100"))
        if not 1 <= limit <= limits[path]:
            return reply("51000", "Parameter limit error", 400)
        if path.endswith("history-trades"):
            tape = self._history(query, tape, now_ns)
        return reply("0", "", 200, [self._row(x) for x in reversed(tape[-limit:])])

    def _subscribe(self, path: str, request_id: str, arg: Any, tape: Sequence[FakeTrade]) -> list[str]:
        channel = arg.get("channel")
        if channel not in HOME or arg.get("instId") != self.symbol:
            told = f"Wrong URL or channel:{channel},instId:{arg.get('instId')} doesn't exist."
            return [event("error", id=request_id, code="60018", msg=told)]
        if path != HOME[channel]:
            code, told = MOVED[channel]
            return [event("error", id=request_id, code=code, msg=told)]
        granted = event("subscribe", id=request_id, arg=arg)
        if channel == "trades-all" and tape:  # as recorded of `trades`: the newest one comes at once
            return [granted, self._push(channel, self._row(tape[-1]))]
        return [granted]

    def _history(
        self, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> Sequence[FakeTrade]:
        """Cut off what `after` excludes; `before` alone gives the newest page, so it cannot page forward."""
        kept = [x for x in tape if x.ts_ns >= now_ns - self.kept_ns]
        if "after" not in query:
            return kept
        if query.get("type", "1") == "2":
            return [x for x in kept if x.ts_ns // MS < int(query["after"])]
        return [x for x in kept if self.trade_id(x.number) < int(query["after"])]

    def _row(self, x: FakeTrade) -> dict[str, str]:
        return {
            "instId": self.symbol,
            "tradeId": str(self.trade_id(x.number)),
            "px": text(x.price),
            "sz": text(x.size),
            "side": "buy" if x.side > 0 else "sell",
            "source": "0",
            "ts": str(x.ts_ns // MS),
        }

    def _push(self, channel: str, row: dict[str, str]) -> str:
        arg = {"channel": channel, "instId": self.symbol}
        return json.dumps({"arg": arg, "data": [row]}, separators=(",", ":"))

    def _type(self) -> str:
        if self.symbol.endswith("-SWAP"):
            return "SWAP"
        return "SPOT" if self.symbol.count("-") == 1 else "FUTURES"

    def _instruments(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        if "instType" not in query:
            return reply("50014", "Parameter instType can not be empty.", 400)
        if query["instType"] != self._type() or query.get("instId", self.symbol) != self.symbol:
            return reply("51001", NO_SUCH)
        return reply("0", "", 200, [self._instrument(CONTRACT if self._type() != "SPOT" else {})])

    def _instrument(self, contract: dict[str, str]) -> dict[str, object]:
        nothing = dict.fromkeys(("ctMult", "ctType", "ctVal", "ctValCcy", "settleCcy"), "")
        return {
            **nothing,
            **contract,
            "instId": self.symbol,
            "instType": self._type(),
            "listTime": "1606468572000",
            "lotSz": "0.00000001",
            "state": "live",
            "tickSz": "0.1",
            "upcChg": [{"param": "tickSz", "newValue": "0.0001", "effTime": "1704876947000"}],
        }


def event(name: str, **more: object) -> str:
    return json.dumps({**more, "event": name, "connId": CONNECTION})


def reply(code: str, told: str, status: int = 200, data: Sequence[object] = ()) -> tuple[int, bytes]:
    return status, json.dumps({"code": code, "msg": told, "data": list(data)}).encode()


SPOT = Okx(okx.SPOT, "BTC-USDT")
FUTURES = Okx(okx.FUTURES, "BTC-USDT-SWAP")
