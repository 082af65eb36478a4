"""Requests and their answers, and the whole conversation with what the documents say the venue says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from feeds.bybit import LINEAR, SPOT
from feeds.venue import Ask, Listing, Notice, Parsed
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.inputs import Quote
from market.times import NS_PER_MS
from tests.feeds.dialect import FakeTrade
from tests.feeds.dialects import bybit as dialects
from tests.feeds.dialects.bybit import BybitDialect
from tests.feeds.test_bybit import AT_NS, raw


def query(ask: Ask) -> tuple[str, dict[str, str]]:
    url = urlsplit(ask.path)
    assert ask.path.isascii()
    return url.path, {k: v[0] for k, v in parse_qs(url.query).items()}


def test_requests_name_their_parameters() -> None:
    for venue, category, limit in ((SPOT, "spot", "60"), (LINEAR, "linear", "1000")):
        (line,) = venue.lines("BTCUSDT")
        assert (line.path, line.acks) == (f"/v5/public/{category}", 1)
        (request,) = map(json.loads, line.requests)
        assert request["op"] == "subscribe"
        assert request["args"] == ["publicTrade.BTCUSDT", "orderbook.1.BTCUSDT"]
        what = {"category": category, "symbol": "BTCUSDT"}
        assert query(venue.latest("BTCUSDT")) == ("/v5/market/recent-trade", what | {"limit": limit})
        assert venue.page("BTCUSDT", 5, AT_NS) == venue.latest("BTCUSDT")
        assert query(venue.listing("币安USDT"))[1] == {"category": category, "symbol": "币安USDT"}
        assert json.loads(venue.rules.ping) == {"op": "ping"}
        assert (venue.rules.contiguous, venue.rules.pages_by_id) == (False, False)
        assert venue.rules.too_many[403] >= 600.0


REST_ROW = {
    "execId": "2100000000007764263",
    "symbol": "BTCUSDT",
    "price": "16618.49",
    "size": "0.00012",
    "side": "Buy",
    "time": "1672052955758",
    "isBlockTrade": False,
    "isRPITrade": True,
    "seq": "123456",
}


def answer(*rows: Mapping[str, Any], **changes: object) -> bytes:
    result = {"category": "spot", "list": rows}
    return raw({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1} | changes)


def test_the_documents_answer_is_a_tick() -> None:
    got = SPOT.parse_trades(answer(REST_ROW), AT_NS, "BTCUSDT")
    assert got.ticks.tolist() == [(2100000000007764263, 1672052955758000000, 16618.49, 0.00012, AT_NS, 1)]
    assert got.ids == ()
    linear = LINEAR.parse_trades(answer(REST_ROW | {"execId": "a-1", "side": "Sell"}), AT_NS, "BTCUSDT")
    assert (linear.ids, linear.ticks["side"].tolist()) == (("a-1",), [-1])
    assert len(SPOT.parse_trades(answer(), AT_NS, "BTCUSDT").ticks) == 0


def test_trades_are_put_oldest_first_whichever_way_they_came() -> None:
    times = [1672052955700 + step for step in (5, 5, 6, 7, 7)]
    rows = [REST_ROW | {"execId": x, "time": str(time)} for x, time in zip("abcde", times, strict=True)]
    newest_first = LINEAR.parse_trades(answer(*reversed(rows)), AT_NS, "BTCUSDT")
    assert newest_first.ids == tuple("abcde")
    assert LINEAR.parse_trades(answer(*rows), AT_NS, "BTCUSDT").ids == tuple("abcde")
    same = [REST_ROW | {"execId": name} for name in "cba"]
    assert LINEAR.parse_trades(answer(*same), AT_NS, "BTCUSDT").ids == tuple("abc")
    numbers = [REST_ROW | {"execId": f"{x}"} for x in (9, 10, 11)]
    assert SPOT.parse_trades(answer(*numbers), AT_NS, "BTCUSDT").ticks["trade_id"].tolist() == [9, 10, 11]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        raw({"retCode": 0}),
        raw({"retCode": 0, "result": {}}),
        raw({"retCode": "none"}),
        answer(REST_ROW, {}),
        answer(REST_ROW | {"price": "0"}),
        answer(REST_ROW | {"size": "NaN"}),
        answer(REST_ROW | {"side": "None"}),
        answer(REST_ROW | {"execId": "a-1"}),
        answer(REST_ROW | {"symbol": "ETHUSDT"}),
        answer(REST_ROW | {"time": "0"}),
        answer(REST_ROW | {"time": str(10**30)}),
        answer(REST_ROW | {"time": str(AT_NS // 10**6 + 10**9)}),
        b"[" * 100_000,
    ],
    ids=range(17),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        SPOT.parse_trades(body, AT_NS, "BTCUSDT")
    assert caught.value.raw == body[:1024]


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (10006, "Too many visits!", RateLimited),
        (10018, "Exceeded the IP Rate Limit.", RateLimited),
        (10001, "params error: symbol invalid", Unlisted),
        (10001, "Not supported symbols", Unlisted),
        (10029, "The requested symbol is invalid", Unlisted),
        (10001, "params error: Category is invalid", Retryable),
        (10016, "Server error.", Retryable),
    ],
)
def test_errors_come_in_the_body(code: int, text: str, error: type[Retryable]) -> None:
    body = answer(retCode=code, retMsg=text, result={})
    for read in (
        lambda: SPOT.parse_trades(body, AT_NS, "BTCUSDT"),
        lambda: SPOT.parse_listing(body, "BTCUSDT"),
    ):
        with pytest.raises(Retryable, match=text) as caught:
            read()
        assert type(caught.value) is error
    assert SPOT.is_unlisted(400, body) == (error is Unlisted)
    assert not SPOT.is_unlisted(403, b"<html>403 Forbidden</html>")


def listing(**changes: object) -> bytes:
    """Give the documents' example of a spot symbol."""
    one = {
        "symbolId": 9,
        "symbol": "BTCUSDT",
        "baseCoin": "BTC",
        "quoteCoin": "USDT",
        "status": "Trading",
        "lotSizeFilter": {"basePrecision": "0.000001", "minOrderAmt": "5"},
        "priceFilter": {"tickSize": "0.1"},
    }
    return answer(one | changes)


