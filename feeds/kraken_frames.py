"""Frames of Kraken spot's websocket v2: what each says. Pure, and without memory of the frames before.

Sources: docs.kraken.com, spot websocket v2 (2026-06): trade, ticker, status, heartbeat, ping and overview.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from feeds.frames import (
    BAD_JSON,
    Item,
    Positive,
    Seen,
    Trade,
    TradeId,
    converted,
    cut,
    decoded,
    judge_symbol,
    judge_time,
)
from feeds.rfc3339 import to_ns
from feeds.venue import Notice
from market.errors import BadFrame
from market.inputs import Quote

_Level = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)] | None  # nothing, or 0: an empty side


class _Row(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]  # of the taker
    price: Positive
    qty: Positive
    trade_id: TradeId
    timestamp: str


class _Trades(Struct, gc=False):
    channel: Literal["trade"]
    data: list[_Row]


class _Top(Struct, gc=False):
    symbol: str
    bid: _Level = None
    bid_qty: _Level = None
    ask: _Level = None
    ask_qty: _Level = None
    timestamp: str | None = None  # the documents have it since 2026


class _Ticker(Struct, gc=False):
    channel: Literal["ticker"]
    data: list[_Top]


_decode_trades = msgspec.json.Decoder(_Trades, strict=False).decode  # prices are numbers, text would do
_decode_ticker = msgspec.json.Decoder(_Ticker, strict=False).decode


class Reader:
    """Read frames of one symbol, in the venue's spelling, as BTC/USD."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol

    def read(self, raw: bytes, received_ns: int) -> Iterable[Item]:
        """Say what a frame holds; raises BadFrame."""
        try:  # what stands anywhere in the frame is only a hint, which saves a try
            if b'"trade"' in raw:
                return self._trades(_decode_trades(raw))
            if b'"ticker"' in raw:
                return self._quote(_decode_ticker(raw), received_ns)
        except BAD_JSON:
            pass  # it is something else, or what is wrong with it is named below
        return self._named(decoded(raw), received_ns)

    def _named(self, body: dict[str, Any], received_ns: int) -> Iterable[Item]:
        if "channel" not in body:
            return _reply(body)
        channel = body["channel"]
        if channel == "trade":
            return self._trades(converted(body, _Trades, "trade"))
        if channel == "ticker":
            return self._quote(converted(body, _Ticker, "ticker"), received_ns)
        if channel == "heartbeat":
            return [Notice("alive")]
        if channel == "status":
            return [Notice("alive", _system(body))]
        if not isinstance(channel, str):
            raise BadFrame(f"channel {cut(channel)}", b"")
        return [Notice("unknown", cut(channel))]

    def _trades(self, frame: _Trades) -> Iterable[Item]:
        """Give all trades by their id, a snapshot's 50 like an update's; a market may have had none yet."""
        for row in frame.data:
            judge_symbol(row.symbol, self._symbol)
        rows = sorted(frame.data, key=lambda x: x.trade_id)
        trades = [
            Trade(x.trade_id, to_ns(x.timestamp), x.price, x.qty, 1 if x.side == "buy" else -1) for x in rows
        ]
        return trades or [Notice("alive", "no trades")]

    def _quote(self, frame: _Ticker, received_ns: int) -> Iterable[Item]:
        """Read the top of the book; what an empty side looks like is not documented."""
        for top in frame.data:
            judge_symbol(top.symbol, self._symbol)
        top = frame.data[-1] if frame.data else _Top(self._symbol)
        ts_ns = to_ns(top.timestamp) if top.timestamp else 0
        if ts_ns:
            judge_time(ts_ns, received_ns)
        if not (top.bid and top.bid_qty and top.ask and top.ask_qty):
            return [Notice("alive", "ticker with one side"), *([Seen(ts_ns)] if ts_ns else [])]
        return [Quote(ts_ns, top.bid, top.bid_qty, top.ask, top.ask_qty, received_ns)]


def _reply(body: dict[str, Any]) -> Iterable[Item]:
    """Read the answer to a request; a refusal need not say which."""
    method, answered = body.get("method"), body.get("req_id")
    request = answered if isinstance(answered, int) else None
    if body.get("success") is False or "error" in body:
        text = body.get("error", "")
        return [Notice("refused", text[:200] if isinstance(text, str) else cut(text), request)]
    if method == "pong":
        return [Notice("alive"), *_sent(body)]
    if method == "subscribe" and body.get("success") is True:
        return [Notice("subscribed", id=request), *_sent(body)]
    return [Notice("unknown", cut(method if isinstance(method, str) and method else ",".join(sorted(body))))]


def _sent(body: dict[str, Any]) -> Iterable[Seen]:
    """Read when an answer left the venue, where it says so."""
    text = body.get("time_out")
    try:
        return [Seen(to_ns(text))] if isinstance(text, str) else []
    except BadFrame:  # the answer counts, with or without its time
        return []


def _system(body: dict[str, Any]) -> str:
    """Name the state of the trading engine: online, cancel_only, maintenance or post_only."""
    data = body.get("data")
    first = data[0] if isinstance(data, list) and data else None
    return cut(first.get("system", "")) if isinstance(first, dict) else ""
