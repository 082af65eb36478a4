from __future__ import annotations

import random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from feeds.coinbase import VENUE
from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Listing
from market.errors import BadFrame, Retryable
from tests.feeds.coinbase_support import AT_NS, damaged, twisted
from tests.feeds.json_support import raw


def test_requests_name_their_parameters() -> None:
    """A page is what comes before the id that follows it: 1,000 ids from the first one asked for on."""
    for ask, path, query in (
        (VENUE.latest("BTC-USD"), "/products/BTC-USD/trades", {"limit": "1000"}),
        (VENUE.page("BTC-USD", 501, 0), "/products/BTC-USD/trades", {"limit": "1000", "after": "1501"}),
        (VENUE.listing("BTC-USD"), "/products/BTC-USD", {}),
        (VENUE.listing("Ü/X"), "/products/%C3%9C%2FX", {}),
    ):
        url = urlsplit(ask.path)
        assert (url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, ask.weight) == (path, query, 1)


ROWS: list[dict[str, Any]] = [  # the documents' own
    {
        "time": "2014-11-07T22:19:28.578544Z",
        "trade_id": 74,
        "price": "10.00000000",
        "size": "0.01000000",
        "side": "buy",
    },
    {
        "time": "2014-11-07T01:08:43.642366Z",
        "trade_id": 73,
        "price": "100.00000000",
        "size": "0.01000000",
        "side": "sell",
    },
]


def test_rest_trades_are_sorted_ticks_of_the_takers_side() -> None:
    got = VENUE.parse_trades(raw(ROWS), AT_NS, "BTC-USD")
    assert got.ticks.tolist() == [
        (73, 1_415_322_523_642_366_000, 100.0, 0.01, AT_NS, 1),
        (74, 1_415_398_768_578_544_000, 10.0, 0.01, AT_NS, -1),
    ]
    assert got.ids == ()
    assert len(VENUE.parse_trades(b"[]", AT_NS, "BTC-USD").ticks) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"message":"NotFound"}',
        raw([*ROWS, 5]),
        raw([ROWS[0] | {"price": "0"}]),
        raw([ROWS[0] | {"size": "NaN"}]),
        raw([ROWS[0] | {"trade_id": -1}]),
        raw([ROWS[0] | {"side": ""}]),
        raw([ROWS[0] | {"time": "soon"}]),
        raw([ROWS[0] | {"time": "2008-12-31T00:00:00Z"}]),
        raw([ROWS[0] | {"time": "2999-01-01T00:00:00Z"}]),
        raw([{"trade_id": 1}]),
        b"[" * 100_000,
    ],
    ids=range(13),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_trades(body, AT_NS, "BTC-USD")
    assert caught.value.raw == body[:1024]


def test_the_longest_time_allowed_is_ten_minutes_ahead() -> None:
    late = raw([ROWS[0] | {"time": "2026-08-09T21:06:40Z"}])  # AT_NS
    assert len(VENUE.parse_trades(late, AT_NS - MAX_AHEAD_NS, "BTC-USD").ticks) == 1
    with pytest.raises(BadFrame):
        VENUE.parse_trades(late, AT_NS - MAX_AHEAD_NS - 1, "BTC-USD")


PRODUCT = {
    "id": "BTC-USD",
    "base_currency": "BTC",
    "quote_currency": "USD",
    "quote_increment": "0.01000000",
    "base_increment": "0.00000001",
    "display_name": "BTC-USD",
    "min_market_funds": "10",
    "margin_enabled": False,
    "post_only": False,
    "limit_only": False,
    "cancel_only": False,
    "status": "online",
    "status_message": "",
    "trading_disabled": False,
    "fx_stablecoin": False,
    "auction_mode": False,
}


def listing(**changes: object) -> Listing:
    return VENUE.parse_listing(raw(PRODUCT | changes), "BTC-USD")


def test_a_listing_tells_status_and_tick_size() -> None:
    assert listing() == Listing("online", trading=True, tick_size=0.01)
    assert listing(limit_only=True).trading
    assert listing(status="delisted", quote_increment="0") == Listing("delisted", trading=False)
    assert listing(quote_increment=None, auction_mode=None) == Listing("online", trading=True)


@pytest.mark.parametrize("halt", ["trading_disabled", "cancel_only", "post_only", "auction_mode"])
def test_a_halted_product_does_not_trade(halt: str) -> None:
    assert listing(**{halt: True}) == Listing("online", trading=False, tick_size=0.01)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"message":"NotFound"}',
        raw(PRODUCT | {"id": "ETH-USD"}),
        raw(PRODUCT | {"status": None}),
        raw(PRODUCT | {"quote_increment": "one"}),
        raw(PRODUCT | {"quote_increment": "inf"}),
        raw(PRODUCT | {"quote_increment": "nan"}),
        raw(PRODUCT | {"quote_increment": -1}),
        raw(PRODUCT | {"trading_disabled": "perhaps"}),
    ],
    ids=range(10),
)
def test_a_bad_listing_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_listing(body, "BTC-USD")
    assert caught.value.raw == body[:1024]


def test_only_the_venues_own_404_says_that_a_product_is_unlisted() -> None:
    assert VENUE.is_unlisted(404, b'{"message":"NotFound"}')
    assert not VENUE.is_unlisted(404, b"<html>404</html>")
    assert not VENUE.is_unlisted(404, b'["message"]')
    assert not VENUE.is_unlisted(400, b'{"message":"limit is not a number"}')


def test_damaged_answers_of_rest_are_trades_or_refused() -> None:
    rng = random.Random(7)
    sound = 0
    for i in range(20_000):
        body = (damaged if i % 2 else twisted)(raw(ROWS), rng)
        try:
            got = VENUE.parse_trades(body, AT_NS, "BTC-USD").ticks
        except (BadFrame, Retryable):
            continue
        sound += 1
        assert (got["trade_id"][1:] >= got["trade_id"][:-1]).all(), body
        assert ((got["price"] > 0) & (got["size"] > 0) & (got["ts_ns"] > 0)).all(), body
        assert (got["price"] < 1e300).all(), body
        assert (abs(got["side"]) == 1).all(), body
    assert 500 < sound < 15_000


def test_damaged_listings_are_listings_or_refused() -> None:
    rng = random.Random(8)
    for i in range(5_000):
        body = (damaged if i % 2 else twisted)(raw(PRODUCT), rng)
        try:
            got = VENUE.parse_listing(body, "BTC-USD")
        except (BadFrame, Retryable):
            continue
        assert got.tick_size is None or 0.0 < got.tick_size < 1e300, body
        assert got.contract_size == 1.0
