"""Kraken spot, websocket v2: its rules, its requests and its answers. Pure; its frames are read next door.

Sources: docs.kraken.com (2026-06): spot websocket v2, REST market data (Trades, AssetPairs) and REST rate
limits, and support article 206548367 for the public ones. The addresses are wss://ws.kraken.com and
https://api.kraken.com.

The venue writes a symbol BTC/USD, which no pair's may be: here it is BTC-USD, with the names of websocket v2.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import urlencode

from msgspec import Meta, Struct

from feeds.frames import RAW_LIMIT, Positive, Trade, TradeId, answer, judge_time, sort_out, to_ticks
from feeds.kraken_frames import Reader
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.times import NS_PER_S

PAGE = 1_000
_NS_PER_US = 1_000
_WAIT_S, _MAX_WAIT_S = 10.0, 600.0
_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}  # where REST has kept older ones
_TRADING = {"online", "limit_only", "reduce_only"}
_TOO_MANY = re.compile(r"Too many requests|Rate limit exceeded|Throttled:? *(?P<until_s>[0-9]{10})?")
RULES = Rules(
    contiguous=True,  # "a sequence number, unique per book"; that it rises by one is not promised: REST tells
    pages_by_id=False,
    page_limit=PAGE,
    connects=150,
    connects_per_s=600.0,
    weight=1,
    weight_per_s=1.0,  # of each pair, for trades
    ping=json.dumps({"method": "ping"}),
    ping_every_s=20.0,  # silence of a minute ends a connection
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kraken:
    """The spot market. Quotes come from `ticker`, told at each change of the best prices: no book to keep."""

    rules: Rules = RULES

    def lines(self, symbol: str) -> tuple[Line, ...]:
        """Ask for the newest 50 trades first: they tell what was missed while not connected."""
        trades = {"channel": "trade", "symbol": [_spelled(symbol)], "snapshot": True}
        quotes = {"channel": "ticker", "symbol": [_spelled(symbol)], "event_trigger": "bbo", "snapshot": True}
        requests = [
            json.dumps({"method": "subscribe", "params": params, "req_id": number})
            for number, params in enumerate((trades, quotes), 1)
        ]
        return (Line("/v2", tuple(requests), acks=2),)

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return sort_out(frames, received_ns, Reader(_spelled(symbol)).read)

    def latest(self, symbol: str) -> Ask:
        return self._ask("Trades", symbol, count=PAGE)

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - by time
        """Ask from a microsecond earlier on: REST tells finer times, and leaves out `since` itself."""
        since = {"since": from_ns - _NS_PER_US} if from_ns > 0 else {}  # no time known: the newest
        return self._ask("Trades", symbol, count=PAGE, **since)

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:
        result = _result(body, _Body[dict[str, list[_Row] | str | int | None]], symbol, received_ns)
        tables = [x for x in result.values() if isinstance(x, list)]  # beside `last`, under a name of its own
        if len(tables) != 1:
            raise BadFrame(f"{len(tables)} tables of trades", body[:RAW_LIMIT])
        rows = sorted(tables[0], key=lambda x: x.trade_id)
        return Trades(*to_ticks([(_trade(x, received_ns, body), received_ns) for x in rows]))

    def listing(self, symbol: str) -> Ask:
        return self._ask("AssetPairs", symbol)

    def parse_listing(self, body: bytes, symbol: str) -> Listing:
        pairs = list(_result(body, _Body[dict[str, _Pair]], symbol).values())
        if len(pairs) != 1:
            raise BadFrame(f"{len(pairs)} pairs", body[:RAW_LIMIT])
        return Listing(pairs[0].status, pairs[0].status in _TRADING, pairs[0].tick_size or None)

    def is_unlisted(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - the seam's shape
        try:
            return _is_unlisted(_errors(body))
        except BadFrame:
            return False

    def _ask(self, what: str, symbol: str, **more: int) -> Ask:
        pair = "".join(_REST_NAMES.get(x, x) for x in symbol.rsplit("-", 1))
        return Ask(f"/0/public/{what}?{urlencode({'pair': pair, **more})}")


VENUE = Kraken()


class _Row(Struct, array_like=True):
    price: Positive
    size: Positive
    time_s: Positive
    side: Literal["b", "s"]
    kind: Any
    misc: Any
    trade_id: TradeId


class _Pair(Struct):
    status: str
    tick_size: Annotated[float, Meta(ge=0.0, le=sys.float_info.max)] = 0.0


class _Verdict(Struct):
    error: list[str] = []


class _Body(Struct, Generic[_T]):
    result: _T


def _spelled(symbol: str) -> str:
    """Write a pair's symbol as the websocket does."""
    return "/".join(symbol.rsplit("-", 1))


def _errors(body: bytes) -> str:
    """Name what is wrong, "" for nothing; what begins with W is a warning."""
    return ", ".join(x for x in answer(body, _Verdict).error if not x.startswith("W"))[:200]


def _is_unlisted(errors: str) -> bool:
    return "EQuery:" in errors and "asset pair" in errors


def _result(body: bytes, kind: type[_Body[_T]], symbol: str, now_ns: int = 0) -> _T:
    """Read the result of an answer, or raise what its errors ask for; these come with HTTP 200."""
    errors = _errors(body)
    if not errors:
        return answer(body, kind).result
    text = f"{symbol}: {errors}"
    if found := _TOO_MANY.search(errors):
        raise RateLimited(text, _wait_s(found["until_s"], now_ns))
    raise Unlisted(text) if _is_unlisted(errors) else Retryable(text)


def _wait_s(until_s: str | None, now_ns: int) -> float:
    """Tell how long to wait; a throttled client is told until when, others are for some seconds."""
    if until_s is None or not now_ns:
        return _WAIT_S
    return min(max(int(until_s) - now_ns / NS_PER_S, 1.0), _MAX_WAIT_S)


def _trade(row: _Row, received_ns: int, body: bytes) -> Trade:
    """Read a row; its time is cut to microseconds, so that it is that of the same trade on the websocket.

    The float holds what the venue wrote as its shortest text, up to 238 ns beside the venue's own time.
    """
    ts_ns = int(Decimal(repr(row.time_s)) * 1_000_000) * _NS_PER_US
    try:
        judge_time(ts_ns, received_ns)
    except BadFrame as bad:
        raise BadFrame(bad.reason, body[:RAW_LIMIT]) from bad
    return Trade(row.trade_id, ts_ns, row.price, row.size, 1 if row.side == "b" else -1)
