"""Binance spot: its rules, its requests and its answers. Pure; the frames of its streams are read next door.

Source: github.com/binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md (2026-07).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
import numpy as np
from msgspec import Meta, Struct

from feeds.binance_frames import (
    BAD_JSON,
    MAX_AHEAD_NS,
    RAW_LIMIT,
    YEAR_2009_NS,
    Notice,
    Parsed,
    Positive,
    TradeId,
    cut,
    parse,
    refusal,
)
from market.errors import BadFrame
from market.ticks import TICK, Ticks
from market.times import NS_PER_MS

__all__ = ["Notice", "Parsed", "parse"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a venue asks of its clients and promises them."""

    ws_url: str
    rest_url: str
    ws_path: str
    ping_every_s: float  # the server's, a websocket ping frame
    max_life_s: float
    connects: int  # at most so many
    connects_per_s: float  # in so many seconds
    contiguous_ids: bool
    page_limit: int
    page_weight: int
    weight_per_minute: int


RULES = Rules(
    ws_url="wss://stream.binance.com:9443",
    rest_url="https://api.binance.com",  # data-api.binance.vision does not serve historicalTrades
    ws_path="/ws",
    ping_every_s=20.0,
    max_life_s=86_400.0,
    connects=300,
    connects_per_s=300.0,
    contiguous_ids=True,
    page_limit=1_000,
    page_weight=25,
    weight_per_minute=6_000,
)


class Symbol(NamedTuple):
    status: str  # TRADING, or why not
    tick_size: float | None  # None: the venue sets no step


def streams(symbol: str) -> tuple[str, ...]:
    """Name the streams that a pair listens to."""
    return f"{symbol.lower()}@trade", f"{symbol.lower()}@bookTicker"


def subscribe(symbol: str, request_id: int) -> str:
    """Write the message that asks for them; the answer is a Notice with this id."""
    return json.dumps({"method": "SUBSCRIBE", "params": streams(symbol), "id": request_id})


def trades_request(symbol: str, from_id: int, limit: int = RULES.page_limit) -> str:
    """Ask for trades from `from_id` on, itself included; read the answer with `parse_trades`."""
    query = urlencode({"symbol": symbol, "fromId": from_id, "limit": limit})
    return f"/api/v3/historicalTrades?{query}"


def latest_request(symbol: str) -> str:
    """Ask for the newest trade; read the answer with `parse_trades`."""
    return f"/api/v3/trades?{urlencode({'symbol': symbol, 'limit': 1})}"


def symbol_request(symbol: str) -> str:
    """Ask what the symbol is; read the answer with `parse_symbol`."""
    return f"/api/v3/exchangeInfo?{urlencode({'symbol': symbol})}"


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


def parse_trades(body: bytes, received_ns: int) -> Ticks:
    """Read the answer of historicalTrades or trades, times in ms; sorted by id. Raises BadFrame."""
    rows = sorted(_answer(body, list[_Row]), key=lambda x: x.id)
    if any(x.time * NS_PER_MS > received_ns + MAX_AHEAD_NS for x in rows):
        raise BadFrame("time in the far future", body[:RAW_LIMIT])
    return np.array(
        [(x.id, x.time * NS_PER_MS, x.price, x.qty, received_ns, -1 if x.isBuyerMaker else 1) for x in rows],
        TICK,
    )


def parse_symbol(body: bytes) -> Symbol:
    """Read the answer of exchangeInfo for one symbol. Raises BadFrame."""
    listing = _answer(body, _Listings).symbols[0]
    steps: list[Any] = [x.get("tickSize") for x in listing.filters if x.get("filterType") == "PRICE_FILTER"]
    try:
        tick_size = float(steps[0]) if steps else 0.0
    except (TypeError, ValueError) as error:
        raise BadFrame(f"tickSize {cut(steps[0])}", body[:RAW_LIMIT]) from error
    return Symbol(listing.status, tick_size if 0.0 < tick_size < inf else None)


def parse_error(body: bytes) -> tuple[int, str]:
    """Read (code, text) of a refusal; code 0 and the beginning of the body if it is not the venue's own."""
    try:
        answer = msgspec.json.decode(body)
    except BAD_JSON:
        answer = None
    return refusal(answer) if isinstance(answer, dict) else (0, body[:200].decode(errors="replace"))


def _answer(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except BAD_JSON as error:
        raise BadFrame(f"unexpected answer: {error}", body[:RAW_LIMIT]) from error
