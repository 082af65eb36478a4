"""Coinbase Advanced Trade, spot: its rules, its requests and its answers. Pure; frames are read next door.

Source: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis and api-reference/advanced-trade-api (crawled
2026-06), and answers recorded in 2026. How long a connection lasts is not documented, nor is how many trades
an answer may hold: 1,000 are asked for, and nothing is concluded from getting fewer.

A product quoted in USDC mostly has the book of the one in USD: its listing names that as its alias. Such a
pair is refused; its record would be a copy, and under which name its frames come is not documented.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

import numpy as np
from msgspec import Struct

from feeds import coinbase_advanced_frames
from feeds.coinbase import Step, not_found, sound_times
from feeds.coinbase_advanced_frames import TAKER
from feeds.frames import RAW_LIMIT, Positive, TradeId, answer, cut
from feeds.venue import Ask, Line, Listing, Parsed, Rules, Trades
from market.errors import BadFrame, Unlisted
from market.ticks import TICK
from market.times import NS_PER_S

LIMIT = 1_000
CHANNELS = ("heartbeats", "ticker", "market_trades")
RULES = Rules(
    contiguous=True,
    pages_by_id=False,
    windows=True,
    page_limit=LIMIT,
    connects=2,  # of 8 a second, but the messages are 8 a second too, and a connection begins with three
    connects_per_s=1.0,
    weight=10,
    weight_per_s=1.0,
    too_many={429: 1.0},
)


@dataclass(frozen=True, slots=True)
class CoinbaseAdvanced:
    """The spot market: one of `market_trades` is one tick; symbols as the venue writes them, `BTC-USD`."""

    rules: Rules = RULES

    def lines(self, symbol: str) -> tuple[Line, ...]:
        """Ask for one channel a message; that for trades is the last, and the one that has to be granted."""
        requests = [{"type": "subscribe", "product_ids": [symbol], "channel": name} for name in CHANNELS]
        return (Line("/", tuple(json.dumps(request) for request in requests)),)

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        return coinbase_advanced_frames.parse(frames, received_ns, symbol)

    def latest(self, symbol: str) -> Ask:
        return Ask(f"{_product(symbol)}/ticker?{urlencode({'limit': LIMIT})}")

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:  # noqa: ARG002 - as the seam
        """Ask for the newest trades from `from_ns` up to `to_ns`, the time of the next trade that is known.

        Of a window the venue gives the newest trades: up to the next known one they close a hole from its
        end, request by request, where a window of any fixed length would be empty or overflow. The edges are
        whole seconds, so wide that it does not matter on which side they count. Without `to_ns` the newest
        trades of all are asked for.
        """
        if not to_ns:
            return self.latest(symbol)
        window = {"limit": LIMIT, "start": from_ns // NS_PER_S - 1, "end": to_ns // NS_PER_S + 1}
        return Ask(f"{_product(symbol)}/ticker?{urlencode(window)}")

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:
        rows = sorted(answer(body, _Trades).trades, key=lambda x: x.trade_id)
        if others := {x.product_id for x in rows} - {symbol}:
            raise BadFrame(f"trades of {cut(min(others))}", body[:RAW_LIMIT])
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
        if x.product_id != symbol:
            raise BadFrame(f"listing of {cut(x.product_id)}", body[:RAW_LIMIT])
        if x.alias:
            raise Unlisted(f"{symbol} has the book of {cut(x.alias)}: follow that")
        if x.product_type != "SPOT":
            raise Unlisted(f"{symbol} is no spot product: {cut(x.product_type)}")
        halted = x.trading_disabled or x.cancel_only or x.post_only or x.auction_mode  # limit_only trades
        return Listing(x.status, x.status == "online" and not halted, x.price_increment or None)

    def is_unlisted(self, status: int, body: bytes) -> bool:
        return not_found(status, body)


VENUE = CoinbaseAdvanced()


class _Row(Struct):
    product_id: str
    trade_id: (
        TradeId  # the documents' example has a UUID here, every recorded answer the number of the frames
    )
    price: Positive
    size: Positive
    side: Literal["BUY", "SELL", ""]  # "" in the documents' example
    time: str


class _Trades(Struct):
    trades: list[_Row]


class _Product(Struct):
    product_id: str
    status: str
    product_type: str
    alias: str | None = None
    price_increment: Step | None = None
    trading_disabled: bool | None = None
    cancel_only: bool | None = None
    post_only: bool | None = None
    auction_mode: bool | None = None


def _product(symbol: str) -> str:
    return f"/api/v3/brokerage/market/products/{quote(symbol, safe='')}"
