from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from feeds.binance_usdm import VENUE
from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Ask, Listing, Notice, Parsed
from market.errors import BadFrame, Unlisted
from market.inputs import Quote
from tests.feeds.dialect import Dialect, FakeTrade
from tests.feeds.dialects.binance_usdm import DAY_NS, DIALECT, BinanceUsdm

AT_NS = 1_723_161_600_000_000_000
MS = 1_000_000
TRADE = {  # as documented, with the times of another day
    "e": "aggTrade",
    "E": 1723161599991,
    "s": "BTCUSDT",
    "a": 5933014,
    "p": "0.001",
    "q": "100",
    "nq": "100",
    "f": 100,
    "l": 105,
    "T": 1723161599890,
    "m": True,
}
BOOK = {
    "e": "bookTicker",
    "u": 400900217,
    "E": 1568014460893,
    "T": 1568014460891,
    "s": "BTCUSDT",
    "b": "25.35190000",
    "B": "31.21000000",
    "a": "25.36520000",
    "A": "40.66000000",
}
ROW = {
    "a": 26129,
    "p": "0.01633102",
    "q": "4.70443515",
    "f": 27781,
    "l": 27781,
    "T": 1498793709153,
    "m": True,
}
TICK = (5933014, 1723161599890 * MS, 0.001, 100.0, AT_NS, -1)
QUOTE = Quote(1568014460891 * MS, 25.3519, 31.21, 25.3652, 40.66, AT_NS)


def raw(payload: object) -> bytes:
    return json.dumps(payload).encode()


def parsed(*payloads: object) -> Parsed:
    frames = [x if isinstance(x, bytes) else raw(x) for x in payloads]
    return VENUE.parse(frames, [AT_NS] * len(frames), "BTCUSDT")


def test_an_aggregate_is_a_tick_of_the_takers_side() -> None:
    got = parsed(TRADE, TRADE | {"a": 5933015, "m": False})
    assert got.ticks.tolist() == [TICK, (5933015, *TICK[1:5], 1)]
    assert (got.quote, got.rejected, got.notices, got.ids, got.newest_id) == (None, [], [], (), 0)
    assert got.venue_time_ns == 1723161599991 * MS


def test_raw_and_combined_forms_read_alike() -> None:
    combined = {"stream": "btcusdt@aggTrade", "data": TRADE}
    book = {"stream": "btcusdt@bookTicker", "data": BOOK}
    assert parsed(combined, book).ticks.tolist() == parsed(TRADE, BOOK).ticks.tolist() == [TICK]
    assert parsed(combined, book).quote == parsed(TRADE, BOOK).quote == QUOTE


def test_neither_the_order_of_keys_nor_unknown_ones_matter() -> None:
    backwards = dict(reversed((TRADE | {"st": 1, "new": {"deep": [1]}}).items()))
    assert parsed(backwards).ticks.tolist() == [TICK]
    assert parsed(dict(reversed(BOOK.items()))).quote == QUOTE


def test_ids_of_fills_may_jump_and_are_not_looked_at() -> None:
    got = parsed(TRADE, TRADE | {"a": 5933015, "f": 107, "l": 107}, TRADE | {"a": 5933016, "f": None})
    assert got.ticks["trade_id"].tolist() == [5933014, 5933015, 5933016]


