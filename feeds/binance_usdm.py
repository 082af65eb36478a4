"""Binance USD-M futures: its rules, its requests and its answers. Pure; its frames are read next door.

Source: developers.binance.com, derivatives/usds-margined-futures: websocket-market-streams, aggregate trade
and individual book ticker streams, compressed aggregate trades, exchange information (2026-05).

Since 2026-04-23 each stream has its root, aggTrade `/market` and bookTicker `/public`. Elsewhere it is
granted all the same, and never comes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any
from urllib.parse import urlencode

import numpy as np
from msgspec import Meta, Struct

from feeds import binance_usdm_frames
from feeds.frames import (
    MAX_AHEAD_NS,
    RAW_LIMIT,
    YEAR_2009_NS,
    Positive,
    TradeId,
    answer,
    converted,
    decoded,
)
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame, Unlisted
from market.ticks import TICK
from market.times import NS_PER_MS

PAGE = 1_000
TRADES_WEIGHT = 20
_NO_SUCH_SYMBOL = -1121
RULES = Rules(
    contiguous=True,
    pages_by_id=True,  # 24 hours back; what REST says of an older id is not documented
    page_limit=PAGE,
    connects=300,  # not documented for this market: what the spot market allows
    connects_per_s=300.0,
    weight=2_400,
    weight_per_s=60.0,
    max_life_s=86_400.0,
)


@dataclass(frozen=True, slots=True)
class BinanceUsdm:
    """The USD-M market: one `@aggTrade` is one tick under its id `a`, sizes are in base units."""

    rules: Rules = RULES

    def lines(self, symbol: str) -> tuple[Line, ...]:
        name = symbol.lower()
        return _line("/market/ws", f"{name}@aggTrade"), _line("/public/ws", f"{name}@bookTicker")

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return binance_usdm_frames.parse(frames, received_ns, symbol)

    def latest(self, symbol: str) -> Ask:
        query = urlencode({"symbol": symbol, "limit": PAGE})
        return Ask(f"/fapi/v1/aggTrades?{query}", TRADES_WEIGHT)

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - the seam
        query = urlencode({"symbol": symbol, "fromId": from_id, "limit": PAGE})
        return Ask(f"/fapi/v1/aggTrades?{query}", TRADES_WEIGHT)

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:  # noqa: ARG002 - as above
        rows = sorted(answer(body, list[_Row]), key=lambda x: x.a)
        if max((x.T for x in rows), default=0) * NS_PER_MS > received_ns + MAX_AHEAD_NS:
            raise BadFrame("time in the far future", body[:RAW_LIMIT])
        ticks = [(x.a, x.T * NS_PER_MS, x.p, x.q, received_ns, -1 if x.m else 1) for x in rows]
        return Trades(np.array(ticks, TICK))

    def listing(self, symbol: str) -> Ask:  # noqa: ARG002 - of all symbols: it takes no parameters
        return Ask("/fapi/v1/exchangeInfo")

    def parse_listing(self, body: bytes, symbol: str) -> Listing:
        """Find the symbol among all; with another word than TRADING (SETTLING, CLOSE) it rests."""
        listed = next((x for x in answer(body, _Listings).symbols if x.symbol == symbol), None)
        if listed is None:
            raise Unlisted(f"Binance USD-M does not list {symbol}")
        steps = [x.tickSize for x in listed.filters if x.filterType == "PRICE_FILTER"]
        step = converted(steps[0], float, "tickSize") if steps else 0.0
        return Listing(listed.status, listed.status == "TRADING", step if 0.0 < step < inf else None)

    def is_unlisted(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - the code says it all
        try:
            return bool(decoded(body).get("code") == _NO_SUCH_SYMBOL)
        except BadFrame:
            return False


VENUE = BinanceUsdm()


def _line(path: str, stream: str) -> Line:
    return Line(path, (json.dumps({"method": "SUBSCRIBE", "params": [stream], "id": 1}),))


class _Row(Struct):
    a: TradeId
    p: Positive
    q: Positive
    T: Annotated[int, Meta(ge=YEAR_2009_NS // NS_PER_MS, le=2**63 // NS_PER_MS)]
    m: bool


class _Filter(Struct):
    filterType: str = ""  # noqa: N815 - the venue's names
    tickSize: Any = None  # noqa: N815


class _Listing(Struct):
    symbol: str
    status: str
    filters: list[_Filter]


class _Listings(Struct):
    symbols: list[_Listing]
