"""Frames of Binance USD-M futures: ticks, quotes, refusals and notices. Pure.

Source: developers.binance.com, derivatives/usds-margined-futures: aggregate trade streams, individual symbol
book ticker streams, live subscribing/unsubscribing to streams (2026-05).

A tick is one aggTrade: fills of one price and one taker side within 100 ms, under the id `a`, which rises by
one. The ids `f`..`l` of the fills prove nothing: insurance fund and ADL trades have such ids and are told to
nobody, so that an `f` is not always the `l` before it plus one. `q` counts RPI fills, `nq` would not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from feeds.frames import (
    BAD_JSON,
    Item,
    Positive,
    Seen,
    Time,
    Trade,
    TradeId,
    cut,
    decoded,
    field,
    judge_time,
    sort_out,
)
from feeds.venue import Notice, Parsed
from market.errors import BadFrame
from market.inputs import Quote
from market.times import NS_PER_MS


class _AggTrade(Struct, tag_field="e", tag="aggTrade", gc=False):
    E: Time
    s: str
    a: TradeId
    p: Positive
    q: Positive
    T: Time
    m: bool


class _Book(Struct, tag_field="e", tag="bookTicker", gc=False):
    E: Time
    s: str
    T: Time
    b: Positive
    B: Positive
    a: Positive
    A: Positive


_decode = msgspec.json.Decoder(_AggTrade | _Book, strict=False).decode  # not strict: numbers come as text
_Fields: TypeAlias = tuple[tuple[str, str, Any], ...]
_TRADE: _Fields = (
    ("s", "symbol", str),
    ("a", "id", TradeId),
    ("p", "price", Positive),
    ("q", "size", Positive),
    ("T", "time", int),
    ("E", "event time", int),
    ("m", "side", bool),
)
_QUOTE: _Fields = (
    ("s", "symbol", str),
    ("b", "bid price", Positive),
    ("B", "bid size", Positive),
    ("a", "ask price", Positive),
    ("A", "ask size", Positive),
    ("T", "time", int),
    ("E", "event time", int),
)


def parse(frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
    """Read frames of one symbol's streams, raw or combined. Never raises."""
    return sort_out(frames, received_ns, partial(_read, symbol))


def _read(symbol: str, raw: bytes, received_ns: int) -> Iterable[Item]:
    try:
        frame = _decode(raw)
    except BAD_JSON:
        return _named(symbol, raw, received_ns)
    return _items(symbol, frame, received_ns)


def _items(symbol: str, frame: _AggTrade | _Book, received_ns: int) -> tuple[Item, ...]:
    if frame.s != symbol:
        raise BadFrame(f"symbol {cut(frame.s)}", b"")
    at, told = frame.T * NS_PER_MS, Seen(frame.E * NS_PER_MS)
    if isinstance(frame, _AggTrade):
        return Trade(frame.a, at, frame.p, frame.q, -1 if frame.m else 1), told
    judge_time(at, received_ns)
    return Quote(at, frame.b, frame.B, frame.a, frame.A, received_ns), told


def _named(symbol: str, raw: bytes, received_ns: int) -> Iterable[Item]:
    """Read without a schema, out of its envelope, field by field; raise BadFrame naming the wrong one."""
    body = decoded(raw)
    body = body.get("data", body)
    if not isinstance(body, dict):
        raise BadFrame("not an object", b"")
    kind = body.get("e", "")
    if kind == "aggTrade":
        return _items(symbol, _AggTrade(**_fields(body, _TRADE)), received_ns)
    if kind == "bookTicker":
        return _items(symbol, _Book(**_fields(body, _QUOTE)), received_ns)
    if not isinstance(kind, str):
        raise BadFrame(f"type {cut(kind)}", b"")
    told = [Seen(field(body, "E", "event time", int) * NS_PER_MS)] if "E" in body else []
    return [_notice(kind, body), *told]


def _fields(body: dict[str, Any], fields: _Fields) -> dict[str, Any]:
    return {key: field(body, key, name, kind) for key, name, kind in fields}


def _notice(kind: str, body: dict[str, Any]) -> Notice:
    error = body.get("error", body)
    if kind == "serverShutdown":  # documented for the spot market only; it costs nothing to understand it
        return Notice("shutdown")
    if not kind and "result" in body and body["result"] is None:
        return Notice("subscribed", id=_id(body))
    if not kind and isinstance(error, dict) and "code" in error:
        code, text = error["code"], error.get("msg")
        told = text[:200] if isinstance(text, str) else ""
        return Notice("refused", told, _id(body), code if isinstance(code, int) else 0)
    return Notice("unknown", cut(kind or ",".join(sorted(body))))


def _id(body: dict[str, Any]) -> int | str | None:
    answered = body.get("id")
    return answered if isinstance(answered, int | str) else None
