from __future__ import annotations

import random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from feeds.coinbase_advanced import VENUE
from feeds.venue import Listing
from market.errors import BadFrame, Retryable, Unlisted
from tests.feeds.coinbase_advanced_support import FIRST, NEWER, OLDER, SECOND
from tests.feeds.coinbase_support import AT_NS, damaged, twisted
from tests.feeds.json_support import raw


def test_requests_name_their_parameters() -> None:
    product = "/api/v3/brokerage/market/products/BTC-USD"
    newest = {"limit": "1000"}
    from_ns, to_ns = 1_786_309_551_376_358_000, 1_786_309_560_999_999_999
    for ask, path, query in (
        (VENUE.latest("BTC-USD"), f"{product}/ticker", newest),
        (VENUE.page("BTC-USD", 501, from_ns), f"{product}/ticker", newest),
        (
            VENUE.page("BTC-USD", 501, from_ns, to_ns),
            f"{product}/ticker",
            newest | {"start": "1786309550", "end": "1786309561"},
        ),
        (VENUE.listing("BTC-USD"), product, {}),
    ):
        url = urlsplit(ask.path)
        assert (url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, ask.weight) == (path, query, 1)


ROWS: list[dict[str, Any]] = [x | {"bid": "", "ask": "", "exchange": "coinbase"} for x in (NEWER, OLDER)]


def answered(*rows: object) -> bytes:
    return raw({"trades": list(rows), "best_bid": "68923.66", "best_ask": "68923.67"})


def test_rest_trades_are_sorted_ticks_of_the_takers_side() -> None:
    assert VENUE.parse_trades(answered(*ROWS), AT_NS, "BTC-USD").ticks.tolist() == [FIRST, SECOND]
    assert len(VENUE.parse_trades(answered(), AT_NS, "BTC-USD").ticks) == 0
    nobody = answered(OLDER | {"side": "", "time": "2021-05-31T09:59:59.000Z"})  # as documented
    assert VENUE.parse_trades(nobody, AT_NS, "BTC-USD").ticks["side"].tolist() == [0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"error":"INVALID_ARGUMENT","message":"limit is required"}',
        answered(*ROWS, 5),
        answered(ROWS[0] | {"price": "0"}),
        answered(ROWS[0] | {"size": "NaN"}),
        answered(ROWS[0] | {"trade_id": "34b080bf-fcfd-445a-832b-46b5ddc65601"}),
        answered(ROWS[0] | {"side": "UNKNOWN"}),
        answered(ROWS[0] | {"time": "2008-12-31T00:00:00Z"}),
        answered(ROWS[0] | {"time": "2999-01-01T00:00:00Z"}),
        answered(ROWS[0], ROWS[1] | {"product_id": "ETH-USD"}),
        b"[" * 100_000,
    ],
    ids=range(13),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_trades(body, AT_NS, "BTC-USD")
    assert caught.value.raw == body[:1024]


PRODUCT = {
    "product_id": "BTC-USD",
    "price": "65086.18",
    "base_increment": "0.00000001",
    "quote_increment": "0.01",
    "is_disabled": False,
    "status": "online",
    "cancel_only": False,
    "limit_only": False,
    "post_only": False,
    "trading_disabled": False,
    "auction_mode": False,
    "product_type": "SPOT",
    "fcm_trading_session_details": None,
    "alias": "",
    "alias_to": ["BTC-USDC"],
    "view_only": False,
    "price_increment": "0.01",
}


def listing(**changes: object) -> Listing:
    return VENUE.parse_listing(raw(PRODUCT | changes), "BTC-USD")


def test_a_listing_tells_status_and_tick_size() -> None:
    assert listing() == Listing("online", trading=True, tick_size=0.01)
    assert listing(limit_only=True).trading
    assert listing(status="delisted", price_increment="0") == Listing("delisted", trading=False)
    assert listing(trading_disabled=True) == Listing("online", trading=False, tick_size=0.01)


def test_an_alias_and_a_future_are_not_followed() -> None:
    with pytest.raises(Unlisted, match="the book of BTC-EUR: follow that"):
        listing(alias="BTC-EUR")
    with pytest.raises(Unlisted, match="no spot product: FUTURE"):
        listing(product_type="FUTURE")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"error":"NOT_FOUND","message":"no such product"}',
        raw(PRODUCT | {"product_id": "ETH-USD"}),
        raw(PRODUCT | {"price_increment": "one"}),
        raw(PRODUCT | {"price_increment": "nan"}),
    ],
    ids=range(5),
)
def test_a_bad_listing_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_listing(body, "BTC-USD")
    assert caught.value.raw == body[:1024]


def test_only_the_venues_own_404_says_that_a_product_is_unlisted() -> None:
    assert VENUE.is_unlisted(404, b'{"error":"NOT_FOUND","message":"no such product"}')
    assert not VENUE.is_unlisted(404, b"<html>404</html>")
    assert not VENUE.is_unlisted(401, b'{"message":"Unauthorized"}')


def test_damaged_answers_of_rest_are_trades_or_refused() -> None:
    rng = random.Random(7)
    sound = 0
    body = answered(*ROWS)
    for i in range(20_000):
        bad = (damaged if i % 2 else twisted)(body, rng)
        try:
            got = VENUE.parse_trades(bad, AT_NS, "BTC-USD").ticks
        except (BadFrame, Retryable):
            continue
        sound += 1
        assert (got["trade_id"][1:] >= got["trade_id"][:-1]).all(), bad
        assert ((got["price"] > 0) & (got["size"] > 0) & (got["ts_ns"] > 0)).all(), bad
        assert (got["price"] < 1e300).all(), bad
    assert 500 < sound < 15_000


def test_damaged_listings_are_listings_or_refused() -> None:
    rng = random.Random(8)
    for i in range(5_000):
        bad = (damaged if i % 2 else twisted)(raw(PRODUCT), rng)
        try:
            got = VENUE.parse_listing(bad, "BTC-USD")
        except (BadFrame, Retryable):
            continue
        assert got.tick_size is None or 0.0 < got.tick_size < 1e300, bad
