"""Coinbase Exchange: its rules, its requests and its answers. Pure; its frames are read next door.

Source: docs.cdp.coinbase.com/exchange, websocket-feed (rate limits) and rest-api (product trades, single
product, pagination, rate limits) of 2025. How long a connection lasts and who pings is not documented there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

import msgspec
import numpy as np
from msgspec import Meta, Struct

from feeds import coinbase_frames
from feeds.coinbase_frames import TAKER
from feeds.frames import BAD_JSON, RAW_LIMIT, Positive, TradeId, answer, cut, judge_time
from feeds.rfc3339 import to_ns
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame
from market.ticks import TICK

PAGE = 1_000
CHANNELS = ("heartbeat", "ticker", "matches")
RULES = Rules(
    contiguous=True,
    pages_by_id=True,
    page_limit=PAGE,
    connects=8,
    connects_per_s=1.0,
    weight=10,
    weight_per_s=1.0,
    too_many={429: 1.0},
)


@dataclass(frozen=True, slots=True)
class Coinbase:
    """The spot market: one `match` is one tick; symbols as the venue writes them, `BTC-USD`."""

    rules: Rules = RULES

    def lines(self, symbol: str) -> tuple[Line, ...]:
        request = {"type": "subscribe", "product_ids": [symbol], "channels": CHANNELS}
        return (Line("/", (json.dumps(request),)),)

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return coinbase_frames.parse(frames, received_ns, symbol)

    def latest(self, symbol: str) -> Ask:
        return Ask(f"{_product(symbol)}/trades?{urlencode({'limit': PAGE})}")

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - the seam
        """Ask for what comes before the id that follows the page: pages go back in time."""
        return Ask(f"{_product(symbol)}/trades?{urlencode({'after': from_id + PAGE, 'limit': PAGE})}")

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:  # noqa: ARG002 - as above
        rows = sorted(answer(body, list[_Row]), key=lambda x: x.trade_id)
        times = sound_times([x.time for x in rows], received_ns, body)
        ticks = [
            (x.trade_id, ts_ns, x.price, x.size, received_ns, TAKER[x.side])
            for x, ts_ns in zip(rows, times, strict=True)
        ]
        return Trades(np.array(ticks, TICK))

    def listing(self, symbol: str) -> Ask:
        return Ask(_product(symbol))

    def parse_listing(self, body: bytes, symbol: str) -> Listing:
        x = answer(body, _Product)
        if x.id != symbol:
            raise BadFrame(f"listing of {cut(x.id)}", body[:RAW_LIMIT])
        halted = x.trading_disabled or x.cancel_only or x.post_only or x.auction_mode  # limit_only trades
        return Listing(x.status, x.status == "online" and not halted, x.quote_increment or None)

    def is_unlisted(self, status: int, body: bytes) -> bool:
        return not_found(status, body)


VENUE = Coinbase()

Step = Annotated[float, Meta(ge=0.0, le=sys.float_info.max)]


class _Row(Struct):
    trade_id: TradeId
    price: Positive
    size: Positive
    side: Literal["buy", "sell"]
    time: str


class _Product(Struct):
    id: str
    status: str
    quote_increment: Step | None = None
    trading_disabled: bool | None = None
    cancel_only: bool | None = None
    post_only: bool | None = None
    auction_mode: bool | None = None


def sound_times(texts: Sequence[str], received_ns: int, body: bytes) -> list[int]:
    """Read the times of an answer's trades; raises BadFrame with the answer."""
    try:
        times = [to_ns(text) for text in texts]
        for ts_ns in times:
            judge_time(ts_ns, received_ns)
    except BadFrame as bad:
        raise BadFrame(bad.reason, body[:RAW_LIMIT]) from bad
    return times


def not_found(status: int, body: bytes) -> bool:
    """Tell a 404 of the venue's own, which holds a `message`, from one of whoever stands before it."""
    try:
        refused = msgspec.json.decode(body)
    except BAD_JSON:
        return False
    return status == 404 and isinstance(refused, dict) and "message" in refused


def _product(symbol: str) -> str:
    return f"/products/{quote(symbol, safe='')}"
