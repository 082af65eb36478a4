from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from feeds import binance_frames
from feeds.binance_spot import VENUE
from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Listing, Notice, Parsed
from market.errors import BadFrame
from market.inputs import Quote

AT_NS = 1_723_161_600_000_000_000
TRADE = {
    "e": "trade",
    "E": 1723161599991,
    "s": "BTCUSDT",
    "t": 3735693016,
    "p": "61686.00000000",
    "q": "0.00128000",
    "T": 1723161599990,
    "m": False,
    "M": True,
}
BOOK = {
    "u": 50093421611,
    "s": "BTCUSDT",
    "b": "61685.99000000",
    "B": "0.88739000",
    "a": "61686.00000000",
    "A": "2.44807000",
}
TICK = (3735693016, 1723161599990000000, 61686.0, 0.00128, AT_NS, 1)


def raw(payload: object) -> bytes:
    return json.dumps(payload).encode()


def parsed(*payloads: object, unit_ns: int = 1_000_000) -> Parsed:
    frames = [x if isinstance(x, bytes) else raw(x) for x in payloads]
    return binance_frames.parse(frames, [AT_NS] * len(frames), "BTCUSDT", unit_ns)


def test_a_trade_is_a_tick_of_the_takers_side() -> None:
    got = parsed(TRADE, TRADE | {"t": 3735693017, "m": True})
    assert got.ticks.tolist() == [TICK, (3735693017, *TICK[1:5], -1)]
    assert (got.quote, got.rejected, got.notices) == (None, [], [])
    assert got.venue_time_ns == 1723161599991000000


def test_raw_and_combined_forms_read_alike() -> None:
    combined = {"stream": "btcusdt@trade", "data": TRADE}
    book = {"stream": "btcusdt@bookTicker", "data": BOOK}
    assert parsed(combined, book).ticks.tolist() == parsed(TRADE, BOOK).ticks.tolist() == [TICK]
    expected = Quote(0, 61685.99, 0.88739, 61686.0, 2.44807, AT_NS)
    assert parsed(combined, book).quote == parsed(TRADE, BOOK).quote == expected


def test_order_ids_and_unknown_keys_are_ignored() -> None:
    assert parsed(TRADE | {"b": 88, "a": 77, "new": {"deep": [1]}}).ticks.tolist() == [TICK]
    odd = TRADE | {"b": None, "a": "77a", "A": [], "B": {}}  # of no matter in a trade
    assert parsed(odd).ticks.tolist() == [TICK]
    assert parsed(BOOK | {"E": 1723161599991, "p": "x"}).quote == parsed(BOOK).quote


def test_the_latest_quote_wins() -> None:
    assert parsed(BOOK, TRADE, BOOK | {"b": "1"}).quote == Quote(0, 1.0, 0.88739, 61686.0, 2.44807, AT_NS)


def test_the_latest_quote_wins_in_whichever_form_it_came() -> None:
    combined = {"stream": "btcusdt@bookTicker", "data": BOOK | {"b": "1"}}
    assert parsed(combined, TRADE, BOOK).quote == parsed(BOOK).quote
    assert parsed(BOOK, TRADE, combined).quote == parsed(combined).quote


