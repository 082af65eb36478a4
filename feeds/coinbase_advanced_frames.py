"""Frames of Coinbase Advanced Trade: trades, quotes, heartbeats and what else comes. Pure.

Source: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket (crawled 2026-06), and frames of
2026-08, which say more.

- `side` is the maker's, say the documents, and so do the recorded quotes.
- Trades come newest first: a snapshot of the last 100 upon subscribing, then what 250 ms brought.
- `sequence_num` is said to count per product; recorded, it counted all messages of the connection. It needs a
  memory for each connection, which a parser is not to have, and `trade_id`, which rises by one per product,
  tells all that it could tell of trades but one thing: that the last one was lost while none follows it. The
  next trade or the next connection's snapshot shows that. A lost quote or heartbeat is replaced by the next.
- Heartbeats name no product and no trade.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from feeds.coinbase_frames import refusal
from feeds.frames import (
    BAD_JSON,
    Fields,
    Item,
    Positive,
    Seen,
    Trade,
    TradeId,
    cut,
    decoded,
    field,
    fields,
    judge_symbol,
    sort_out,
)
from feeds.rfc3339 import to_ns
from feeds.venue import Notice, Parsed
from market.inputs import Quote

TAKER = {"BUY": -1, "SELL": 1, "": 0}  # by the side of the maker


class _Fill(Struct, gc=False):
    product_id: str
    trade_id: TradeId
    price: Positive
    size: Positive
    side: Literal["BUY", "SELL"]
    time: str


class _Fills(Struct):
    trades: list[_Fill]


class _MarketTrades(Struct, tag_field="channel", tag="market_trades"):
    timestamp: str
    events: list[_Fills]


class _Best(Struct, gc=False):
    product_id: str
    best_bid: Positive
    best_bid_quantity: Positive
    best_ask: Positive
    best_ask_quantity: Positive


class _Bests(Struct):
    tickers: list[_Best]


class _Ticker(Struct, tag_field="channel", tag="ticker"):
    timestamp: str
    events: list[_Bests]


class _Heartbeats(Struct, tag_field="channel", tag="heartbeats"):
    timestamp: str


_Message: TypeAlias = _MarketTrades | _Ticker | _Heartbeats
_decode = msgspec.json.Decoder(_Message, strict=False).decode  # not strict: numbers come as text
_FILL: Fields = (
    ("product_id", "symbol", str),
    ("trade_id", "id", TradeId),
    ("price", "price", Positive),
    ("size", "size", Positive),
    ("side", "side", Literal["BUY", "SELL"]),
    ("time", "time", str),
)
_BEST: Fields = (
    ("product_id", "symbol", str),
    ("best_bid", "bid price", Positive),
    ("best_bid_quantity", "bid size", Positive),
    ("best_ask", "ask price", Positive),
    ("best_ask_quantity", "ask size", Positive),
)


def parse(frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
    """Read frames of one product. Never raises."""
    return sort_out(frames, received_ns, partial(_read, symbol))


def _read(symbol: str, raw: bytes, received_ns: int) -> list[Item]:
    try:
        message: _Message | Notice = _decode(raw)
    except BAD_JSON:
        message = _told(decoded(raw), symbol)
    if isinstance(message, Notice):
        return [message]
    at_ns = to_ns(message.timestamp)
    items: list[Item] = []
    if isinstance(message, _MarketTrades):
        items += _trades(message, symbol)
    elif isinstance(message, _Ticker):
        items += _quotes(message, symbol, at_ns, received_ns)
    return [Seen(at_ns), *(items or [Notice("alive")])]


def _trades(message: _MarketTrades, symbol: str) -> list[Trade]:
    """Give the trades of a frame in order of time and id."""
    trades = []
    for x in (trade for event in message.events for trade in event.trades):
        judge_symbol(x.product_id, symbol)
        trades.append(Trade(x.trade_id, to_ns(x.time), x.price, x.size, TAKER[x.side]))
    return sorted(trades, key=lambda x: (x.ts_ns, x.id))


def _quotes(message: _Ticker, symbol: str, at_ns: int, received_ns: int) -> list[Quote]:
    quotes = []
    for x in (ticker for event in message.events for ticker in event.tickers):
        judge_symbol(x.product_id, symbol)
        bid, ask = (x.best_bid, x.best_bid_quantity), (x.best_ask, x.best_ask_quantity)
        quotes.append(Quote(at_ns, *bid, *ask, received_ns))
    return quotes


def _told(body: dict[str, Any], symbol: str) -> _Message | Notice:
    """Read what was decoded without a schema; raises BadFrame naming the field that is wrong."""
    if body.get("type") == "error":
        return refusal(body)
    kind = field(body, "channel", "channel", str)
    if kind == "subscriptions":
        granted = [field(x, "subscriptions", "subscriptions", dict[str, list[str]]) for x in _events(body)]
        trades = any(symbol in x.get("market_trades", ()) for x in granted)
        return Notice("subscribed" if trades else "alive")
    if kind not in {"market_trades", "ticker", "heartbeats"}:
        return Notice("unknown", cut(kind))
    return _named(kind, field(body, "timestamp", "timestamp", str), body)


def _named(kind: str, timestamp: str, body: dict[str, Any]) -> _Message | Notice:
    if kind == "heartbeats":
        return _Heartbeats(timestamp)
    if kind == "market_trades":
        return _MarketTrades(timestamp, [_Fills([_Fill(**x) for x in _rows(body, "trades", _FILL)])])
    if any(row.get(key) in (None, "") for row in _raw_rows(body, "tickers") for key, *_ in _BEST):
        return Notice("unknown", "ticker without bid or ask")  # a side of the book is empty
    return _Ticker(timestamp, [_Bests([_Best(**x) for x in _rows(body, "tickers", _BEST)])])


def _rows(body: dict[str, Any], name: str, wanted: Fields) -> list[dict[str, Any]]:
    return [fields(row, wanted) for row in _raw_rows(body, name)]


def _raw_rows(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for event in _events(body) for row in field(event, name, name, list[dict[str, Any]])]


def _events(body: dict[str, Any]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = field(body, "events", "events", list[dict[str, Any]])
    return events