def test_a_listing_tells_status_and_tick_size() -> None:
    assert SPOT.parse_listing(listing(), "BTCUSDT") == Listing("Trading", True, 0.1)
    closed = listing(status="PreLaunch", priceFilter={})
    assert LINEAR.parse_listing(closed, "BTCUSDT") == Listing("PreLaunch", False, None)
    with pytest.raises(Unlisted):
        SPOT.parse_listing(answer(), "BTCUSDT")
    with pytest.raises(Unlisted):
        SPOT.parse_listing(listing(symbol="ETHUSDT"), "BTCUSDT")


@pytest.mark.parametrize("step", ["one", None, "-1", "inf", "NaN", []])
def test_a_bad_listing_raises(step: object) -> None:
    with pytest.raises(BadFrame):
        SPOT.parse_listing(listing(priceFilter={"tickSize": step}), "BTCUSDT")


TAPE = [
    FakeTrade(n, AT_NS - (3_000 - n // 3) * NS_PER_MS, 65_000 + n / 8, n / 1_000, (-1) ** n)
    for n in range(1, 2_501)
]


def rows_of(dialect: BybitDialect, tape: list[FakeTrade]) -> list[tuple[object, ...]]:
    return [(dialect.trade_id(x.number), x.ts_ns, x.price, x.size, AT_NS, x.side) for x in tape]


def rows_read(got: Any) -> list[tuple[object, ...]]:
    numbers = got.ticks["trade_id"].tolist()
    return [(name, *row[1:]) for name, row in zip(got.ids or numbers, got.ticks.tolist(), strict=True)]


@pytest.mark.parametrize("dialect", [dialects.SPOT, dialects.LINEAR], ids=["spot", "linear"])
def test_what_the_dialect_says_is_read_as_it_happened(dialect: BybitDialect) -> None:
    venue, symbol = dialect.venue, dialect.symbol
    (line,) = venue.lines(symbol)

    def heard(messages: list[str]) -> Parsed:
        return venue.parse([x.encode() for x in messages], [AT_NS] * len(messages), symbol)

    answers = heard(dialect.answers(line.path, line.requests[0], TAPE, AT_NS))
    assert sum(x.subscribed for x in answers.notices) == line.acks
    assert answers.quote is not None
    assert heard(dialect.answers(line.path, venue.rules.ping, TAPE, AT_NS)).notices == [Notice("alive")]
    messages = dialect.trades(line.path, TAPE, AT_NS)
    assert len(messages) == 3
    assert rows_read(heard(messages)) == rows_of(dialect, TAPE)
    quote = heard(dialect.quote(line.path, 1.5, 0.00002, AT_NS)).quote
    assert quote == Quote(AT_NS - 2 * NS_PER_MS, 1.5, 1.5, 0.00002, 2.25, AT_NS)
    foreign = venue.lines("NOPE")[0].requests[0]
    assert [x.kind for x in heard(dialect.answers(line.path, foreign, TAPE, AT_NS)).notices] == ["refused"]

    def asked(ask: Ask) -> bytes:
        path, parameters = query(ask)
        status, body = dialect.rest(path, parameters, TAPE, AT_NS)
        assert status == 200
        return body

    newest = venue.parse_trades(asked(venue.latest(symbol)), AT_NS, symbol)
    assert rows_read(newest) == rows_of(dialect, TAPE[-venue.rules.page_limit :])
    assert venue.parse_listing(asked(venue.listing(symbol)), symbol) == Listing("Trading", True, 0.1)
    with pytest.raises(Unlisted):
        venue.parse_listing(asked(venue.listing("NOPE")), "NOPE")
    with pytest.raises(Unlisted):
        venue.parse_trades(asked(venue.latest("NOPE")), AT_NS, "NOPE")
    assert dialect.rest("/v5/market/klein", {}, TAPE, AT_NS)[0] == 404
