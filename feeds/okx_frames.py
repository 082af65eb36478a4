"""Frames of OKX: ticks, quotes, refusals and notices. Pure.

Source: www.okx.com/docs-v5/en (2026-06): all trades channel, tickers channel, websocket connect, subscribe,
notification, error codes.

A tick is one row of `trades-all` under its `tradeId`, which rises by one (documented by example only; the
aggregated `trades` hides ids). `side` is the taker's. `sz` is in base units for spot, else in contracts, and
so are the sizes of `tickers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from feeds.frames import (
    BAD_JSON,
    Fields,
    Item,
    Positive,
    Seen,
    Time,
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
from feeds.venue import Notice, Parsed
from market.errors import BadFrame
from market.inputs import Quote
from market.times import NS_PER_MS

TRADES = "trades-all"
QUOTES = "tickers"
_UPGRADE = "64008"


class _Trade(Struct, gc=False):
    instId: str  # noqa: N815 - the venue's names, here and below
    tradeId: TradeId  # noqa: N815
    px: Positive
    sz: Positive
    side: Literal["buy", "sell"]
    ts: Time


class _Ticker(Struct, gc=False):
    instId: str  # noqa: N815
    bidPx: Positive  # noqa: N815
    bidSz: Positive  # noqa: N815
    askPx: Positive  # noqa: N815
    askSz: Positive  # noqa: N815
    ts: Time


class _TradesArg(Struct, gc=False):
    channel: Literal["trades-all"]
    instId: str  # noqa: N815


class _TickersArg(Struct, gc=False):
    channel: Literal["tickers"]
    instId: str  # noqa: N815


class _Trades(Struct):
    arg: _TradesArg
    data: Annotated[list[_Trade], Meta(min_length=1)]


class _Tickers(Struct):
    arg: _TickersArg
    data: Annotated[list[_Ticker], Meta(min_length=1)]


_decode_trades = msgspec.json.Decoder(_Trades, strict=False).decode  # not strict: numbers come as text
_decode_tickers = msgspec.json.Decoder(_Tickers, strict=False).decode
_TRADE: Fields = (
    ("instId", "symbol", str),
    ("tradeId", "id", TradeId),
    ("px", "price", Positive),
    ("sz", "size", Positive),
    ("side", "side", Literal["buy", "sell"]),
    ("ts", "time", int),
)
_TICKER: Fields = (
    ("instId", "symbol", str),
    ("bidPx", "bid price", Positive),
    ("bidSz", "bid size", Positive),
    ("askPx", "ask price", Positive),
    ("askSz", "ask size", Positive),
    ("ts", "time", int),
)


def parse(frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
    """Read frames of one symbol's channels. Never raises."""
    return sort_out(frames, received_ns, partial(_read, symbol))


def _read(symbol: str, raw: bytes, received_ns: int) -> Iterable[Item]:
    if raw == b"pong":  # bare text, no JSON
        return (Notice("alive"),)
    try:
        if b'"trades-all"' in raw:  # only a hint, which saves a try
            told = _decode_trades(raw)
            judge_symbol(told.arg.instId, symbol)
            return _trades(symbol, told.data)
        shown = _decode_tickers(raw)
    except BAD_JSON:
        return _named(symbol, raw, received_ns)
    judge_symbol(shown.arg.instId, symbol)
    return _quotes(symbol, shown.data, received_ns)


def _trades(symbol: str, rows: list[_Trade]) -> list[Item]:
    for x in rows:
        judge_symbol(x.instId, symbol)
    if len(rows) > 1:
        rows.sort(key=lambda x: (x.ts, x.tradeId))
    return [Trade(x.tradeId, x.ts * NS_PER_MS, x.px, x.sz, 1 if x.side == "buy" else -1) for x in rows]


def _quotes(symbol: str, rows: list[_Ticker], received_ns: int) -> list[Item]:
    for x in rows:
        judge_symbol(x.instId, symbol)
        judge_time(x.ts * NS_PER_MS, received_ns)
    x = rows[-1]
    return [Quote(x.ts * NS_PER_MS, x.bidPx, x.bidSz, x.askPx, x.askSz, received_ns)]


def _named(symbol: str, raw: bytes, received_ns: int) -> Iterable[Item]:
    """Read without a schema, field by field; raise BadFrame naming the wrong one."""
    body = decoded(raw)
    arg = body.get("arg", {})
    if not isinstance(arg, dict):
        raise BadFrame(f"arg {cut(arg)}", b"")
    judge_symbol(arg.get("instId", symbol), symbol)
    if "event" in body:
        return [_event(body)]
    channel = arg.get("channel", "")
    if channel == TRADES:
        return _trades(symbol, [_Trade(**fields(row, _TRADE)) for row in _rows(body)])
    if channel == QUOTES:
        return _named_quotes(symbol, _rows(body), received_ns)
    if not isinstance(channel, str):
        raise BadFrame(f"channel {cut(channel)}", b"")
    return [Notice("unknown", cut(channel or ",".join(sorted(body))))]


def _named_quotes(symbol: str, rows: list[dict[str, Any]], received_ns: int) -> list[Item]:
    last = rows[-1]
    if "" in (last.get("bidPx"), last.get("askPx")):  # an empty side: not documented, seen by others
        judge_symbol(last.get("instId"), symbol)
        return [Seen(field(last, "ts", "time", int) * NS_PER_MS), Notice("alive")]
    return _quotes(symbol, [_Ticker(**fields(row, _TICKER)) for row in rows], received_ns)


def _rows(body: dict[str, Any]) -> list[dict[str, Any]]:
    rows = body.get("data")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadFrame(f"data {cut(rows)}", b"")
    return rows


def _event(body: dict[str, Any]) -> Notice:
    kind, text, answered = body["event"], body.get("msg"), body.get("id")
    told = text[:200] if isinstance(text, str) else ""
    request_id = answered if isinstance(answered, str) else None
    if not isinstance(kind, str):
        raise BadFrame(f"event {cut(kind)}", b"")
    if kind == "subscribe":
        return Notice("subscribed", id=request_id)
    if kind == "error":
        return Notice("refused", told, request_id, _code(body))
    if kind == "notice" and body.get("code") == _UPGRADE:  # a minute before; only /public is told, so far
        return Notice("shutdown", told, code=_code(body))
    return Notice("unknown", cut(kind))


def _code(body: dict[str, Any]) -> int:
    """Read the number of an error, which comes as text, maybe with a second one: `51008_1000`."""
    code = body.get("code")
    digits = code[:16].partition("_")[0] if isinstance(code, str) else ""
    return int(digits) if digits.isascii() and digits.isdigit() else 0
