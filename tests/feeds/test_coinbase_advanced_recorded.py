"""The parser against what was recorded in August 2026."""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from feeds.coinbase_advanced import VENUE
from feeds.venue import Listing, Notice
from market.errors import Unlisted
from market.inputs import Quote
from tests.feeds.coinbase_support import assert_batch_equals_singles, assert_sound, damaged, read_ns
from tests.recordings import beside

Message = tuple[int, bytes, dict[str, Any]]
NAMES = {"market_trades": "trades", "ticker": "tickers"}


@cache
def recorded() -> tuple[list[Message], dict[str, Any]]:
    """Read what the socket brought, and the listing of all products that was asked for before."""
    out, products = [], {}
    with gzip.open(beside("raw_ws/cf3_coinbase_advanced_20260809_part1.jsonl.gz"), "rt") as lines:
        for line in map(json.loads, lines):
            if line["t"] == "recv":
                out.append((int(line["ts"] * 1e9), line["data"].encode(), json.loads(line["data"])))
            elif line["t"] == "http":
                products = {x["product_id"]: x for x in json.loads(line["data"])["products"]}
    return out, products


def rows_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    name = NAMES.get(body["channel"], "")
    return [row for event in body["events"] for row in event.get(name, ())]


def of(product: str) -> list[Message]:
    """Give what a connection for one product would have brought."""
    return [x for x in recorded()[0] if all(row["product_id"] == product for row in rows_of(x[2]))]


def ticks(product: str) -> list[tuple[Any, ...]]:
    return [
        (
            int(row["trade_id"]),
            read_ns(row["time"]),
            float(row["price"]),
            float(row["size"]),
            at,
            {"SELL": 1, "BUY": -1}[row["side"]],
        )
        for at, _, body in of(product)
        if body["channel"] == "market_trades"
        for row in reversed(rows_of(body))
    ]


@pytest.mark.parametrize(("product", "count"), [("BTC-USD", 137), ("ETH-USD", 121)])
def test_every_recorded_trade_is_a_tick_and_none_is_missing(product: str, count: int) -> None:
    """The snapshot of 100 trades goes over into the first update without a hole."""
    messages = of(product)
    got = VENUE.parse([raw for _, raw, _ in messages], [at for at, _, _ in messages], product)
    assert got.ticks.tolist() == ticks(product)
    ids = got.ticks["trade_id"].tolist()
    assert ids == list(range(ids[0], ids[0] + count))
    assert (got.rejected, got.newest_id) == ([], 0)
    assert got.venue_time_ns == max(
        read_ns(body["timestamp"])
        for _, _, body in messages
        if body["channel"] in {"market_trades", "ticker", "heartbeats"}
    )


@pytest.mark.parametrize("product", ["BTC-USD", "ETH-USD"])
def test_every_other_message_is_told(product: str) -> None:
    messages = of(product)
    got = VENUE.parse([raw for _, raw, _ in messages], [at for at, _, _ in messages], product)
    channels = [body["channel"] for _, _, body in messages]
    assert (
        [x.count for x in got.notices if x.kind == "alive"] == [1] * 15 == [1] * channels.count("heartbeats")
    )
    assert [x for x in got.notices if x.subscribed] == [Notice("subscribed")] * 5  # all list the trades
    assert {x.text: x.count for x in got.notices if x.kind == "unknown"} == {
        name: channels.count(name) for name in ("candles", "l2_data")
    }


@pytest.mark.parametrize("product", ["BTC-USD", "ETH-USD"])
def test_every_recorded_ticker_is_a_quote(product: str) -> None:
    tickers = [x for x in of(product) if x[2]["channel"] == "ticker"]
    assert len(tickers) > 30
    for at, raw, body in tickers:
        (row,) = rows_of(body)
        bid, ask = float(row["best_bid"]), float(row["best_ask"])
        sizes = float(row["best_bid_quantity"]), float(row["best_ask_quantity"])
        got = VENUE.parse([raw], [at], product)
        assert got.quote == Quote(read_ns(body["timestamp"]), bid, sizes[0], ask, sizes[1], at)


def test_the_side_is_the_takers_as_the_quotes_beside_the_trades_tell() -> None:
    """A trade at or above the ask was bought by its taker, one at or below the bid sold."""
    agreed: dict[int, list[bool]] = {1: [], -1: []}
    for product in ("BTC-USD", "ETH-USD"):
        quote: Quote | None = None
        for at, raw, body in of(product):
            got = VENUE.parse([raw], [at], product)
            quote = got.quote or quote
            if quote is None or body["events"][0].get("type") != "update":
                continue
            for tick in got.ticks:
                if tick["price"] >= quote.ask_price:
                    agreed[1].append(bool(tick["side"] == 1))
                elif tick["price"] <= quote.bid_price:
                    agreed[-1].append(bool(tick["side"] == -1))
    assert {side: (sum(x), len(x)) for side, x in agreed.items()} == {1: (39, 39), -1: (17, 17)}


def test_the_sequence_counts_the_connection_not_the_product() -> None:
    numbers = [body["sequence_num"] for _, _, body in recorded()[0]]
    assert numbers == list(range(len(numbers)))
    alone = [x["sequence_num"] for _, _, x in of("BTC-USD") if x["channel"] == "market_trades"]
    assert any(b - a > 1 for a, b in pairwise(alone))


def test_the_recorded_listings_are_read_aliases_and_all() -> None:
    products = recorded()[1]
    own = {name: x for name, x in products.items() if not x["alias"]}
    for name in products.keys() - own.keys():
        with pytest.raises(Unlisted):
            VENUE.parse_listing(json.dumps(products[name]).encode(), name)
    got = {name: VENUE.parse_listing(json.dumps(x).encode(), name) for name, x in own.items()}
    for name, x in own.items():
        trading = x["status"] == "online" and not x["trading_disabled"]
        assert got[name] == Listing(x["status"], trading, float(x["price_increment"]))
    assert (len(products), len(own), sum(not x.trading for x in got.values())) == (920, 520, 4)


def test_damaged_recorded_frames_have_one_sound_fate_each() -> None:
    """Snapshots of a hundred trades among them."""
    rng = random.Random(5)
    kept = [x for x in of("BTC-USD") if x[2]["channel"] != "l2_data" and len(x[1]) < 20_000]
    for _ in range(10_000):
        at, raw, _ = rng.choice(kept)
        bad = damaged(raw, rng)
        assert_sound(VENUE.parse([bad], [at], "BTC-USD"), bad, at)


def test_batches_of_damaged_recorded_frames_equal_frames_one_by_one() -> None:
    rng = random.Random(6)
    for _ in range(20):
        raws = [raw if rng.random() < 0.7 else damaged(raw, rng) for _, raw, _ in of("BTC-USD")[-150:]]
        assert_batch_equals_singles(VENUE.parse, raws, "BTC-USD")
