"""Frames of Coinbase Exchange: trades, quotes, heartbeats and what else comes. Pure.

Source: docs.cdp.coinbase.com/exchange/websocket-feed (channels, errors) of 2025, and frames recorded in 2021.

- The side of a `match` is the maker's: `sell` is an up-tick, so the taker bought.
- `trade_id` rises by one per product. Messages may be dropped inside a live connection, say the documents;
  `heartbeat` tells the last trade id each second, so that a loss shows even if no other trade follows it. In
  2020 it told 0 for months: that means unknown. `sequence` counts all of a product's messages, of which these
  are a part: it jumps, and is not looked at.
- A `ticker` comes with matches only, one for a cascade of them; its quote is as old as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

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
    judge_time,
    sort_out,
)
from feeds.rfc3339 import to_ns
from feeds.venue import Notice, Parsed
from market.inputs import Quote

TAKER = {"buy": -1, "sell": 1}  # by the side of the maker


class _Match(Struct, tag_field="type", tag="match", gc=False):
    trade_id: TradeId
    product_id: str
    price: Positive
    size: Positive
    side: Literal["buy", "sell"]
    time: str


class _Ticker(Struct, tag_field="type", tag="ticker", gc=False):
    product_id: str
    best_bid: Positive
    best_bid_size: Positive
    best_ask: Positive
    best_ask_size: Positive
    time: str


class _Heartbeat(Struct, tag_field="type", tag="heartbeat", gc=False):
    product_id: str
    last_trade_id: TradeId
    time: str


class _Granted(Struct):
    name: str
    product_ids: list[str] = []


_Message: TypeAlias = _Match | _Ticker | _Heartbeat
_decode = msgspec.json.Decoder(_Message, strict=False).decode  # not strict: numbers come as text
_PRODUCT = ("product_id", "symbol", str)
_TIME = ("time", "time", str)
_MATCH: Fields = (
    _PRODUCT,
    ("trade_id", "id", TradeId),
    ("price", "price", Positive),
    ("size", "size", Positive),
    ("side", "side", Literal["buy", "sell"]),
    _TIME,
)
_BEST: Fields = (
    ("best_bid", "bid price", Positive),
    ("best_bid_size", "bid size", Positive),
    ("best_ask", "ask price", Positive),
    ("best_ask_size", "ask size", Positive),
)
_KINDS: dict[str, tuple[type[_Match | _Ticker | _Heartbeat], Fields]] = {
    "match": (_Match, _MATCH),
    "last_match": (_Match, _MATCH),  # the newest trade there was when the channel was granted
    "ticker": (_Ticker, (_PRODUCT, *_BEST, _TIME)),
    "heartbeat": (_Heartbeat, (_PRODUCT, ("last_trade_id", "last id", TradeId), _TIME)),
}


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
    judge_symbol(message.product_id, symbol)
    ts_ns = to_ns(message.time)
    if isinstance(message, _Match):
        return [Trade(message.trade_id, ts_ns, message.price, message.size, TAKER[message.side])]
    if isinstance(message, _Heartbeat):
        return [Seen(ts_ns, message.last_trade_id), Notice("alive")]
    judge_time(ts_ns, received_ns)
    x = message
    return [Quote(ts_ns, x.best_bid, x.best_bid_size, x.best_ask, x.best_ask_size, received_ns)]


def _told(body: dict[str, Any], symbol: str) -> _Message | Notice:
    """Read what was decoded without a schema; raises BadFrame naming the field that is wrong."""
    kind = field(body, "type", "type", str)
    if kind == "error":
        return refusal(body)
    if kind == "subscriptions":
        granted = field(body, "channels", "channels", list[_Granted])
        trades = any(x.name == "matches" and symbol in x.product_ids for x in granted)
        return Notice("subscribed" if trades else "alive")
    if kind == "ticker" and any(body.get(key) in (None, "") for key, *_ in _BEST):
        return Notice("unknown", "ticker without bid or ask")  # as in 2021, when it told no sizes
    if kind not in _KINDS:
        return Notice("unknown", cut(kind))
    struct, wanted = _KINDS[kind]
    return struct(**fields(body, wanted))


def refusal(body: dict[str, Any]) -> Notice:
    """Read an `error`, for which `message` and maybe `reason` are documented."""
    texts = [body[key] for key in ("message", "reason") if isinstance(body.get(key), str)]
    return Notice("refused", ": ".join(texts)[:200])
