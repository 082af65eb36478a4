"""Frames of Binance spot: a batch of bytes to ticks, a quote, refusals and notices. Pure.

Source: github.com/binance/binance-spot-api-docs, web-socket-streams.md (2026-07).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta, Struct

from market.errors import BadFrame
from market.inputs import Quote, Rejected
from market.ticks import EMPTY, TICK, Ticks
from market.times import DAY_NS, NS_PER_MS

RAW_LIMIT = 1024
YEAR_2009_NS = 1_230_768_000_000_000_000


@dataclass(frozen=True, slots=True)
class Notice:
    """What a message other than a trade or a quote says.

    `kind` is `subscribed` (`id` was answered with null), `refused` (`code`, `text`), `shutdown` (the server
    will close soon) or `unknown` (`text` names the type, `count` how many of it).
    """

    kind: str
    text: str = ""
    id: int | str | None = None
    code: int = 0
    count: int = 1

    @property
    def subscribed(self) -> bool:
        return self.kind == "subscribed"


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """A batch of frames; ticks in order of arrival, the latest quote, the largest time the venue named."""

    ticks: Ticks
    quote: Quote | None
    venue_time_ns: int
    rejected: list[Rejected]
    notices: list[Notice]


TradeId = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[float, Meta(gt=0.0, le=sys.float_info.max)]  # keeps NaN and infinity out, too


class _Payload(Struct, gc=False):
    """A trade or a bookTicker; a missing field takes a value that no check lets pass."""

    e: str = ""
    E: int = 0
    s: str = ""
    t: TradeId = -1
    p: Positive = 0.0
    q: Positive = 0.0
    T: int = 0
    m: bool | None = None
    b: float = 0.0  # in old captures a trade has the two orders' ids in b and a
    B: float = 0.0
    a: float = 0.0
    A: float = 0.0


class _Frame(_Payload, gc=False):
    """A raw payload, or a combined one with the payload in `data`."""

    data: _Payload | None = None


_decode = msgspec.json.Decoder(_Frame, strict=False).decode  # not strict: numbers come as text
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Fields: TypeAlias = tuple[tuple[str, str, Any], ...]
_TRADE: _Fields = (
    ("s", "symbol", str),
    ("t", "id", TradeId),
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
)


def parse(
    frames: Sequence[bytes],
    received_ns: Sequence[int],
    symbol: str,
    unit_ns: int = NS_PER_MS,
) -> Parsed:
    """Read frames of one symbol's streams; `unit_ns` is 1,000 where `timeUnit=MICROSECOND` was asked for.

    Never raises: each frame is a tick, a quote, a Rejected or part of a Notice, whatever its neighbours are.
    """
    if not frames:
        return Parsed(EMPTY, None, 0, [], [])
    payloads = [frame.data or frame for frame in _decode_all(frames)]
    earliest, latest = YEAR_2009_NS // unit_ns, (min(received_ns) + DAY_NS) // unit_ns
    sound = [
        x.e == "trade"
        and x.s == symbol
        and x.t >= 0
        and x.p > 0.0
        and x.q > 0.0
        and earliest <= x.T <= latest
        and earliest <= x.E <= latest
        and x.m is not None
        for x in payloads
    ]
    rest = _Rest(symbol, unit_ns)
    trades, times = payloads, received_ns
    if not all(sound):
        taken = [
            x if ok else rest.take(x, raw, at)
            for ok, x, raw, at in zip(sound, payloads, frames, received_ns, strict=True)
        ]
        trades = [x for x in taken if x is not None]
        times = [at for x, at in zip(taken, received_ns, strict=True) if x is not None]
    ticks, newest = _ticks(trades, times)
    ticks["ts_ns"] *= unit_ns
    newest = max(newest, rest.newest) * unit_ns
    return Parsed(ticks, rest.quote(), newest, rest.rejected, rest.notices())


def _decode_all(frames: Sequence[bytes]) -> list[_Frame]:
    try:
        return list(map(_decode, frames))
    except BAD_JSON:
        return list(map(_decode_one, frames))


def _decode_one(raw: bytes) -> _Frame:
    """Give an empty frame for a bad one: it is judged later, with its reason."""
    try:
        return _decode(raw)
    except BAD_JSON:
        return _Frame()


def _ticks(trades: Sequence[_Payload], received_ns: Sequence[int]) -> tuple[Ticks, int]:
    """Build the array, its times still in the venue's unit, and give the largest time."""
    ticks = np.empty(len(trades), TICK)
    if not trades:
        return ticks, 0
    ticks["trade_id"] = [x.t for x in trades]
    ticks["ts_ns"] = times = [x.T for x in trades]
    ticks["price"] = [x.p for x in trades]
    ticks["size"] = [x.q for x in trades]
    ticks["received_ns"] = received_ns
    ticks["side"] = [-1 if x.m else 1 for x in trades]
    return ticks, max(*times, *[x.E for x in trades])


