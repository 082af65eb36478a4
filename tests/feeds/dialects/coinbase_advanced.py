# ruff: noqa: ARG002 - every dialect has the same methods
"""Coinbase Advanced Trade's end of its protocol, by its documents and frames recorded in 2026-08."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from feeds.coinbase_advanced import VENUE
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade
from tests.feeds.dialects.coinbase import text

FIRST_ID = 1_068_572_000
SNAPSHOT = 100
MAX_LIMIT = 1_000  # what the venue's is, its documents do not say
MAKER = {1: "SELL", -1: "BUY"}  # by the taker's side
NS_PER_S = 1_000_000_000


@dataclass
class CoinbaseAdvancedDialect:
    """Says `market_trades`, newest first, `ticker` and `heartbeats`; its REST is asked by time."""

    venue: Venue = VENUE
    symbol: str = "BTC-USD"
    _sequence: Iterator[int] = field(default_factory=count)  # of all connections: nobody is to rely on it

    def trade_id(self, number: int) -> int:
        return FIRST_ID + number

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        """Grant one channel; as recorded, the snapshot comes before the grant, which lists all that are."""
        request = json.loads(message)
        channel, products = request.get("channel"), request.get("product_ids", [])
        known = {"heartbeats": ["heartbeats"], "ticker": [self.symbol], "market_trades": [self.symbol]}
        if request.get("type") != "subscribe" or channel not in known or products != [self.symbol]:
            return [json.dumps({"type": "error", "message": "failure to subscribe"})]
        names = list(known)[: list(known).index(channel) + 1]
        first = [self._told("snapshot", tape[-SNAPSHOT:], now_ns)] if channel == "market_trades" else []
        return [*first, self._said("subscriptions", now_ns, {"subscriptions": {x: known[x] for x in names}})]

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:
        return [self._told("update", trades, now_ns)] if trades else []

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        ticker = {
            "type": "ticker",
            "product_id": self.symbol,
            "price": text(bid),
            "volume_24_h": "2867.54532609",
            "best_bid": text(bid),
            "best_ask": text(ask),
            "best_bid_quantity": "0.20371215",
            "best_ask_quantity": "0.24290402",
        }
        return [self._said("ticker", now_ns, {"type": "update", "tickers": [ticker]})]

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        at = datetime.fromtimestamp(now_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
        beat = {"current_time": f"{at}.854840045 +0000 UTC m=+41691.260485341", "heartbeat_counter": 41_691}
        return [self._said("heartbeats", now_ns, beat)]

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        product = f"/api/v3/brokerage/market/products/{self.symbol}"
        if path == product:
            return 200, json.dumps(self._product()).encode()
        if path != f"{product}/ticker":
            return 404, b'{"error":"NOT_FOUND","error_details":"no such product","message":"no such product"}'
        if "limit" not in query:
            return 400, b'{"error":"INVALID_ARGUMENT","message":"limit is required"}'
        start_ns, end_ns = (int(query.get(k, d)) * NS_PER_S for k, d in (("start", 0), ("end", 2**40)))
        inside = [x for x in tape if start_ns <= x.ts_ns < end_ns][-min(int(query["limit"]), MAX_LIMIT) :]
        rows = [self._row(x) | {"bid": "", "ask": "", "exchange": "coinbase"} for x in reversed(inside)]
        return 200, json.dumps({"trades": rows, "best_bid": "68923.66", "best_ask": "68923.67"}).encode()

    def _row(self, trade: FakeTrade) -> dict[str, object]:
        return {
            "product_id": self.symbol,
            "trade_id": str(self.trade_id(trade.number)),
            "price": text(trade.price),
            "size": text(trade.size),
            "time": shortest(trade.ts_ns),
            "side": MAKER[trade.side],
        }

    def _told(self, kind: str, trades: Sequence[FakeTrade], now_ns: int) -> str:
        rows = [self._row(x) for x in sorted(trades, key=lambda x: -x.number)]
        return self._said("market_trades", now_ns, {"type": kind, "trades": rows})

    def _said(self, channel: str, now_ns: int, event: Mapping[str, object]) -> str:
        about = {"channel": channel, "timestamp": shortest(now_ns), "sequence_num": next(self._sequence)}
        return json.dumps(about | {"events": [event]})

    def _product(self) -> dict[str, object]:
        return {
            "product_id": self.symbol,
            "price": "65086.18",
            "base_increment": "0.00000001",
            "quote_increment": "0.01",
            "is_disabled": False,
            "status": "online",
            "cancel_only": False,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": False,
            "auction_mode": False,
            "product_type": "SPOT",
            "alias": "",
            "alias_to": ["BTC-USDC"],
            "view_only": False,
            "price_increment": "0.01",
            "product_venue": "CBE",
        }


def shortest(ts_ns: int) -> str:
    """Write a time as the venue does: as many digits of the second as are not 0 at its end."""
    seconds, fraction_ns = divmod(ts_ns, NS_PER_S)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{fraction_ns:09d}".rstrip("0").rstrip(".") + "Z"
