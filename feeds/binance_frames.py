"""Frames of Binance spot: a batch of bytes to ticks, a quote, refusals and notices. Pure.

Source: github.com/binance/binance-spot-api-docs, web-socket-streams.md (2026-07).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from feeds.frames import (
    BAD_JSON,
    MAX_AHEAD_NS,
    RAW_LIMIT,
    YEAR_2009_NS,
    Fields,
    Positive,
    Time,
    TradeId,
    cut,
    field,
    fields,
    judge_symbol,
)
from feeds.venue import Notice, Parsed
from market.errors import BadFrame
from market.inputs import Quote, Rejected
from market.ticks import EMPTY, TICK, Ticks
from market.times import NS_PER_MS

_FEW = 16  # up to so many trades one array of rows is cheaper than six of columns


class _Trade(Struct, gc=False):
    e: Literal["trade"]
    E: Time
    s: str
    t: TradeId
    p: Positive
    q: Positive
    T: Time
    m: bool


class _Book(Struct, gc=False):
    s: str
    b: Positive
    B: Positive
    a: Positive
    A: Positive
    e: Literal[""] = ""  # what names a type is something else


_decode_trade = msgspec.json.Decoder(_Trade, strict=False).decode  # not strict: numbers come as text
_decode_book = msgspec.json.Decoder(_Book, strict=False).decode
_BOOK = b'{"u":'  # how the venue begins a bookTicker: only a hint, which saves a try
_TRADE: Fields = (
    ("s", "symbol", str),
    ("t", "id", TradeId),
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
    reader = _Reader(symbol, unit_ns)
    trades, times = reader.trades(frames, received_ns), received_ns
    if trades is None:
        is_other = [not reader.is_book(raw, at) for raw, at in zip(frames, received_ns, strict=True)]
        times = list(compress(received_ns, is_other))
        trades = reader.trades(list(compress(frames, is_other)), times)
    if trades is None:  # something rare is among them: once more, each by itself
        taken = [(reader.take(raw, at), at) for raw, at in zip(frames, received_ns, strict=True)]
        trades = [x for x, _ in taken if x is not None]
        times = [at for x, at in taken if x is not None]
    ticks, newest_ns = _ticks(trades, times, unit_ns), reader.newest * unit_ns
    return Parsed(ticks, reader.quote(), newest_ns, reader.rejected, reader.notices())


def _ticks(trades: Sequence[_Trade], received_ns: Sequence[int], unit_ns: int) -> Ticks:
    if len(trades) <= _FEW:
        both = zip(trades, received_ns, strict=True)
        return np.array([(x.t, x.T * unit_ns, x.p, x.q, at, -1 if x.m else 1) for x, at in both], TICK)
    ticks = np.empty(len(trades), TICK)
    ticks["trade_id"] = _array([x.t for x in trades], np.int64)
    ticks["ts_ns"] = _array([x.T for x in trades], np.int64) * unit_ns
    ticks["price"] = _array([x.p for x in trades], np.float64)
    ticks["size"] = _array([x.q for x in trades], np.float64)
    ticks["received_ns"] = _array(received_ns, np.int64)
    ticks["side"] = _array([-1 if x.m else 1 for x in trades], np.int8)
    return ticks


def _array(values: Sequence[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.fromiter(values, dtype, len(values))


class _Reader:
    """Tell a batch's frames apart; keep what is no trade, and the newest time."""

    def __init__(self, symbol: str, unit_ns: int) -> None:
        self.newest = 0  # in the venue's unit
        self.rejected: list[Rejected] = []
        self._symbol, self._unit_ns = symbol, unit_ns
        self._quote: tuple[_Book, int] | None = None
        self._notices: list[Notice] = []
        self._unknown: Counter[str] = Counter()

    def quote(self) -> Quote | None:
        if self._quote is None:
            return None
        x, received_ns = self._quote
        return Quote(0, x.b, x.B, x.a, x.A, received_ns)

    def notices(self) -> list[Notice]:
        return self._notices + [Notice("unknown", name, count=n) for name, n in self._unknown.items()]

    def trades(self, frames: Sequence[bytes], received_ns: Sequence[int]) -> list[_Trade] | None:
        """Read frames that are sound trades, every one; None if they are not."""
        try:
            trades = list(map(_decode_trade, frames))
        except BAD_JSON:
            return None
        if not trades:
            return []
        times = [x.T for x in trades]
        times += [x.E for x in trades]
        oldest, newest = min(times), max(times)
        latest = (min(received_ns) + MAX_AHEAD_NS) // self._unit_ns
        if (
            oldest < YEAR_2009_NS // self._unit_ns
            or newest > latest
            or {x.s for x in trades} != {self._symbol}
        ):
            return None
        self.newest = max(self.newest, newest)
        return trades

    def is_book(self, raw: bytes, received_ns: int) -> bool:
        """Tell whether a frame is a sound quote, of which the last one is kept."""
        if not raw.startswith(_BOOK):
            return False
        try:
            book = _decode_book(raw)
        except BAD_JSON:
            return False
        if book.s != self._symbol:
            return False
        self._quote = book, received_ns
        return True

    def take(self, raw: bytes, received_ns: int) -> _Trade | None:
        """Put a frame where it belongs; give it back if it is a sound trade."""
        if self.is_book(raw, received_ns):
            return None
        if trades := self.trades((raw,), (received_ns,)):
            return trades[0]
        try:
            return self._read(_body(raw), received_ns)
        except BadFrame as bad:
            self.rejected.append(Rejected(received_ns, bad.reason, bytes(raw[:RAW_LIMIT])))
            return None

    def _read(self, body: dict[str, Any], received_ns: int) -> _Trade | None:
        """Read what was decoded without a schema, field by field; raise BadFrame naming the wrong one."""
        latest = (received_ns + MAX_AHEAD_NS) // self._unit_ns
        kind = body.get("e", "bookTicker" if body.keys() >= {"b", "a"} else "")
        if kind == "trade":
            trade = _Trade("trade", **self._fields(body, _TRADE))
            self._judge_time(trade.T, latest)
            self._judge_time(trade.E, latest)
            self.newest = max(self.newest, trade.T, trade.E)
            return trade
        if kind == "bookTicker":
            self._quote = _Book(**self._fields(body, _QUOTE)), received_ns
            return None
        if "E" in body:
            at = field(body, "E", "event time", int)
            self._judge_time(at, latest)
            self.newest = max(self.newest, at)
        self._note(kind, body)
        return None

    def _fields(self, body: dict[str, Any], wanted: Fields) -> dict[str, Any]:
        out = fields(body, wanted)
        judge_symbol(out["s"], self._symbol)
        return out

    def _judge_time(self, at: int, latest: int) -> None:
        if at < YEAR_2009_NS // self._unit_ns:
            raise BadFrame("time before 2009", b"")
        if at > latest:
            raise BadFrame("time in the far future", b"")

    def _note(self, kind: object, body: dict[str, Any]) -> None:
        if not isinstance(kind, str):
            raise BadFrame(f"type {cut(kind)}", b"")
        told = notice(kind, body)
        if told.kind == "unknown":
            self._unknown[told.text] += 1
        else:
            self._notices.append(told)


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


def notice(kind: str, body: dict[str, Any]) -> Notice:
    """Read what is neither a trade nor a quote; `kind` is its type, "" for the answer to a request.

    A shutdown is documented for the spot market only; it costs nothing to understand it elsewhere.
    """
    error, answered = body.get("error", body), body.get("id")
    request = answered if isinstance(answered, int | str) else None
    if kind == "serverShutdown":
        return Notice("shutdown")
    if not kind and "result" in body and body["result"] is None:
        return Notice("subscribed", id=request)
    if not kind and isinstance(error, dict) and "code" in error:
        code, text = error["code"], error.get("msg")
        told = text[:200] if isinstance(text, str) else ""
        return Notice("refused", told, request, code if isinstance(code, int) else 0)
    return Notice("unknown", cut(kind or ",".join(sorted(body))))
