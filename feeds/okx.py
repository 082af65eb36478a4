"""OKX: its rules, its requests and its answers. Pure; its frames are read next door.

Source: www.okx.com/docs-v5/en (2026-06): websocket connect, get trades, get trades history, get instruments,
rate limits, error codes.

The symbol is the venue's `instId`: BTC-USDT (spot), BTC-USDT-SWAP or BTC-USD-260925 (futures).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, Literal, NoReturn, TypeVar
from urllib.parse import urlencode

import msgspec
import numpy as np
from msgspec import Meta, Struct

from feeds import okx_frames
from feeds.frames import MAX_AHEAD_NS, RAW_LIMIT, YEAR_2009_NS, Positive, TradeId, answer, cut
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.ticks import TICK
from market.times import NS_PER_MS

PAGE = 100
NEWEST = 500
THROTTLED_S = 5.0  # limits are of 2 s; nothing says how long one who exceeded them has to stay away
RULES = Rules(
    contiguous=True,
    pages_by_id=True,  # three months back
    page_limit=PAGE,
    connects=3,
    connects_per_s=1.0,
    weight=100,  # a request of `trades` is 1 of 100 in 2 s; those of which 20 are allowed weigh 5
    weight_per_s=2.0,
    ping="ping",
    ping_every_s=20.0,  # when it has said nothing for 30 s the venue hangs up
    too_many={429: THROTTLED_S},
)
_TOO_MANY = {"50011", "50013", "50040"}
_NO_SUCH = {"51001", "51015", "51021", "51087"}  # not there, of another type, not yet there, withdrawn
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Okx:
    """One market of OKX: one row of `trades-all` is one tick, under its `tradeId`.

    Sizes of futures are in contracts. A linear one is `ctVal` of the base; an inverse one is worth `ctVal`
    of the quote whatever the price is, and its sizes stay contracts.
    """

    market: str
    rules: Rules

    def lines(self, symbol: str) -> tuple[Line, ...]:
        trades = _line("/ws/v5/business", okx_frames.TRADES, symbol)
        return trades, _line("/ws/v5/public", okx_frames.QUOTES, symbol)

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return okx_frames.parse(frames, received_ns, symbol)

    def latest(self, symbol: str) -> Ask:
        return Ask(f"/api/v5/market/trades?{urlencode({'instId': symbol, 'limit': NEWEST})}")

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - the seam
        """Pages go backwards, `after` an id excluded: ids rise by one, so a page later is where to begin."""
        query = {"instId": symbol, "type": "1", "after": from_id + PAGE, "limit": PAGE}
        return Ask(f"/api/v5/market/history-trades?{urlencode(query)}", 5)

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:
        rows = sorted(_data(body, list[_Row]), key=lambda x: x.tradeId)
        if other := next((x.instId for x in rows if x.instId != symbol), None):
            raise BadFrame(f"symbol {cut(other)}", body[:RAW_LIMIT])
        if max((x.ts for x in rows), default=0) * NS_PER_MS > received_ns + MAX_AHEAD_NS:
            raise BadFrame("time in the far future", body[:RAW_LIMIT])
        ticks = [
            (x.tradeId, x.ts * NS_PER_MS, x.px, x.sz, received_ns, 1 if x.side == "buy" else -1) for x in rows
        ]
        return Trades(np.array(ticks, TICK))

    def listing(self, symbol: str) -> Ask:
        query = urlencode({"instType": self._type(symbol), "instId": symbol})
        return Ask(f"/api/v5/public/instruments?{query}", 5)

    def parse_listing(self, body: bytes, symbol: str) -> Listing:
        """Read what is known of the instrument; Unlisted also for one announced without its sizes."""
        listed = next((x for x in _data(body, list[_Instrument]) if x.instId == symbol), None)
        if listed is None or not listed.tickSz:
            raise Unlisted(f"OKX does not list {symbol}" + (" yet" if listed else ""))
        tick_size = _positive(listed.tickSz, "tickSz", body)
        return Listing(listed.state, listed.state == "live", tick_size, self._contract_size(listed, body))

    def is_unlisted(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - the code says it all
        try:
            return _code(answer(body, _Reply)) in _NO_SUCH
        except BadFrame:
            return False

    def _type(self, symbol: str) -> str:
        if self.market == "spot":
            return "SPOT"
        return "SWAP" if symbol.endswith("-SWAP") else "FUTURES"

    def _contract_size(self, listed: _Instrument, body: bytes) -> float:
        if self.market == "spot" or listed.ctType == "inverse":
            return 1.0
        if listed.ctType != "linear":
            raise BadFrame(f"ctType {cut(listed.ctType)}", body[:RAW_LIMIT])
        return _positive(listed.ctVal, "ctVal", body)


class _Reply(Struct):
    code: str | int
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class _Row(Struct):
    instId: str  # noqa: N815 - the venue's names, here and below
    tradeId: TradeId  # noqa: N815
    px: Positive
    sz: Positive
    side: Literal["buy", "sell"]
    ts: Annotated[int, Meta(ge=YEAR_2009_NS // NS_PER_MS, le=2**63 // NS_PER_MS)]


class _Instrument(Struct):
    instId: str  # noqa: N815
    state: str
    tickSz: str = ""  # noqa: N815
    ctType: str = ""  # noqa: N815
    ctVal: str = ""  # noqa: N815


def _line(path: str, channel: str, symbol: str) -> Line:
    args = [{"channel": channel, "instId": symbol}]
    return Line(path, (json.dumps({"id": "1", "op": "subscribe", "args": args}),))


def _data(body: bytes, kind: type[_T]) -> _T:
    """Read what an answer brings; many a refusal comes as HTTP 200."""
    reply = answer(body, _Reply)
    if _code(reply) != "0":
        _refuse(reply)
    return answer(bytes(reply.data), kind)


def _code(reply: _Reply) -> str:
    return str(reply.code).partition("_")[0]  # a second number may follow: 51008_1000


def _refuse(reply: _Reply) -> NoReturn:
    code, text = _code(reply), f"OKX {cut(reply.code)}: {reply.msg[:200]}"
    if code in _TOO_MANY:
        raise RateLimited(text, THROTTLED_S)
    if code in _NO_SUCH:
        raise Unlisted(text)
    raise Retryable(text)


def _positive(text: str, name: str, body: bytes) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise BadFrame(f"{name} {cut(text)}", body[:RAW_LIMIT]) from error
    if not 0.0 < value < inf:
        raise BadFrame(f"{name} {cut(text)}", body[:RAW_LIMIT])
    return value


SPOT = Okx("spot", RULES)
FUTURES = Okx("futures", replace(RULES, contracts=True))
