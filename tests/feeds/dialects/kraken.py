"""What Kraken spot sends: docs.kraken.com, spot websocket v2 and REST market data (2026-06)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from feeds import kraken
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade

_FIRST_ID = 61_044_952
_PAGE = 1_000
_IN_A_SNAPSHOT = 50
_NAMES = {"XBTUSD", "BTCUSD", "XXBTZUSD", "XBT/USD", "BTC/USD"}


@dataclass
class KrakenDialect:
    """The pair BTC/USD, which REST calls XXBTZUSD."""

    venue: Venue
    symbol: str = "BTC-USD"

    def trade_id(self, number: int) -> int | str:
        return _FIRST_ID + number

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        if path != "/v2":
            return []
        asked = json.loads(message)
        times = {"time_in": _rfc3339(now_ns), "time_out": _rfc3339(now_ns + 35_000)}
        request = {"req_id": asked["req_id"]} if "req_id" in asked else {}
        if asked["method"] == "ping":
            return [json.dumps({"method": "pong", **request, **times})]
        params = asked["params"]
        (symbol,) = params["symbol"]
        head = {"method": "subscribe", **request}
        if symbol != "BTC/USD":
            refusal = {"error": f"Currency pair not supported {symbol}", "success": False, "symbol": symbol}
            return [json.dumps(refusal | head | times)]
        # The documents: a snapshot unless told otherwise of the ticker, none unless asked for of trades.
        snapshot = params.get("snapshot", params["channel"] == "ticker")
        result = {"channel": params["channel"], "snapshot": snapshot, "symbol": symbol}
        out = [json.dumps(head | {"result": result, "success": True} | times)]
        if snapshot and tape:
            out += self._snapshot(params["channel"], tape, now_ns)
        return out

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002 - no time
        if path != "/v2" or not trades:
            return []
        return [_message("trade", "update", [self._row(x) for x in trades])]

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        return [_message("ticker", "update", [_top(bid, ask, now_ns)])] if path == "/v2" else []

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:  # noqa: ARG002 - says nothing
        return ['{"channel":"heartbeat"}'] if path == "/v2" else []

    def rest(
        self,
        path: str,
        query: Mapping[str, str],
        tape: Sequence[FakeTrade],
        now_ns: int,
    ) -> tuple[int, bytes]:
        if path not in {"/0/public/Trades", "/0/public/AssetPairs"}:
            return 200, _body(["EGeneral:Unknown method"])
        if query.get("pair") not in _NAMES:
            return 200, _body(["EQuery:Unknown asset pair"])
        if path == "/0/public/AssetPairs":
            return 200, _body([], {"XXBTZUSD": _PAIR})
        count = min(int(query.get("count", _PAGE)), _PAGE)
        if "since" in query:
            page = [x for x in tape if x.ts_ns > int(query["since"])][:count]
        else:
            page = list(tape[-count:])
        last = str(page[-1].ts_ns if page else query.get("since", now_ns))
        return 200, _body([], {"XXBTZUSD": [self._rest_row(x) for x in page], "last": last})

    def _snapshot(self, channel: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        if channel == "trade":
            return [_message("trade", "snapshot", [self._row(x) for x in tape[-_IN_A_SNAPSHOT:]])]
        last = tape[-1].price
        return [_message("ticker", "snapshot", [_top(last * 0.9999, last * 1.0001, now_ns)])]

    def _row(self, x: FakeTrade) -> dict[str, Any]:
        return {
            "symbol": "BTC/USD",
            "side": "buy" if x.side > 0 else "sell",
            "price": x.price,
            "qty": x.size,
            "ord_type": "limit",
            "trade_id": self.trade_id(x.number),
            "timestamp": _rfc3339(x.ts_ns),
        }

    def _rest_row(self, x: FakeTrade) -> list[Any]:
        side = "b" if x.side > 0 else "s"
        seconds = float(f"{x.ts_ns // 10**9}.{x.ts_ns % 10**9:09d}")
        return [_text(x.price), _text(x.size), seconds, side, "l", "", self.trade_id(x.number)]


DIALECT = KrakenDialect(kraken.VENUE)

_PAIR = {
    "altname": "XBTUSD",
    "wsname": "XBT/USD",
    "base": "XXBT",
    "quote": "ZUSD",
    "pair_decimals": 1,
    "lot_decimals": 8,
    "ordermin": "0.00005",
    "costmin": "0.5",
    "tick_size": "0.1",
    "status": "online",
}


def _message(channel: str, kind: str, data: list[dict[str, Any]]) -> str:
    return json.dumps({"channel": channel, "type": kind, "data": data}, separators=(",", ":"))


def _top(bid: float, ask: float, now_ns: int) -> dict[str, Any]:
    best = {"symbol": "BTC/USD", "bid": bid, "bid_qty": 740.0, "ask": ask, "ask_qty": 1361.44813783}
    day = {"last": bid, "volume": 997038.98383185, "vwap": bid, "low": bid, "high": ask, "change": -0.00017}
    return best | day | {"change_pct": -0.17, "timestamp": _rfc3339(now_ns)}


def _body(errors: list[str], result: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"error": errors} | ({} if result is None else {"result": result})).encode()


def _text(number: float) -> str:
    return format(Decimal(repr(number)), "f")


def _rfc3339(ts_ns: int) -> str:
    seconds, rest_ns = divmod(ts_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"