def test_a_quote_carries_the_time_of_its_transaction() -> None:
    got = parsed(BOOK, BOOK | {"b": "25.36", "T": 1568014460892, "E": 1568014460894})
    assert got.quote == Quote(1568014460892 * MS, 25.36, 31.21, 25.3652, 40.66, AT_NS)
    assert got.venue_time_ns == 1568014460894 * MS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": "0.00000000"}, "price 0.00000000"),
        ({"p": "-1"}, "price -1"),
        ({"p": "NaN"}, "price NaN"),
        ({"p": "inf"}, "price inf"),
        ({"p": "1e999"}, "price 1e999"),
        ({"p": None}, "price None"),
        ({"p": True}, "price True"),
        ({"p": "1" * 400}, "price " + "1" * 40),
        ({"q": "0"}, "size 0"),
        ({"q": []}, "size []"),
        ({"a": -1}, "id -1"),
        ({"a": 2**53 + 1}, f"id {2**53 + 1}"),
        ({"a": 1.5}, "id 1.5"),
        ({"T": 1230767999999}, "time before 2009"),
        ({"T": -(10**30)}, "time before 2009"),
        ({"T": 10**30}, "time in the far future"),
        ({"T": (AT_NS + MAX_AHEAD_NS) // MS + 1}, "time in the far future"),
        ({"E": (AT_NS + MAX_AHEAD_NS) // MS + 1}, "time in the far future"),
        ({"E": 123456789}, "time before 2009"),
        ({"T": "soon"}, "time soon"),
        ({"s": "ETHUSDT"}, "symbol ETHUSDT"),
        ({"s": 7}, "symbol 7"),
        ({"m": None}, "side None"),
        ({"e": 5}, "type 5"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], reason: str) -> None:
    got = parsed(TRADE, TRADE | change, TRADE)
    assert got.ticks.tolist() == [TICK, TICK]
    assert [(x.received_ns, x.reason, x.raw) for x in got.rejected] == [(AT_NS, reason, raw(TRADE | change))]
    assert got.venue_time_ns == 1723161599991 * MS
    assert got.notices == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"b": "0.00000000"}, "bid price 0.00000000"),
        ({"B": "NaN"}, "bid size NaN"),
        ({"a": "-inf"}, "ask price -inf"),
        ({"A": None}, "ask size None"),
        ({"s": "ETHUSDT"}, "symbol ETHUSDT"),
        ({"T": 10**16}, "time in the far future"),
        ({"T": 5}, "time before 2009"),
        ({"E": "x"}, "event time x"),
    ],
)
def test_a_bad_quote_is_rejected_and_does_not_replace_a_good_one(
    change: dict[str, object], reason: str
) -> None:
    got = parsed(BOOK, BOOK | change)
    assert [x.reason for x in got.rejected] == [reason]
    assert got.quote == QUOTE


@pytest.mark.parametrize(("frame", "keys"), [(TRADE, "EsapqTm"), (BOOK, "EsTbBaA")])
def test_a_missing_field_is_named(frame: dict[str, object], keys: str) -> None:
    for key in keys:
        got = parsed({k: v for k, v in frame.items() if k != key})
        assert [x.reason.split()[0] for x in got.rejected] == ["no"]
        assert (len(got.ticks), got.quote) == (0, None)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"aggTrade"',
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b'{"e":"aggTrade","s":"\xff"}',
        b'{"data":5}',
        raw(TRADE) + b"x",
        raw([TRADE]),
    ],
    ids=range(12),
)
def test_junk_is_rejected_and_cut(junk: bytes) -> None:
    got = parsed(TRADE, junk, BOOK)
    assert (got.ticks.tolist(), got.quote) == ([TICK], QUOTE)
    assert [x.raw for x in got.rejected] == [junk[:1024]]


def test_acks_errors_and_shutdown_are_noticed() -> None:
    got = parsed(
        {"result": None, "id": 1},
        {"code": 2, "msg": "Invalid request: too many parameters"},
        {"error": {"code": 3, "msg": "Invalid JSON"}, "id": "a"},
        {"e": "serverShutdown", "E": 1723161599991},
    )
    assert got.notices == [
        Notice("subscribed", id=1),
        Notice("refused", "Invalid request: too many parameters", None, 2),
        Notice("refused", "Invalid JSON", "a", 3),
        Notice("shutdown"),
    ]
    assert (got.venue_time_ns, got.rejected) == (1723161599991 * MS, [])


