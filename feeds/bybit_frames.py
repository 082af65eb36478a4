"""Frames of Bybit v5, spot and linear: what each says. Pure, and without memory of the frames before.

Sources: github.com/bybit-exchange/docs (2026-07), docs/v5/websocket: wss-authentication.mdx, public/trade.mdx
and public/orderbook.mdx; spot's messages and linear's differ in the order of their keys and in their ids.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from feeds.frames import (
    BAD_JSON,
    Item,
    Positive,
    Seen,
    Time,
    Trade,
    converted,
    cut,
    decoded,
    judge_symbol,
    judge_time,
)
from feeds.venue import Notice
from market.errors import BadFrame
from market.inputs import Quote
from market.times import NS_PER_MS

TRADES, BOOK = "publicTrade.", "orderbook.1."
SIDES = {"Buy": 1, "Sell": -1}  # of the taker

SpotId = Annotated[int, Meta(ge=0, le=2**63 - 1)]
LinearId = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z-]{1,64}\Z")]
Side: TypeAlias = Literal["Buy", "Sell"]
_Id = TypeVar("_Id")
_Size = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]  # 0: nothing is left at this price


class _Row(Struct, Generic[_Id], gc=False):
    T: Time
    s: str
    S: Side
    v: Positive
    p: Positive
    i: _Id


class _Trades(Struct, Generic[_Id], gc=False):
    topic: str
    ts: Time
    data: list[_Row[_Id]]


class _Level(Struct, array_like=True, gc=False):
    price: Positive
    size: _Size


class _Sides(Struct, gc=False):
    s: str
    b: list[_Level] = []
    a: list[_Level] = []


class _Book(Struct, gc=False):
    topic: str
    ts: Time
    data: _Sides
    cts: Time = 0  # the matching engine's, which is the clock of the trades


_AnyTrades: TypeAlias = _Trades[SpotId] | _Trades[LinearId]
_KINDS: dict[str, type[_AnyTrades]] = {"spot": _Trades[SpotId], "linear": _Trades[LinearId]}
_decode_trades = {name: msgspec.json.Decoder(kind, strict=False).decode for name, kind in _KINDS.items()}
_decode_book = msgspec.json.Decoder(_Book, strict=False).decode
_TRADES, _BOOK = (f'"{topic}'.encode() for topic in (TRADES, BOOK))  # hints, which save a try


class Reader:
    """Read frames of one symbol of a category, `spot` or `linear`."""

    def __init__(self, category: str, symbol: str) -> None:
        self._symbol = symbol
        self._trades_topic, self._book_topic = TRADES + symbol, BOOK + symbol
        self._kind, self._decode = _KINDS[category], _decode_trades[category]

    def read(self, raw: bytes, received_ns: int) -> Iterable[Item]:
        """Say what a frame holds; raises BadFrame."""
        try:
            if _TRADES in raw and (trades := self._decode(raw)).topic == self._trades_topic:
                return self._trades(trades)
            if _BOOK in raw and (book := _decode_book(raw)).topic == self._book_topic:
                return self._quote(book, received_ns)
        except BAD_JSON:
            pass  # it is something else, or what is wrong with it is named below
        return self._named(decoded(raw), received_ns)

    def _named(self, body: dict[str, Any], received_ns: int) -> Iterable[Item]:
        if "topic" not in body:
            return [_reply(body)]
        topic = body["topic"]
        if not isinstance(topic, str):
            raise BadFrame(f"topic {cut(topic)}", b"")
        if topic == self._trades_topic:
            return self._trades(converted(body, self._kind, "trade"))
        if topic == self._book_topic:
            return self._quote(converted(body, _Book, "book"), received_ns)
        if topic.startswith((TRADES, BOOK)):
            raise BadFrame(f"topic {cut(topic)}", b"")
        return [Notice("unknown", cut(topic))]

    def _trades(self, frame: _AnyTrades) -> Iterable[Item]:
        """Give all trades; they come in order of their time, up to 1,024 in a message."""
        for row in frame.data:
            judge_symbol(row.s, self._symbol)
        seen = Seen(frame.ts * NS_PER_MS)
        if not frame.data:
            return [Notice("alive", "no trades"), seen]
        return [*[Trade(x.i, x.T * NS_PER_MS, x.p, x.v, SIDES[x.S]) for x in frame.data], seen]

    def _quote(self, frame: _Book, received_ns: int) -> Iterable[Item]:
        """Read the one level of each side.

        The documents promise whole snapshots at this depth. Should a delta come all the same: what is left on
        a side is its best price; a message that lacks a side is no quote.
        """
        judge_symbol(frame.data.s, self._symbol)
        seen = Seen(frame.ts * NS_PER_MS)
        bids = [x for x in frame.data.b if x.size]
        asks = [x for x in frame.data.a if x.size]
        if not bids or not asks:
            return [Notice("alive", "book with one side"), seen]
        ts_ns = (frame.cts or frame.ts) * NS_PER_MS
        judge_time(ts_ns, received_ns)
        bid, ask = max(bids, key=lambda x: x.price), min(asks, key=lambda x: x.price)
        return [Quote(ts_ns, bid.price, bid.size, ask.price, ask.size, received_ns), seen]


def _reply(body: dict[str, Any]) -> Notice:
    """Read the answer to a request; that to a ping says `ping` where it comes from spot and linear."""
    op, text, answered = body.get("op"), body.get("ret_msg", ""), body.get("req_id")
    request = answered if isinstance(answered, str) and answered else None
    if body.get("success") is False:
        return Notice("refused", text[:200] if isinstance(text, str) else cut(text), request)
    if op in ("ping", "pong"):
        return Notice("alive")
    if op == "subscribe" and body.get("success") is True:
        return Notice("subscribed", id=request)
    return Notice("unknown", cut(op if isinstance(op, str) and op else ",".join(sorted(body))))
