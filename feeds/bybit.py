"""Bybit v5, spot and linear: its rules, its requests and its answers. Pure; its frames are read next door.

Sources: github.com/bybit-exchange/docs (2026-07), docs/v5: websocket/wss-authentication.mdx,
market/recent-trade.mdx, market/instrument.mdx, rate-limit/rate-limit.mdx and error.mdx. The addresses are
wss://stream.bybit.com and https://api.bybit.com; symbols are the venue's own, as BTCUSDT.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeAlias, TypeVar
from urllib.parse import urlencode

from msgspec import Meta, Struct

from feeds.bybit_frames import BOOK, SIDES, TRADES, LinearId, Reader, Side, SpotId
from feeds.frames import (
    RAW_LIMIT,
    Positive,
    Time,
    Trade,
    answer,
    cut,
    judge_time,
    sort_out,
    to_ticks,
)
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.times import NS_PER_MS

_TOO_MANY = {10006: 5.0, 10018: 600.0}  # retCode: seconds; 10018 is documented no more
_BAD_PARAMETER, _BAD_SYMBOL = 10001, 10029


def _rules(page_limit: int) -> Rules:
    """Say what both markets have in common; a 403 asks for ten minutes without a request.

    Ids do not count: linear's are UUIDs, spot's rise by more than one. REST gives one page, the newest.
    """
    return Rules(
        contiguous=False,
        pages_by_id=False,
        page_limit=page_limit,
        connects=500,
        connects_per_s=300.0,
        weight=600,
        weight_per_s=5.0,
        ping=json.dumps({"op": "ping"}),
        ping_every_s=20.0,
        too_many={403: 600.0, 429: 60.0},
    )


@dataclass(frozen=True, slots=True)
class Bybit:
    """One market, `category` in the venue's words; sizes are in base units in both."""

    category: str
    rules: Rules

    def lines(self, symbol: str) -> tuple[Line, ...]:
        message = {"req_id": "1", "op": "subscribe", "args": [TRADES + symbol, BOOK + symbol]}
        return (Line(f"/v5/public/{self.category}", (json.dumps(message),)),)

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return sort_out(frames, received_ns, Reader(self.category, symbol).read)

    def latest(self, symbol: str) -> Ask:
        return self._ask("recent-trade", symbol, limit=self.rules.page_limit)

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - no pages
        return self.latest(symbol)

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:
        _judge(body, symbol)
        kind: type[_AnyTrades] = _Answer[_Row[SpotId]] if self.category == "spot" else _Answer[_Row[LinearId]]
        trades = [_trade(x, received_ns, symbol, body) for x in answer(body, kind).result.rows]
        return Trades(*to_ticks([(trade, received_ns) for trade in _in_order(trades)]))

    def listing(self, symbol: str) -> Ask:
        return self._ask("instruments-info", symbol)

    def parse_listing(self, body: bytes, symbol: str) -> Listing:
        """Read the answer; a linear contract before its launch is not listed, spot knows only Trading."""
        _judge(body, symbol)
        for listed in answer(body, _Answer[_Listed]).result.rows:
            if listed.symbol == symbol:
                return Listing(
                    listed.status, listed.status == "Trading", listed.price_filter.tick_size or None
                )
        raise Unlisted(f"{self.category} {symbol} is not listed")

    def is_unlisted(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - the seam's shape
        try:
            return _is_unlisted(answer(body, _Verdict))
        except BadFrame:
            return False

    def _ask(self, what: str, symbol: str, **more: int) -> Ask:
        return Ask(f"/v5/market/{what}?{urlencode({'category': self.category, 'symbol': symbol, **more})}")


SPOT = Bybit("spot", _rules(60))
LINEAR = Bybit("linear", _rules(1_000))

_T = TypeVar("_T")


class _Verdict(Struct, rename="camel"):
    ret_code: int
    ret_msg: str = ""


class _List(Struct, Generic[_T], rename={"rows": "list"}):
    rows: list[_T]


class _Answer(Struct, Generic[_T]):
    result: _List[_T]


class _Row(Struct, Generic[_T], rename="camel"):
    exec_id: _T
    symbol: str
    price: Positive
    size: Positive
    side: Side
    time: Time


_AnyTrades: TypeAlias = _Answer[_Row[SpotId]] | _Answer[_Row[LinearId]]


class _PriceFilter(Struct, frozen=True, rename="camel"):
    tick_size: Annotated[float, Meta(ge=0.0, le=sys.float_info.max)] = 0.0


class _Listed(Struct, rename="camel"):
    symbol: str
    status: str
    price_filter: _PriceFilter = _PriceFilter()


def _judge(body: bytes, symbol: str) -> None:
    """Raise what the verdict of an answer asks for; a refusal comes with HTTP 200."""
    verdict = answer(body, _Verdict)
    text = f"{symbol}: {verdict.ret_code} {verdict.ret_msg[:200]}"
    if verdict.ret_code in _TOO_MANY:
        raise RateLimited(text, _TOO_MANY[verdict.ret_code])
    if _is_unlisted(verdict):
        raise Unlisted(text)
    if verdict.ret_code:
        raise Retryable(text)


def _is_unlisted(verdict: _Verdict) -> bool:
    """Tell by code and words: a bad parameter may be another one than the symbol."""
    names_it = verdict.ret_code == _BAD_PARAMETER and "symbol" in verdict.ret_msg.lower()
    return names_it or verdict.ret_code == _BAD_SYMBOL


def _trade(row: _Row[SpotId] | _Row[LinearId], received_ns: int, symbol: str, body: bytes) -> Trade:
    if row.symbol != symbol:
        raise BadFrame(f"symbol {cut(row.symbol)}", body[:RAW_LIMIT])
    ts_ns = row.time * NS_PER_MS
    try:
        judge_time(ts_ns, received_ns)
    except BadFrame as bad:
        raise BadFrame(bad.reason, body[:RAW_LIMIT]) from bad
    return Trade(row.exec_id, ts_ns, row.price, row.size, SIDES[row.side])


def _in_order(trades: list[Trade]) -> list[Trade]:
    """Put the oldest first; the documents name no order of the list, clients find the newest first in it.

    Trades of one time are turned round with the rest; where ids are numbers, these tell.
    """
    if trades and trades[0].ts_ns >= trades[-1].ts_ns:
        trades.reverse()
    return sorted(trades, key=lambda x: (x.ts_ns, x.id if isinstance(x.id, int) else 0))