class _Rest:
    """Take what is no plainly sound trade: quotes, notices, refusals."""

    def __init__(self, symbol: str, unit_ns: int) -> None:
        self.newest = 0  # in the venue's unit
        self.rejected: list[Rejected] = []
        self._symbol, self._unit_ns = symbol, unit_ns
        self._quote: tuple[_Payload, int] | None = None
        self._notices: list[Notice] = []
        self._unknown: Counter[str] = Counter()

    def quote(self) -> Quote | None:
        if self._quote is None:
            return None
        x, received_ns = self._quote
        return Quote(0, x.b, x.B, x.a, x.A, received_ns)

    def notices(self) -> list[Notice]:
        return self._notices + [Notice("unknown", name, count=n) for name, n in self._unknown.items()]

    def take(self, x: _Payload, raw: bytes, received_ns: int) -> _Payload | None:
        """Put a frame where it belongs; give it back if it is a sound trade after all."""
        if not x.e and x.s == self._symbol and _two_sided(x):
            self._quote = x, received_ns
            return None
        try:
            return self._read(_body(raw), received_ns)
        except BadFrame as bad:
            self.rejected.append(Rejected(received_ns, bad.reason, bytes(raw[:RAW_LIMIT])))
            return None

    def _read(self, body: dict[str, Any], received_ns: int) -> _Payload | None:
        """Read what was decoded without a schema, field by field; raise BadFrame naming the wrong one."""
        latest = (received_ns + DAY_NS) // self._unit_ns
        kind = body.get("e", "bookTicker" if body.keys() >= {"b", "a"} else "")
        if kind == "trade":
            trade = _Payload(kind, **self._fields(body, _TRADE))
            self._judge_time(trade.T, latest)
            self._judge_time(trade.E, latest)
            return trade
        if kind == "bookTicker":
            self._quote = _Payload(**self._fields(body, _QUOTE)), received_ns
            return None
        if "E" in body:
            at = _field(body, "E", "event time", int)
            self._judge_time(at, latest)
            self.newest = max(self.newest, at)
        self._note(kind, body)
        return None

    def _fields(self, body: dict[str, Any], fields: _Fields) -> dict[str, Any]:
        out = {key: _field(body, key, name, kind) for key, name, kind in fields}
        if out["s"] != self._symbol:
            raise BadFrame(f"symbol {cut(out['s'])}", b"")
        return out

    def _judge_time(self, at: int, latest: int) -> None:
        if at < YEAR_2009_NS // self._unit_ns:
            raise BadFrame("time before 2009", b"")
        if at > latest:
            raise BadFrame("time in the far future", b"")

    def _note(self, kind: object, body: dict[str, Any]) -> None:
        error = body.get("error", body)
        if not isinstance(kind, str):
            raise BadFrame(f"type {cut(kind)}", b"")
        if kind == "serverShutdown":
            self._notices.append(Notice("shutdown"))
        elif not kind and "result" in body and body["result"] is None:
            self._notices.append(Notice("subscribed", id=_id(body)))
        elif not kind and isinstance(error, dict) and "code" in error:
            code, text = refusal(error)
            self._notices.append(Notice("refused", text, _id(body), code))
        else:
            self._unknown[cut(kind or ",".join(sorted(body)))] += 1


def _two_sided(x: _Payload) -> bool:
    return 0.0 < x.b < inf and 0.0 < x.B < inf and 0.0 < x.a < inf and 0.0 < x.A < inf


def _body(raw: bytes) -> dict[str, Any]:
    """Decode without a schema, out of its envelope."""
    try:
        body = msgspec.json.decode(raw)
    except BAD_JSON as error:
        raise BadFrame(f"not JSON: {error}", b"") from error
    if isinstance(body, dict) and "data" in body:
        body = body["data"]
    if not isinstance(body, dict):
        raise BadFrame("not an object", b"")
    return body


def _field(body: dict[str, Any], key: str, name: str, kind: Any) -> Any:
    if key not in body:
        raise BadFrame(f"no {name}", b"")
    try:
        return msgspec.convert(body[key], kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadFrame(f"{name} {cut(body[key])}", b"") from error


def _id(body: dict[str, Any]) -> int | str | None:
    answered = body.get("id")
    return answered if isinstance(answered, int | str) else None


def refusal(body: dict[str, Any]) -> tuple[int, str]:
    code = body.get("code")
    return code if isinstance(code, int) else 0, str(body.get("msg", ""))[:200]


def cut(value: object) -> str:
    return str(value)[:40]
