"""The parser against what was recorded in 2021, before tickers told sizes."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from functools import cache
from typing import Any

import pytest

from feeds.coinbase import VENUE
from feeds.venue import Notice
from tests.feeds.coinbase_support import read_ns
from tests.recordings import beside

TRADES = {
    "BAND-BTC": 1,
    "BAND-GBP": 1,
    "CRV-EUR": 1,
    "DASH-BTC": 5,
    "NMR-EUR": 9,
    "NU-GBP": 2,
    "SKL-BTC": 6,
    "SKL-GBP": 2,
    "SKL-USD": 16,
    "YFI-BTC": 1,
}


@cache
def recorded() -> list[tuple[int, bytes, dict[str, Any]]]:
    """Read what was received: lines `seconds: message`."""
    with gzip.open(beside("raw_ws/cf_coinbase_2021_part1.txt.gz"), "rb") as lines:
        pairs = [line.rstrip(b"\n").split(b": ", 1) for line in lines if line[:1].isdigit()]
    return [(int(float(at) * 1e9), raw, json.loads(raw)) for at, raw in pairs]


def of(product: str) -> list[tuple[int, bytes, dict[str, Any]]]:
    return [x for x in recorded() if x[2].get("product_id", product) == product]


def rows(product: str) -> list[tuple[Any, ...]]:
    return [
        (
            x["trade_id"],
            read_ns(x["time"]),
            float(x["price"]),
            float(x["size"]),
            at,
            {"sell": 1, "buy": -1}[x["side"]],
        )
        for at, _, x in of(product)
        if x["type"] in {"match", "last_match"}
    ]


@pytest.mark.parametrize(("product", "count"), TRADES.items())
def test_every_recorded_trade_is_a_tick(product: str, count: int) -> None:
    frames = of(product)
    got = VENUE.parse([raw for _, raw, _ in frames], [at for at, _, _ in frames], product)
    assert got.ticks.tolist() == rows(product)
    assert len(got.ticks) == count
    assert (got.rejected, got.quote, got.ids) == ([], None, ())
    ids = got.ticks["trade_id"].tolist()
    assert ids == list(range(ids[0], ids[0] + count))  # rising by one, from the `last_match` on


@pytest.mark.parametrize("product", TRADES)
def test_every_other_message_is_told(product: str) -> None:
    frames = of(product)
    got = VENUE.parse([raw for _, raw, _ in frames], [at for at, _, _ in frames], product)
    kinds = [x["type"] for _, _, x in frames]
    known = [x for x in got.notices if x.kind != "unknown"]
    assert known == [Notice("alive"), Notice("alive"), Notice("subscribed")]  # `matches` was asked for last
    assert {x.text: x.count for x in got.notices if x.kind == "unknown"} == {
        name: kinds.count(kind)
        for kind, name in (
            ("snapshot", "snapshot"),
            ("l2update", "l2update"),
            ("ticker", "ticker without bid or ask"),
        )
        if kind in kinds
    }


def test_frames_of_all_products_are_kept_apart() -> None:
    times, frames, bodies = zip(*recorded(), strict=True)
    got = VENUE.parse(frames, times, "SKL-USD")
    assert got.ticks.tolist() == rows("SKL-USD")
    others = [x for x in bodies if x["type"] in {"match", "last_match"} and x["product_id"] != "SKL-USD"]
    assert len(got.rejected) == len(others) == 28
    assert {x.reason for x in got.rejected} == {f"symbol {x['product_id']}" for x in others}


def test_the_side_is_the_takers_as_the_ticker_of_the_same_trade_tells() -> None:
    """A ticker's side is the taker's, a match's the maker's: of every trade told by both they differ."""
    takers = {(x["product_id"], x["trade_id"]): x["side"] for _, _, x in recorded() if x["type"] == "ticker"}
    checked: dict[int, int] = defaultdict(int)
    for product in TRADES:
        frames = of(product)
        got = VENUE.parse([raw for _, raw, _ in frames], [at for at, _, _ in frames], product)
        for trade_id, *_, side in got.ticks.tolist():
            if (product, trade_id) in takers:
                assert side == {"buy": 1, "sell": -1}[takers[product, trade_id]]
                checked[side] += 1
    assert checked == {1: 33, -1: 11}
