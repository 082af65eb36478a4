# ruff: noqa: ARG002 - every dialect has the same methods
"""Coinbase Exchange's end of its protocol, by docs.cdp.coinbase.com/exchange and frames recorded in 2021."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from feeds.coinbase import VENUE
from feeds.venue import Venue
from tests.feeds.dialect import FakeTrade

FIRST_ID = 978_694_000
MAX_LIMIT = 1_000
MAKER = {1: "sell", -1: "buy"}  # by the taker's side


@dataclass
class CoinbaseDialect:
    """Says `matches`, `ticker` and `heartbeat`; its REST pages go from new to old."""

    venue: Venue = VENUE
    symbol: str = "BTC-USD"

    def trade_id(self, number: int) -> int:
        return FIRST_ID + number

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        """Grant a subscription; as recorded, its `last_match` comes before the grant."""
        request = json.loads(message)
        products, names = request.get("product_ids", []), request.get("channels", [])
        if request.get("type") != "subscribe" or not names:
            return [_refused("No channels provided")]
        if products != [self.symbol]:
            return [_refused(f"{','.join(products)} is not a valid product")]
        granted = [{"name": name, "product_ids": products} for name in names]
        last = [self._match(tape[-1], "last_match")] if tape and "matches" in names else []
        return [*last, json.dumps({"type": "subscriptions", "channels": granted})]

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:
        return [self._match(trade, "match") for trade in trades]

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        ticker = {
            "type": "ticker",
            "sequence": 37_475_248_783,
            "product_id": self.symbol,
            "price": text(bid),
            "open_24h": "1310.79",
            "volume_24h": "245532.79269678",
            "best_bid": text(bid),
            "best_bid_size": "0.46688654",
            "best_ask": text(ask),
            "best_ask_size": "1.56637040",
            "side": "sell",
            "time": micros(now_ns),
            "last_size": "11.4396987",
        }
        return [json.dumps(ticker)]

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        beat = {
            "type": "heartbeat",
            "last_trade_id": self.trade_id(tape[-1].number) if tape else 0,
            "product_id": self.symbol,
            "sequence": 90,
            "time": micros(now_ns),
        }
        return [json.dumps(beat)]

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        if path == f"/products/{self.symbol}":
            return 200, json.dumps(self._product()).encode()
        if path != f"/products/{self.symbol}/trades":
            return 404, b'{"message":"NotFound"}'
        limit = min(int(query.get("limit", MAX_LIMIT)), MAX_LIMIT)
        older = [x for x in tape if self.trade_id(x.number) < int(query.get("after", 2**62))]
        rows = [self._row(x) for x in reversed(older[-limit:])]
        return 200, json.dumps(rows).encode()

    def _row(self, trade: FakeTrade) -> dict[str, object]:
        return {
            "time": micros(trade.ts_ns),
            "trade_id": self.trade_id(trade.number),
            "price": text(trade.price),
            "size": text(trade.size),
            "side": MAKER[trade.side],
        }

    def _match(self, trade: FakeTrade, kind: str) -> str:
        orders = {
            "maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8",
            "taker_order_id": "132fb6ae-456b-4654-b4e0-d681ac05cea1",
        }
        more = {"product_id": self.symbol, "sequence": 50 + 7 * trade.number}
        return json.dumps({"type": kind} | orders | self._row(trade) | more)

    def _product(self) -> dict[str, object]:
        return {
            "id": self.symbol,
            "base_currency": "BTC",
            "quote_currency": "USD",
            "quote_increment": "0.01",
            "base_increment": "0.00000001",
            "display_name": self.symbol,
            "min_market_funds": "1",
            "margin_enabled": False,
            "post_only": False,
            "limit_only": False,
            "cancel_only": False,
            "status": "online",
            "status_message": "",
            "trading_disabled": False,
            "fx_stablecoin": False,
            "max_slippage_percentage": "0.02000000",
            "auction_mode": False,
            "high_bid_limit_percentage": "",
        }


def _refused(reason: str) -> str:
    return json.dumps({"type": "error", "message": "Failed to subscribe", "reason": reason})


def text(number: float) -> str:
    return format(Decimal(repr(number)), "f")


def micros(ts_ns: int) -> str:
    seconds, fraction_ns = divmod(ts_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{fraction_ns // 1_000:06d}Z"
