from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from feeds.okx import FUTURES, SPOT
from feeds.venue import Ask, Listing
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from tests.feeds.json_support import raw
from tests.feeds.okx_support import AT_NS, INSTRUMENT, MS, ROW, SWAP, SYMBOL, TICK, reply


@pytest.mark.parametrize(
    ("ask", "path", "query", "weight"),
    [
        (SPOT.latest(SYMBOL), "market/trades", {"instId": SYMBOL, "limit": "500"}, 1),
        (
            SPOT.page(SYMBOL, 7, AT_NS),
            "market/history-trades",
            {"instId": SYMBOL, "type": "1", "after": "107", "limit": "100"},
            5,
        ),
        (SPOT.listing(SYMBOL), "public/instruments", {"instType": "SPOT", "instId": SYMBOL}, 5),
        (
            FUTURES.listing("BTC-USDT-SWAP"),
            "public/instruments",
            {"instType": "SWAP", "instId": "BTC-USDT-SWAP"},
            5,
        ),
        (
            FUTURES.listing("BTC-USD-260925"),
            "public/instruments",
            {"instType": "FUTURES", "instId": "BTC-USD-260925"},
            5,
        ),
    ],
)
def test_requests_name_their_parameters(ask: Ask, path: str, query: dict[str, str], weight: int) -> None:
    url = urlsplit(ask.path)
    assert url.path == f"/api/v5/{path}"
    assert {k: v[0] for k, v in parse_qs(url.query).items()} == query
    assert ask.weight == weight


def test_rest_trades_are_sorted_ticks() -> None:
    newer = ROW | {"tradeId": "130639475", "side": "sell"}
    got = SPOT.parse_trades(reply(newer, ROW), AT_NS, SYMBOL)
    assert (got.ticks.tolist(), got.ids) == ([TICK, (130639475, *TICK[1:5], -1)], ())
    assert len(SPOT.parse_trades(reply(), AT_NS, SYMBOL).ticks) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"data":[]}',
        raw({"code": "0", "msg": "", "data": {}}),
        reply(ROW, 5),
        reply(ROW | {"px": "0"}),
        reply(ROW | {"sz": "NaN"}),
        reply(ROW | {"tradeId": "-1"}),
        reply(ROW | {"ts": "0"}),
        reply(ROW | {"ts": str(AT_NS // MS + 10**9)}),
        reply(ROW | {"side": "BUY"}),
        reply(ROW | {"instId": "ETH-USDT"}),
        b"[" * 100_000,
    ],
    ids=range(14),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame):
        SPOT.parse_trades(body, AT_NS, SYMBOL)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("50011", RateLimited),
        ("50013", RateLimited),
        ("50040", RateLimited),
        ("51001", Unlisted),
        ("51015_1000", Unlisted),
        ("50026", Retryable),
        (1, Retryable),
    ],
)
def test_a_refusal_within_a_good_answer_is_told(code: object, error: type[Retryable]) -> None:
    for read in (
        lambda body: SPOT.parse_trades(body, AT_NS, SYMBOL),
        lambda body: SPOT.parse_listing(body, SYMBOL),
    ):
        with pytest.raises(error, match=str(code)) as caught:
            read(reply(code=code, msg="why"))
        assert type(caught.value) is error
    if error is RateLimited:
        with pytest.raises(RateLimited) as limited:
            SPOT.parse_trades(reply(code=code), AT_NS, SYMBOL)
        assert limited.value.retry_after_s > 2.0


def test_a_listing_tells_status_tick_and_contract_size() -> None:
    assert SPOT.parse_listing(reply(INSTRUMENT), SYMBOL) == Listing("live", True, 0.1, 1.0)
    resting = reply(INSTRUMENT | {"state": "suspend"})
    assert SPOT.parse_listing(resting, SYMBOL) == Listing("suspend", trading=False, tick_size=0.1)
    assert FUTURES.parse_listing(reply(SWAP), "BTC-USDT-SWAP") == Listing("live", True, 0.1, 0.01)


def test_sizes_of_an_inverse_contract_stay_contracts() -> None:
    inverse = SWAP | {"instId": "BTC-USD-SWAP", "ctType": "inverse", "ctVal": "100", "ctValCcy": "USD"}
    assert FUTURES.parse_listing(reply(inverse), "BTC-USD-SWAP").contract_size == 1.0


def test_what_is_not_there_or_only_announced_is_unlisted() -> None:
    announced = SWAP | {"state": "preopen", "tickSz": "", "ctType": "", "ctVal": ""}
    for body in (reply(), reply(SWAP | {"instId": "ETH-USDT-SWAP"}), reply(announced)):
        with pytest.raises(Unlisted, match="BTC-USDT-SWAP"):
            FUTURES.parse_listing(body, "BTC-USDT-SWAP")


@pytest.mark.parametrize(
    "change",
    [
        {"tickSz": "0"},
        {"tickSz": "one"},
        {"tickSz": "NaN"},
        {"ctVal": ""},
        {"ctVal": "0"},
        {"ctVal": "-0.01"},
        {"ctVal": "inf"},
        {"ctType": ""},
        {"ctType": "quanto"},
        {"state": None},
    ],
)
def test_a_bad_listing_raises(change: dict[str, object]) -> None:
    with pytest.raises(BadFrame):
        FUTURES.parse_listing(reply(SWAP | change), "BTC-USDT-SWAP")


def test_a_refusal_tells_whether_the_symbol_is_unknown() -> None:
    assert SPOT.is_unlisted(400, reply(code="51001", msg="Instrument ID doesn't exist."))
    assert SPOT.is_unlisted(400, raw({"code": "51021", "msg": "The pair or contract is not yet listed"}))
    assert not SPOT.is_unlisted(400, reply(code="51000", msg="Parameter limit error"))
    assert not SPOT.is_unlisted(403, b"<html>403 Forbidden</html>")
    assert not SPOT.is_unlisted(400, b"\xff")