def test_unknown_types_are_named_once_and_counted() -> None:
    trade = {"e": "trade", "E": 1723161599991, "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "m": True}
    got = parsed(trade, {"e": "kline", "k": {}}, TRADE, trade, {"result": ["btcusdt@aggTrade"], "id": 3})
    assert got.notices == [
        Notice("unknown", "trade", count=2),
        Notice("unknown", "kline"),
        Notice("unknown", "id,result"),
    ]
    assert got.ticks.tolist() == [TICK]


def test_each_stream_is_asked_for_on_its_own_root() -> None:
    lines = VENUE.lines("BTCUSDT")
    assert [(x.path, x.acks) for x in lines] == [("/market/ws", 1), ("/public/ws", 1)]
    assert [json.loads(x) for line in lines for x in line.requests] == [
        {"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 1},
        {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1},
    ]


@pytest.mark.parametrize(
    ("ask", "path", "query", "weight"),
    [
        (VENUE.latest("BTCUSDT"), "aggTrades", {"symbol": "BTCUSDT", "limit": "1000"}, 20),
        (
            VENUE.page("币安USDT", 5, AT_NS),
            "aggTrades",
            {"symbol": "币安USDT", "fromId": "5", "limit": "1000"},
            20,
        ),
        (VENUE.listing("BTCUSDT"), "exchangeInfo", {}, 1),
    ],
)
def test_requests_name_their_parameters(ask: Ask, path: str, query: dict[str, str], weight: int) -> None:
    url = urlsplit(ask.path)
    assert url.path == f"/fapi/v1/{path}"
    assert {k: v[0] for k, v in parse_qs(url.query).items()} == query
    assert ask.weight == weight
    assert ask.path.isascii()


def test_rest_trades_are_sorted_ticks() -> None:
    later = ROW | {"a": 26130, "m": False}
    first = (26129, 1498793709153 * MS, 0.01633102, 4.70443515, AT_NS, -1)
    got = VENUE.parse_trades(raw([later, ROW]), AT_NS, "BTCUSDT")
    assert (got.ticks.tolist(), got.ids) == ([first, (26130, *first[1:5], 1)], ())
    assert len(VENUE.parse_trades(b"[]", AT_NS, "BTCUSDT").ticks) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        raw({"code": -1003, "msg": "Too many requests"}),
        raw([ROW, 5]),
        raw([ROW | {"p": "0"}]),
        raw([ROW | {"q": "NaN"}]),
        raw([ROW | {"a": -1}]),
        raw([ROW | {"T": 0}]),
        raw([ROW | {"T": 10**30}]),
        raw([ROW | {"T": AT_NS // MS + 10**9}]),
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_a_bad_answer_raises(body: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        VENUE.parse_trades(body, AT_NS, "BTCUSDT")
    assert caught.value.raw == body[:1024]


def listings(**changes: object) -> bytes:
    filters = [{"filterType": "LOT_SIZE"}, {"filterType": "PRICE_FILTER", "tickSize": "0.10"}]
    one = {"symbol": "BTCUSDT", "status": "TRADING", "filters": filters}
    other = {"symbol": "ETHUSDT", "status": "CLOSE", "filters": []}
    return raw({"rateLimits": [], "symbols": [other, one | changes]})


def test_a_listing_is_found_among_all() -> None:
    assert VENUE.parse_listing(listings(), "BTCUSDT") == Listing("TRADING", True, 0.1, 1.0)
    assert VENUE.parse_listing(listings(status="SETTLING", filters=[]), "BTCUSDT") == Listing(
        "SETTLING", trading=False
    )
    assert VENUE.parse_listing(listings(), "ETHUSDT") == Listing("CLOSE", trading=False)
    with pytest.raises(Unlisted, match="NOSUCH"):
        VENUE.parse_listing(listings(), "NOSUCH")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"<html>",
        listings(status=None),
        listings(filters=[{"filterType": "PRICE_FILTER", "tickSize": "one"}]),
        listings(filters=[{"filterType": "PRICE_FILTER"}]),
    ],
)
def test_a_bad_listing_raises(body: bytes) -> None:
    with pytest.raises(BadFrame):
        VENUE.parse_listing(body, "BTCUSDT")


def test_a_refusal_tells_whether_the_symbol_is_unknown() -> None:
    assert VENUE.is_unlisted(400, b'{"code":-1121,"msg":"Invalid symbol."}')
    assert not VENUE.is_unlisted(400, b'{"code":-1130,"msg":"Data sent for parameter is not valid."}')
    assert not VENUE.is_unlisted(403, b"<html>403 Forbidden</html>")
    assert not VENUE.is_unlisted(400, b"\xff")


TAPE = [
    FakeTrade(
        n, AT_NS - (3_000 - n) * 70 * MS, 60_000.0 + n % 37 / 10, n % 11 / 1000 + 0.001, 1 - 2 * (n % 3 > 0)
    )
    for n in range(1, 2_501)
]


def ticks_of(dialect: Dialect, tape: list[FakeTrade]) -> list[tuple[object, ...]]:
    return [(dialect.trade_id(x.number), x.ts_ns, x.price, x.size, AT_NS, x.side) for x in tape]


@pytest.mark.parametrize("mode", ["ws", "stream"])
def test_the_parser_reads_what_the_documents_let_a_venue_say(mode: str) -> None:
    market, public = f"/market/{mode}", f"/public/{mode}"
    said = DIALECT.trades(market, TAPE, AT_NS) + DIALECT.trades(public, TAPE, AT_NS)
    said += DIALECT.quote(market, 1.0, 2.0, AT_NS) + DIALECT.quote(public, 60_000.5, 60_000.6, AT_NS)
    got = parsed(*(x.encode() for x in said))
    assert got.ticks.tolist() == ticks_of(DIALECT, TAPE)
    assert got.quote == Quote(AT_NS - 2 * MS, 60_000.5, 31.21, 60_000.6, 40.66, AT_NS)
    assert (got.rejected, got.notices, got.venue_time_ns) == ([], [], AT_NS)


def test_what_is_asked_for_is_granted_even_where_it_never_comes() -> None:
    for line in VENUE.lines("BTCUSDT"):
        said = [x for request in line.requests for x in DIALECT.answers(line.path, request, TAPE, AT_NS)]
        assert parsed(*(x.encode() for x in said)).notices == [Notice("subscribed", id=1)] * line.acks
    said = DIALECT.answers("/ws", VENUE.lines("BTCUSDT")[0].requests[0], TAPE, AT_NS)
    assert parsed(*(x.encode() for x in said)).notices == [Notice("subscribed", id=1)]
    assert DIALECT.trades("/ws", TAPE, AT_NS) == []
    refused = [
        x.encode() for text in ("{", '{"method":"X","id":2}') for x in DIALECT.answers("/ws", text, [], 0)
    ]
    assert [(x.kind, x.code) for x in parsed(*refused).notices] == [("refused", 3), ("refused", 2)]


def asked(dialect: Dialect, ask: Ask) -> tuple[int, bytes]:
    url = urlsplit(ask.path)
    query = {k: v[0] for k, v in parse_qs(url.query).items()}
    return dialect.rest(url.path, query, TAPE, AT_NS)


def test_pages_from_an_id_on_join_to_the_whole_record() -> None:
    next_id, pages = DIALECT.trade_id(1), []
    while True:
        status, body = asked(DIALECT, VENUE.page("BTCUSDT", next_id, 0))
        ticks = VENUE.parse_trades(body, AT_NS, "BTCUSDT").ticks
        if status != 200 or not len(ticks):
            break
        pages.append(ticks)
        next_id = int(ticks["trade_id"][-1]) + 1
    assert [len(x) for x in pages] == [1_000, 1_000, 500]
    assert np.concatenate(pages).tolist() == ticks_of(DIALECT, TAPE)
    latest = VENUE.parse_trades(asked(DIALECT, VENUE.latest("BTCUSDT"))[1], AT_NS, "BTCUSDT").ticks
    assert latest.tolist() == ticks_of(DIALECT, TAPE[-1_000:])


def test_the_dialect_keeps_the_venues_limits() -> None:
    late = BinanceUsdm(kept_ns=DAY_NS).rest(
        "/fapi/v1/aggTrades", {"symbol": "BTCUSDT", "fromId": "0"}, TAPE, TAPE[1_000].ts_ns + DAY_NS
    )
    assert json.loads(late[1])[0]["a"] == DIALECT.trade_id(1_001)
    assert asked(DIALECT, Ask("/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1001"))[0] == 400
    assert asked(DIALECT, Ask("/api/v3/aggTrades?symbol=BTCUSDT"))[0] == 404
    assert VENUE.is_unlisted(*asked(DIALECT, VENUE.latest("NOSUCH")))
    body = asked(DIALECT, VENUE.listing("BTCUSDT"))[1]
    assert VENUE.parse_listing(body, "BTCUSDT") == Listing("TRADING", True, 0.1)
    assert not VENUE.parse_listing(body, "BLZUSDT").trading
