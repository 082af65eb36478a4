"""Requests and their answers, and the whole conversation with what the documents say the venue says."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from feeds.kraken import VENUE
from feeds.venue import Ask, Listing, Notice, Parsed
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.inputs import Quote
from market.times import NS_PER_MS
from tests.feeds.dialect import FakeTrade
from tests.feeds.dialects.kraken import DIALECT

AT_NS = 1_790_000_000_000_000_000
ANSWER = (
    b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],'
    b'["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953],'
    b'["30243.30000","0.01235716",1688669602.698379,"s","m","",61044956]],"last":"1688671969993150842"}}'
)  # the documents' example
ROWS = [
    (61044952, 1688669597827736000, 30243.4, 0.34507674, AT_NS, 1),
    (61044953, 1688669598280411000, 30243.3, 0.0037696, AT_NS, -1),
    (61044956, 1688669602698379000, 30243.3, 0.01235716, AT_NS, -1),
]
PAIRS = (
    b'{"error":[],"result":{"XBTUSDT":{"altname":"XBTUSDT","wsname":"XBT/USDT","base":"XXBT","quote":"USDT",'
    b'"pair_decimals":1,"lot_decimals":8,"ordermin":"0.00005","tick_size":"0.1","status":"online"}}}'
)


def query(ask: Ask) -> tuple[str, dict[str, str]]:
    url = urlsplit(ask.path)
    return url.path, {k: v[0] for k, v in parse_qs(url.query).items()}


def test_subscribing_asks_for_trades_with_their_snapshot_and_for_quotes() -> None:
    (line,) = VENUE.lines("BTC-USD")
    trades, quotes = map(json.loads, line.requests)
    assert (line.path, line.acks) == ("/v2", 2)
    assert trades["params"] == {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}
    assert quotes["params"]["event_trigger"] == "bbo"
    assert (quotes["params"]["channel"], quotes["params"]["symbol"]) == ("ticker", ["BTC/USD"])
    assert {trades["method"], quotes["method"]} == {"subscribe"}
    assert json.loads(VENUE.rules.ping) == {"method": "ping"}
    assert (VENUE.rules.contiguous, VENUE.rules.pages_by_id) == (True, False)


def test_requests_name_their_parameters() -> None:
    pair = {"pair": "ETHEUR", "count": "1000"}
    assert query(VENUE.latest("ETH-EUR")) == ("/0/public/Trades", pair)
    since = {"since": "1688669597827735000"}
    assert query(VENUE.page("ETH-EUR", 5, 1688669597827736000)) == ("/0/public/Trades", pair | since)
    assert VENUE.page("ETH-EUR", 5, 0) == VENUE.latest("ETH-EUR")
    assert query(VENUE.listing("BTC-USDT")) == ("/0/public/AssetPairs", {"pair": "XBTUSDT"})
    assert query(VENUE.listing("DOGE-BTC"))[1] == {"pair": "XDGXBT"}


def test_the_documents_answer_is_ticks_of_whole_microseconds() -> None:
    got = VENUE.parse_trades(ANSWER, AT_NS, "BTC-USD")
    assert (got.ticks.tolist(), got.ids) == (ROWS, ())
    body = json.loads(ANSWER)
    body["result"]["XXBTZUSD"].reverse()
    body["result"]["last"] = 1688671969993150842
    assert VENUE.parse_trades(json.dumps(body).encode(), AT_NS, "BTC-USD").ticks.tolist() == ROWS
    warned = ANSWER.replace(b'"error":[]', b'"error":["WGeneral:Deprecated"]')
    assert VENUE.parse_trades(warned, AT_NS, "BTC-USD").ticks.tolist() == ROWS
    none = b'{"error":[],"result":{"XXBTZUSD":[],"last":"1688671969993150842"}}'
    assert len(VENUE.parse_trades(none, AT_NS, "BTC-USD").ticks) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"error":[]}',
        b'{"error":"no"}',
        b'{"error":[],"result":{}}',
        b'{"error":[],"result":{"last":"1"}}',
        b'{"error":[],"result":{"A":[],"B":[],"last":"1"}}',
        ANSWER.replace(b'"30243.40000"', b'"0"'),
        ANSWER.replace(b'"0.34507674"', b'"NaN"'),
        ANSWER.replace(b'"b"', b'"buy"'),
        ANSWER.replace(b"61044952", b"-1"),
        ANSWER.replace(b",61044952", b""),
        ANSWER.replace(b"1688669597.8277369", b"1e400"),
        ANSWER.replace(b"1688669597.8277369", b"1e300"),
        ANSWER.replace(b"1688669597.8277369", b'"NaN"'),
        ANSWER.replace(b"1688669597.8277369", b"1230767999.9999"),
        ANSWER.replace(b"1688669597.8277369", b"1790000600.1"),
        b"[" * 100_000,
    ],
    ids=range(20),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_trades(body, AT_NS, "BTC-USD")
    assert caught.value.raw == body[:1024]


@pytest.mark.parametrize(
    ("text", "error", "wait_s"),
    [
        ("EGeneral:Too many requests", RateLimited, 10.0),
        ("EAPI:Rate limit exceeded", RateLimited, 10.0),
        ("EService: Throttled: 1790000030", RateLimited, 30.0),
        ("EService: Throttled: 1690000030", RateLimited, 1.0),
        ("EService: Throttled: 1999999999", RateLimited, 600.0),
        ("EService: Throttled", RateLimited, 10.0),
        ("EQuery:Unknown asset pair", Unlisted, 0.0),
        ("EService:Unavailable", Retryable, 0.0),
        ("EGeneral:Invalid arguments", Retryable, 0.0),
    ],
)
def test_errors_come_in_the_body(text: str, error: type[Retryable], wait_s: float) -> None:
    for answer in ({"error": [text]}, {"error": [text], "result": {}}):
        body = json.dumps(answer).encode()
        with pytest.raises(Retryable, match=text) as caught:
            VENUE.parse_trades(body, AT_NS, "BTC-USD")
        assert type(caught.value) is error
        assert getattr(caught.value, "retry_after_s", 0.0) == wait_s
        with pytest.raises(error, match=text):
            VENUE.parse_listing(body, "BTC-USD")
        assert VENUE.is_unlisted(400, body) == (error is Unlisted)
    assert not VENUE.is_unlisted(404, b"<html>404</html>")


def test_a_listing_tells_status_and_tick_size() -> None:
    assert VENUE.parse_listing(PAIRS, "BTC-USDT") == Listing("online", True, 0.1)
    for status, trading in (("limit_only", True), ("cancel_only", False), ("post_only", False)):
        body = PAIRS.replace(b"online", status.encode()).replace(b'"tick_size":"0.1",', b"")
        assert VENUE.parse_listing(body, "BTC-USDT") == Listing(status, trading, None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":[],"result":{}}',
        b'{"error":[],"result":{"A":{"status":"online"},"B":{"status":"online"}}}',
        PAIRS.replace(b'"0.1"', b'"-0.1"'),
        PAIRS.replace(b'"0.1"', b'"inf"'),
        PAIRS.replace(b'"online"', b"1"),
    ],
)
def test_a_bad_listing_raises(body: bytes) -> None:
    with pytest.raises(BadFrame):
        VENUE.parse_listing(body, "BTC-USDT")


TAPE = [
    FakeTrade(n, AT_NS - (3_000 - n // 3) * NS_PER_MS, 65_000 + n / 8, n / 100_000, (-1) ** n)
    for n in range(1, 2_501)
]


def rows_of(tape: list[FakeTrade]) -> list[tuple[object, ...]]:
    return [(DIALECT.trade_id(x.number), x.ts_ns, x.price, x.size, AT_NS, x.side) for x in tape]


def heard(messages: list[str]) -> Parsed:
    return VENUE.parse([x.encode() for x in messages], [AT_NS] * len(messages), DIALECT.symbol)


def asked(ask: Ask) -> bytes:
    path, parameters = query(ask)
    status, body = DIALECT.rest(path, parameters, TAPE, AT_NS)
    assert status == 200
    return body


def test_what_the_dialect_says_on_the_socket_is_read_as_it_happened() -> None:
    (line,) = VENUE.lines(DIALECT.symbol)
    answers = [heard(DIALECT.answers(line.path, x, TAPE, AT_NS)) for x in line.requests]
    assert [sum(x.subscribed for x in got.notices) for got in answers] == [1, 1]
    assert answers[0].ticks.tolist() == rows_of(TAPE[-50:])
    assert answers[1].quote is not None
    assert heard(DIALECT.answers(line.path, VENUE.rules.ping, TAPE, AT_NS)).notices == [Notice("alive")]
    assert heard(DIALECT.trades(line.path, TAPE, AT_NS)).ticks.tolist() == rows_of(TAPE)
    assert heard(DIALECT.heartbeat(line.path, TAPE, AT_NS)).notices == [Notice("alive")]
    quote = heard(DIALECT.quote(line.path, 1.5, 0.00002, AT_NS)).quote
    assert quote == Quote(AT_NS, 1.5, 740.0, 0.00002, 1361.44813783, AT_NS)
    foreign = VENUE.lines("NO-PE")[0].requests[0]
    assert [x.kind for x in heard(DIALECT.answers(line.path, foreign, TAPE, AT_NS)).notices] == ["refused"]


def test_what_the_dialect_answers_is_read_as_it_happened() -> None:
    newest = VENUE.parse_trades(asked(VENUE.latest(DIALECT.symbol)), AT_NS, DIALECT.symbol)
    assert newest.ticks.tolist() == rows_of(TAPE[-1_000:])
    assert VENUE.parse_listing(asked(VENUE.listing(DIALECT.symbol)), DIALECT.symbol) == Listing(
        "online", True, 0.1
    )
    with pytest.raises(Unlisted):
        VENUE.parse_listing(asked(VENUE.listing("NO-PE")), "NO-PE")
    with pytest.raises(Retryable):
        VENUE.parse_trades(DIALECT.rest("/0/public/Nothing", {}, TAPE, AT_NS)[1], AT_NS, DIALECT.symbol)


@pytest.mark.parametrize("lost", [1, 2, 3, 500, 2_400])
def test_pages_by_time_give_back_what_is_asked_for(lost: int) -> None:
    """Walk as the caller does: the time of the last trade that is known, of which others may follow."""
    known, back = lost - 1, []
    while known < len(TAPE):
        from_ns = TAPE[known - 1].ts_ns if known else TAPE[0].ts_ns
        ask = VENUE.page(DIALECT.symbol, known + 1, from_ns)
        ticks = VENUE.parse_trades(asked(ask), AT_NS, DIALECT.symbol).ticks
        page = ticks[ticks["trade_id"] > DIALECT.trade_id(known)].tolist()
        assert page
        back += page
        known += len(page)
    assert back == rows_of(TAPE[lost - 1 :])
