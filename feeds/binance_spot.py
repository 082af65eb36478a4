"""Binance spot: its rules, its requests and its answers. Pure; the frames of its streams are read next door.

Source: github.com/binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md (2026-07).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import numpy as np
from msgspec import Meta, Struct

from feeds import binance_frames
from feeds.frames import (
    BAD_JSON,
    MAX_AHEAD_NS,
    RAW_LIMIT,
    YEAR_2009_NS,
    Positive,
    TradeId,
    answer,
    cut,
)
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame
from market.ticks import TICK
from market.times import NS_PER_MS

PAGE = 1_000
_UNLISTED = -1121
RULES = Rules(
    contiguous=True,
    pages_by_id=True,
    page_limit=PAGE,
    connects=300,
    connects_per_s=300.0,
    weight=6_000,
    weight_per_s=60.0,
    max_life_s=86_400.0,
)


@dataclass(frozen=True, slots=True)
class BinanceSpot:
    """The spot market: one `@trade` is one tick, under its id `t`."""

    rules: Rules = RULES

    def lines(self, symbol: str) -> tuple[Line, ...]:
        streams = [f"{symbol.lower()}@trade", f"{symbol.lower()}@bookTicker"]
        return (Line("/ws", (json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}),)),)

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return binance_frames.parse(frames, received_ns, symbol)

    def latest(self, symbol: str) -> Ask:
        return Ask(f"/api/v3/trades?{urlencode({'symbol': symbol, 'limit': PAGE})}", 25)

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - the seam
        query = urlencode({"symbol": symbol, "fromId": from_id, "limit": PAGE})
        return Ask(f"/api/v3/historicalTrades?{query}", 25)

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:  # noqa: ARG002 - as above
        rows = sorted(answer(body, list[_Row]), key=lambda x: x.id)
        if any(x.time * NS_PER_MS > received_ns + MAX_AHEAD_NS for x in rows):
            raise BadFrame("time in the far future", body[:RAW_LIMIT])
        ticks = [
            (x.id, x.time * NS_PER_MS, x.price, x.qty, received_ns, -1 if x.isBuyerMaker else 1) for x in rows
        ]
        return Trades(np.array(ticks, TICK))

    def listing(self, symbol: str) -> Ask:
        return Ask(f"/api/v3/exchangeInfo?{urlencode({'symbol': symbol})}", 20)

    def parse_listing(self, body: bytes, symbol: str) -> Listing:  # noqa: ARG002 - as above
        listed = answer(body, _Listings).symbols[0]
        steps = [x.get("tickSize") for x in listed.filters if x.get("filterType") == "PRICE_FILTER"]
        return Listing(listed.status, listed.status == "TRADING", _tick_size(steps, body))

    def is_unlisted(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - as above
        try:
            refused = msgspec.json.decode(body)
        except BAD_JSON:
            return False
        return isinstance(refused, dict) and refused.get("code") == _UNLISTED


VENUE = BinanceSpot()


class _Row(Struct):
    id: TradeId
    price: Positive
    qty: Positive
    time: Annotated[int, Meta(ge=YEAR_2009_NS // NS_PER_MS, le=2**63 // NS_PER_MS)]
    isBuyerMaker: bool  # noqa: N815 - the venue's name


class _Listing(Struct):
    symbol: str
    status: str
    filters: list[dict[str, Any]]


class _Listings(Struct):
    symbols: Annotated[list[_Listing], Meta(min_length=1)]


def _tick_size(steps: list[Any], body: bytes) -> float | None:
    try:
        tick_size = float(steps[0]) if steps else 0.0
    except (TypeError, ValueError) as error:
        raise BadFrame(f"tickSize {cut(steps[0])}", body[:RAW_LIMIT]) from error
    return tick_size if 0.0 < tick_size < inf else None