def test_microseconds_are_told_not_guessed() -> None:
    micro = TRADE | {"E": 1723161599990007, "T": 1723161599990005}
    got = parsed(micro, unit_ns=1_000)
    assert got.ticks["ts_ns"].tolist() == [1723161599990005000]
    assert got.venue_time_ns == 1723161599990007000
    assert [x.reason for x in parsed(micro).rejected] == ["time in the far future"]
    assert [x.reason for x in parsed(TRADE, unit_ns=1_000).rejected] == ["time before 2009"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": "0.00000000"}, "price 0.00000000"),
        ({"p": "-1"}, "price -1"),
        ({"p": "NaN"}, "price NaN"),
        ({"p": "inf"}, "price inf"),
        ({"p": "abc"}, "price abc"),
        ({"p": None}, "price None"),
        ({"p": True}, "price True"),
        ({"p": "1" * 400}, "price " + "1" * 40),
        ({"q": "0"}, "size 0"),
        ({"q": []}, "size []"),
        ({"t": -1}, "id -1"),
        ({"t": 2**53 + 1}, f"id {2**53 + 1}"),
        ({"t": 10**100}, "id 1" + "0" * 39),
        ({"t": 1.5}, "id 1.5"),
        ({"t": None}, "id None"),
        ({"T": 1230767999999}, "time before 2009"),
        ({"T": -(10**30)}, "time before 2009"),
        ({"T": 10**30}, "time in the far future"),
        ({"T": (AT_NS + MAX_AHEAD_NS) // 10**6 + 1}, "time in the far future"),
        ({"E": (AT_NS + MAX_AHEAD_NS) // 10**6 + 1}, "time in the far future"),
        ({"T": "soon"}, "time soon"),
        ({"s": "ETHUSDT"}, "symbol ETHUSDT"),
        ({"s": 7}, "symbol 7"),
        ({"m": None}, "side None"),
        ({"m": "no"}, "side no"),
        ({"e": 5}, "type 5"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], reason: str) -> None:
    got = parsed(TRADE, TRADE | change, TRADE)
    assert got.ticks.tolist() == [TICK, TICK]
    assert [(x.received_ns, x.reason, x.raw) for x in got.rejected] == [(AT_NS, reason, raw(TRADE | change))]
    assert got.venue_time_ns == 1723161599991000000
    assert got.notices == []


@pytest.mark.parametrize("key", ["E", "s", "t", "p", "q", "T", "m"])
def test_a_missing_field_is_named(key: str) -> None:
    got = parsed({k: v for k, v in TRADE.items() if k != key})
    assert len(got.ticks) == 0
    assert [x.reason.split()[0] for x in got.rejected] == ["no"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"b": "0.00000000"}, "bid price 0.00000000"),
        ({"B": "NaN"}, "bid size NaN"),
        ({"a": "-inf"}, "ask price -inf"),
        ({"A": None}, "ask size None"),
        ({"s": "ETHUSDT"}, "symbol ETHUSDT"),
    ],
)
def test_a_bad_quote_is_rejected_and_does_not_replace_a_good_one(change: dict[str, str], reason: str) -> None:
    got = parsed(BOOK, BOOK | change)
    assert [x.reason for x in got.rejected] == [reason]
    assert got.quote == parsed(BOOK).quote


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"5",
        b"[]",
        b'"trade"',
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b'{"e":"trade","s":"\xff"}',
        b'{"data":5}',
        raw(TRADE) + b"x",
        raw(TRADE) + b"\n" + raw(TRADE),
    ],
    ids=range(13),
)
def test_junk_is_rejected_and_cut(junk: bytes) -> None:
    got = parsed(TRADE, junk, BOOK)
    assert got.ticks.tolist() == [TICK]
    assert got.quote is not None
    assert [x.raw for x in got.rejected] == [junk[:1024]]


def test_the_longest_time_allowed_is_a_day_after_each_frames_own_receipt() -> None:
    future = TRADE | {"T": (AT_NS + MAX_AHEAD_NS) // 10**6}
    both = binance_frames.parse(
        [raw(TRADE), raw(future), raw(future)], [AT_NS - 1, AT_NS, AT_NS - 1], "BTCUSDT"
    )
    assert both.ticks["received_ns"].tolist() == [AT_NS - 1, AT_NS]
    assert both.venue_time_ns == AT_NS + MAX_AHEAD_NS
    assert len(both.rejected) == 1


def test_acks_errors_and_shutdown_are_noticed() -> None:
    got = parsed(
        {"result": None, "id": 1},
        {"code": 2, "msg": "Invalid request: too many parameters"},
        {"error": {"code": 3, "msg": "Invalid JSON"}, "id": "a"},
        {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1723161599991}},
    )
    assert got.notices == [
        Notice("subscribed", id=1),
        Notice("refused", "Invalid request: too many parameters", None, 2),
        Notice("refused", "Invalid JSON", "a", 3),
        Notice("shutdown"),
    ]
    assert [notice.subscribed for notice in got.notices] == [True, False, False, False]
    assert got.venue_time_ns == 1723161599991000000
    assert got.rejected == []


def test_unknown_types_are_named_once_and_counted() -> None:
    depth = {"e": "depthUpdate", "E": 1723161599991, "b": [["1", "2"]], "a": []}
    got = parsed(depth, {"e": "kline", "k": {}}, TRADE, depth, {"lastUpdateId": 1, "asks": []})
    assert got.notices == [
        Notice("unknown", "depthUpdate", count=2),
        Notice("unknown", "kline"),
        Notice("unknown", "asks,lastUpdateId"),
    ]
    assert len(got.ticks) == 1


