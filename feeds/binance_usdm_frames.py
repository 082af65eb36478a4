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

import msgspec
from msgspec import Struct

from feeds.binance_frames import notice
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
from feeds.venue import Parsed
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
_TRADE: Fields = (
    ("s", "symbol", str),
    ("a", "id", TradeId),
    ("p", "price", Positive),
    ("q", "size", Positive),
    ("T", "time", int),
    ("E", "event time", int),
    ("m", "side", bool),
)
_QUOTE: Fields = (
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
    judge_symbol(frame.s, symbol)
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
        return _items(symbol, _AggTrade(**fields(body, _TRADE)), received_ns)
    if kind == "bookTicker":
        return _items(symbol, _Book(**fields(body, _QUOTE)), received_ns)
    if not isinstance(kind, str):
        raise BadFrame(f"type {cut(kind)}", b"")
    told = [Seen(field(body, "E", "event time", int) * NS_PER_MS)] if "E" in body else []
    return [notice(kind, body), *told]