def test_a_foreign_message_cannot_move_the_clock_into_the_future() -> None:
    got = parsed({"e": "serverShutdown", "E": 99999999999999})
    assert [x.reason for x in got.rejected] == ["time in the far future"]
    assert got.venue_time_ns == 0


def test_an_empty_batch_is_empty() -> None:
    got = parsed()
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.rejected, got.notices) == (0, None, 0, [], [])


def test_subscribing_asks_for_trades_and_quotes() -> None:
    (line,) = VENUE.lines("BTCUSDT")
    (request,) = line.requests
    params = ["btcusdt@trade", "btcusdt@bookTicker"]
    assert json.loads(request) == {"method": "SUBSCRIBE", "params": params, "id": 1}
    assert (line.path, line.acks) == ("/ws", 1)


def test_requests_name_their_parameters() -> None:
    for request, path, query in (
        (
            VENUE.page("BTCUSDT", 5, 0).path,
            "historicalTrades",
            {"symbol": "BTCUSDT", "fromId": "5", "limit": "1000"},
        ),
        (VENUE.latest("BTCUSDT").path, "trades", {"symbol": "BTCUSDT", "limit": "1000"}),
        (VENUE.listing("币安USDT").path, "exchangeInfo", {"symbol": "币安USDT"}),
    ):
        url = urlsplit(request)
        assert url.path == f"/api/v3/{path}"
        assert {k: v[0] for k, v in parse_qs(url.query).items()} == query
        assert request.isascii()


ROW = {
    "id": 28457,
    "price": "4.00000100",
    "qty": "12.00000000",
    "quoteQty": "48.000012",
    "time": 1499865549590,
    "isBuyerMaker": True,
    "isBestMatch": True,
}


def test_rest_trades_are_sorted_ticks() -> None:
    later = ROW | {"id": 28458, "isBuyerMaker": False}
    got = VENUE.parse_trades(raw([later, ROW]), AT_NS, "BTCUSDT").ticks
    first = (28457, 1499865549590000000, 4.000001, 12.0, AT_NS, -1)
    assert got.tolist() == [first, (28458, *first[1:5], 1)]
    assert len(VENUE.parse_trades(b"[]", AT_NS, "BTCUSDT").ticks) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        raw([ROW, 5]),
        raw([ROW | {"price": "0"}]),
        raw([ROW | {"qty": "NaN"}]),
        raw([ROW | {"id": -1}]),
        raw([ROW | {"time": 0}]),
        raw([ROW | {"time": 10**30}]),
        raw([ROW | {"time": AT_NS // 10**6 + 10**9}]),
        raw([{"id": 1}]),
        b"[" * 100_000,
    ],
    ids=range(12),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_trades(body, AT_NS, "BTCUSDT")
    assert caught.value.raw == body[:1024]


def listing(**changes: object) -> bytes:
    one = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "filters": [
            {"filterType": "LOT_SIZE", "stepSize": "0.1"},
            {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        ],
    }
    return raw({"timezone": "UTC", "symbols": [one | changes]})


def test_a_listing_tells_status_and_tick_size() -> None:
    assert VENUE.parse_listing(listing(), "BTCUSDT") == Listing("TRADING", trading=True, tick_size=0.01)
    broken = VENUE.parse_listing(listing(status="BREAK", filters=[]), "BTCUSDT")
    assert broken == Listing("BREAK", trading=False)
    free = [{"filterType": "PRICE_FILTER", "tickSize": "0.00000000"}]
    assert VENUE.parse_listing(listing(filters=free), "BTCUSDT").tick_size is None


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"symbols":[]}',
        b'{"symbols":[{"status":"TRADING"}]}',
        b"<html>",
        listing(filters=[{"filterType": "PRICE_FILTER", "tickSize": "one"}]),
        listing(filters=[{"filterType": "PRICE_FILTER", "tickSize": None}]),
    ],
)
def test_a_bad_listing_raises(body: bytes) -> None:
    with pytest.raises(BadFrame):
        VENUE.parse_listing(body, "BTCUSDT")


def test_an_unlisted_symbol_is_told_from_other_refusals() -> None:
    assert VENUE.is_unlisted(400, b'{"code":-1121,"msg":"Invalid symbol."}')
    for body in (b'{"code":-1100,"msg":"Illegal characters"}', b"<html>403 Forbidden</html>", b"\xff", b"[]"):
        assert not VENUE.is_unlisted(400, body)
