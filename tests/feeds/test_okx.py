from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from feeds.frames import MAX_AHEAD_NS
from feeds.okx import FUTURES, SPOT, Okx
from feeds.venue import Ask, Listing, Notice, Parsed
from market.errors import BadFrame, RateLimited, Retryable, Unlisted
from market.inputs import Quote
from tests.feeds.dialect import Dialect, FakeTrade
from tests.feeds.dialects import okx as dialects

AT_NS = 1_723_161_600_000_000_000
MS = 1_000_000
SYMBOL = "BTC-USDT"
ROW = {  # as documented, of trades-all and of REST alike
    "instId": SYMBOL,
    "tradeId": "130639474",
    "px": "42219.9",
    "sz": "0.12060306",
    "side": "buy",
    "source": "0",
    "ts": "1630048897897",
}
TICKER = {
    "instType": "SPOT",
    "instId": SYMBOL,
    "last": "9999.99",
    "lastSz": "0.1",
    "askPx": "9999.99",
    "askSz": "11",
    "bidPx": "8888.88",
    "bidSz": "5",
    "open24h": "9000",
    "high24h": "10000",
    "low24h": "8888.88",
    "volCcy24h": "2222",
    "vol24h": "2222",
    "sodUtc0": "2222",
    "sodUtc8": "2222",
    "ts": "1597026383085",
}
TICK = (130639474, 1630048897897 * MS, 42219.9, 0.12060306, AT_NS, 1)
QUOTE = Quote(1597026383085 * MS, 8888.88, 5.0, 9999.99, 11.0, AT_NS)
UPGRADE = "The connection will soon be closed for a service upgrade. Please reconnect."


def raw(payload: object) -> bytes:
    return json.dumps(payload).encode()


def pushed(channel: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"arg": {"channel": channel, "instId": SYMBOL}, "data": list(rows)}


TRADES, TICKERS = pushed("trades-all", ROW), pushed("tickers", TICKER)


def parsed(*payloads: object) -> Parsed:
    frames = [x if isinstance(x, bytes) else raw(x) for x in payloads]
    return SPOT.parse(frames, [AT_NS] * len(frames), SYMBOL)


def test_a_row_is_a_tick_of_the_takers_side() -> None:
    sold = ROW | {"tradeId": "130639475", "side": "sell", "source": "1"}
    got = parsed(TRADES, pushed("trades-all", sold))
    assert got.ticks.tolist() == [TICK, (130639475, *TICK[1:5], -1)]
    assert (got.quote, got.rejected, got.notices, got.ids, got.newest_id) == (None, [], [], (), 0)
    assert got.venue_time_ns == 1630048897897 * MS


def test_rows_of_one_frame_are_put_in_order() -> None:
    later = ROW | {"tradeId": "130639470", "ts": "1630048897898"}
    got = parsed(pushed("trades-all", later, ROW | {"tradeId": "130639475"}, ROW))
    assert got.ticks["trade_id"].tolist() == [130639474, 130639475, 130639470]


def test_a_quote_carries_its_time() -> None:
    assert parsed(TICKERS, TRADES).quote == QUOTE
    got = parsed(TICKERS, pushed("tickers", TICKER | {"bidPx": "8888.89", "ts": "1597026383185"}))
    assert got.quote == Quote(1597026383185 * MS, 8888.89, 5.0, 9999.99, 11.0, AT_NS)
    assert got.venue_time_ns == 1597026383185 * MS


def test_a_book_with_an_empty_side_is_no_quote_but_a_sign_of_life() -> None:
    for empty in ({"askPx": "", "askSz": ""}, {"bidPx": "", "bidSz": ""}):
        got = parsed(TICKERS, pushed("tickers", TICKER | empty | {"ts": "1597026383185"}))
        assert (got.quote, got.notices, got.rejected) == (QUOTE, [Notice("alive")], [])
        assert got.venue_time_ns == 1597026383185 * MS
    other = pushed("tickers", TICKER | {"askPx": "", "instId": "ETH-USDT"})
    assert [x.reason for x in parsed(other).rejected] == ["symbol ETH-USDT"]


def test_neither_the_order_of_keys_nor_unknown_ones_matter() -> None:
    def backwards(frame: dict[str, Any]) -> dict[str, Any]:
        rows = [dict(reversed((row | {"new": {"deep": [1]}}).items())) for row in frame["data"]]
        return {"connId": 5, "data": rows, "arg": dict(reversed(frame["arg"].items()))}

    got = parsed(backwards(TRADES), backwards(TICKERS))
    assert (got.ticks.tolist(), got.quote) == ([TICK], QUOTE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"px": "0"}, "price 0"),
        ({"px": "-1"}, "price -1"),
        ({"px": "NaN"}, "price NaN"),
        ({"px": "inf"}, "price inf"),
        ({"px": ""}, "price "),
        ({"px": None}, "price None"),
        ({"px": "1" * 400}, "price " + "1" * 40),
        ({"sz": "0"}, "size 0"),
        ({"sz": "1e999"}, "size 1e999"),
        ({"tradeId": "-1"}, "id -1"),
        ({"tradeId": str(2**53 + 1)}, f"id {2**53 + 1}"),
        ({"tradeId": "a9188a0a"}, "id a9188a0a"),
        ({"ts": "1230767999999"}, "time before 2009"),
        ({"ts": str((AT_NS + MAX_AHEAD_NS) // MS + 1)}, "time in the far future"),
        ({"ts": 10**30}, "time in the far future"),
        ({"ts": "soon"}, "time soon"),
        ({"side": "Buy"}, "side Buy"),
        ({"side": None}, "side None"),
        ({"instId": "ETH-USDT"}, "symbol ETH-USDT"),
        ({"instId": 7}, "symbol 7"),
    ],
)
def test_a_bad_field_is_named_and_the_frame_refused_whole(change: dict[str, object], reason: str) -> None:
    bad = pushed("trades-all", ROW, ROW | change)
    got = parsed(TRADES, bad, TRADES)
    assert got.ticks.tolist() == [TICK, TICK]
    assert [(x.received_ns, x.reason, x.raw) for x in got.rejected] == [(AT_NS, reason, raw(bad))]
    assert (got.venue_time_ns, got.notices) == (1630048897897 * MS, [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bidPx": "0"}, "bid price 0"),
        ({"bidSz": ""}, "bid size "),
        ({"askPx": "-inf"}, "ask price -inf"),
        ({"askSz": None}, "ask size None"),
        ({"instId": "ETH-USDT"}, "symbol ETH-USDT"),
        ({"ts": "99999999999999"}, "time in the far future"),
        ({"ts": "5"}, "time before 2009"),
    ],
)
def test_a_bad_quote_is_rejected_and_does_not_replace_a_good_one(
    change: dict[str, object], reason: str
) -> None:
    got = parsed(TICKERS, pushed("tickers", TICKER | change))
    assert [x.reason for x in got.rejected] == [reason]
    assert got.quote == QUOTE


@pytest.mark.parametrize(
    ("channel", "row", "keys"),
    [
        ("trades-all", ROW, ("instId", "tradeId", "px", "sz", "side", "ts")),
        ("tickers", TICKER, ("instId", "bidPx", "bidSz", "askPx", "askSz", "ts")),
    ],
)
def test_a_missing_field_is_named(channel: str, row: dict[str, str], keys: tuple[str, ...]) -> None:
    for key in keys:
        got = parsed(pushed(channel, {k: v for k, v in row.items() if k != key}))
        assert [x.reason.split()[0] for x in got.rejected] == ["no"]
        assert (len(got.ticks), got.quote) == (0, None)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"ping",
        b"pong ",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"[" * 100_000,
        raw(TRADES) + b"x",
        raw(TRADES | {"data": []}),
        raw(TRADES | {"data": {}}),
        raw(TRADES | {"data": [5]}),
        raw(TRADES | {"arg": 5}),
        raw(TRADES | {"arg": {"channel": 5, "instId": SYMBOL}}),
        raw(TRADES | {"arg": {"channel": "trades-all", "instId": "ETH-USDT"}}),
        raw(TICKERS | {"arg": {"channel": "tickers", "instId": "ETH-USDT"}}),
        raw({"event": 5}),
        raw({"event": "subscribe", "arg": {"channel": "tickers", "instId": "ETH-USDT"}}),
    ],
    ids=range(17),
)
def test_junk_is_rejected_and_cut(junk: bytes) -> None:
    got = parsed(TRADES, junk, TICKERS)
    assert (got.ticks.tolist(), got.quote, got.notices) == ([TICK], QUOTE, [])
    assert [x.raw for x in got.rejected] == [junk[:1024]]


def test_what_the_venue_tells_of_itself_is_noticed() -> None:
    got = parsed(
        {"id": "1512", "event": "subscribe", "arg": TRADES["arg"], "connId": "a4d3ae55"},
        {"event": "subscribe", "arg": TICKERS["arg"]},
        {"id": "1512", "event": "error", "code": "60012", "msg": "Invalid request: {}", "connId": "a4d3ae55"},
        b"pong",
        {"event": "notice", "code": "64008", "msg": UPGRADE, "connId": "a4d3ae55"},
    )
    assert got.notices == [
        Notice("subscribed", id="1512"),
        Notice("subscribed"),
        Notice("refused", "Invalid request: {}", "1512", 60012),
        Notice("alive"),
        Notice("shutdown", UPGRADE, code=64008),
    ]
    assert (got.rejected, got.venue_time_ns) == ([], 0)


def test_an_errors_code_is_read_as_far_as_it_is_one() -> None:
    codes = ["51008_1000", "", "six", 60012, None, "9" * 5_000, "٣"]
    told = [x.code for x in parsed(*({"event": "error", "code": code} for code in codes)).notices]
    assert told == [51008, 0, 0, 0, 0, int("9" * 16), 0]


def test_unknown_channels_and_events_are_named_once_and_counted() -> None:
    aggregated = pushed("trades", ROW | {"count": "3", "seqId": 1234})
    got = parsed(
        aggregated,
        TRADES,
        {"event": "notice", "code": "64009"},
        {"event": "unsubscribe"},
        {"b": 1, "a": 2},
        aggregated,
    )
    assert got.notices == [
        Notice("unknown", "trades", count=2),
        Notice("unknown", "notice"),
        Notice("unknown", "unsubscribe"),
        Notice("unknown", "a,b"),
    ]
    assert got.ticks.tolist() == [TICK]


def test_trades_and_quotes_come_over_a_socket_each() -> None:
    lines = SPOT.lines(SYMBOL)
    assert [(x.path, x.acks) for x in lines] == [("/ws/v5/business", 1), ("/ws/v5/public", 1)]
    assert [json.loads(x) for line in lines for x in line.requests] == [
        {"id": "1", "op": "subscribe", "args": [{"channel": "trades-all", "instId": SYMBOL}]},
        {"id": "1", "op": "subscribe", "args": [{"channel": "tickers", "instId": SYMBOL}]},
    ]
    assert (SPOT.rules.ping, SPOT.rules.ping_every_s < 30.0) == ("ping", True)
    assert (SPOT.rules.contracts, FUTURES.rules.contracts) == (False, True)


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


def reply(*rows: object, code: object = "0", msg: str = "") -> bytes:
    return raw({"code": code, "msg": msg, "data": list(rows)})


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


INSTRUMENT = {
    "instId": SYMBOL,
    "instType": "SPOT",
    "state": "live",
    "tickSz": "0.1",
    "ctType": "",
    "ctVal": "",
}
SWAP = {
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "state": "live",
    "tickSz": "0.1",
    "ctType": "linear",
    "ctVal": "0.01",
    "ctMult": "1",
    "ctValCcy": "BTC",
}


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


TAPE = [
    FakeTrade(
        n, AT_NS - (3_000 - n) * 70 * MS, 60_000.0 + n % 37 / 10, n % 11 / 1000 + 0.001, 1 - 2 * (n % 3 > 0)
    )
    for n in range(1, 1_251)
]
DIALECTS = pytest.mark.parametrize("dialect", [dialects.SPOT, dialects.FUTURES], ids=["spot", "futures"])


def ticks_of(dialect: Dialect, tape: list[FakeTrade]) -> list[tuple[object, ...]]:
    return [(dialect.trade_id(x.number), x.ts_ns, x.price, x.size, AT_NS, x.side) for x in tape]


def read(dialect: Dialect, said: list[str]) -> Parsed:
    return dialect.venue.parse([x.encode() for x in said], [AT_NS] * len(said), dialect.symbol)


def asked(dialect: Dialect, ask: Ask) -> tuple[int, bytes]:
    url = urlsplit(ask.path)
    return dialect.rest(url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, TAPE, AT_NS)


@DIALECTS
def test_the_parser_reads_what_the_documents_let_a_venue_say(dialect: dialects.Okx) -> None:
    business, public = "/ws/v5/business", "/ws/v5/public"
    said = dialect.trades(business, TAPE, AT_NS) + dialect.trades(public, TAPE, AT_NS)
    said += dialect.quote(business, 1.0, 2.0, AT_NS) + dialect.quote(public, 60_000.5, 60_000.6, AT_NS)
    got = read(dialect, said)
    assert got.ticks.tolist() == ticks_of(dialect, TAPE)
    assert got.quote == Quote(AT_NS, 60_000.5, 5.0, 60_000.6, 11.0, AT_NS)
    assert (got.rejected, got.notices) == ([], [])


@DIALECTS
def test_what_is_asked_for_where_it_lives_is_granted(dialect: dialects.Okx) -> None:
    business, public = dialect.venue.lines(dialect.symbol)
    granted = read(dialect, dialect.answers(business.path, business.requests[0], TAPE, AT_NS))
    assert granted.notices == [Notice("subscribed", id="1")]
    assert granted.ticks.tolist() == ticks_of(dialect, TAPE[-1:])
    said = dialect.answers(public.path, public.requests[0], TAPE, AT_NS)
    assert read(dialect, said).notices == [Notice("subscribed", id="1")]
    assert read(dialect, dialect.answers(public.path, "ping", TAPE, AT_NS)).notices == [Notice("alive")]


@DIALECTS
def test_what_is_asked_for_elsewhere_or_wrongly_is_refused(dialect: dialects.Okx) -> None:
    business, public = dialect.venue.lines(dialect.symbol)
    nosuch = dialect.venue.lines("NO-SUCH")[0].requests[0]
    for path, message, code in (
        (public.path, business.requests[0], 64001),
        (business.path, public.requests[0], 64002),
        (business.path, nosuch, 60018),
        (business.path, "{", 60012),
        (business.path, '{"op":"subscribe"}', 60012),
    ):
        notices = read(dialect, dialect.answers(path, message, TAPE, AT_NS)).notices
        assert [(x.kind, x.code) for x in notices] == [("refused", code)]


def whole(dialect: Dialect, first: int) -> list[int]:
    """Page forward from trade `first` on, as a hole is filled; return the length of each page."""
    venue, next_id, pages = dialect.venue, int(dialect.trade_id(first)), []
    while True:
        _, body = asked(dialect, venue.page(dialect.symbol, next_id, 0))
        ticks = venue.parse_trades(body, AT_NS, dialect.symbol).ticks
        if not len(new := ticks[ticks["trade_id"] >= next_id]):
            break
        pages.append(new)
        next_id = int(new["trade_id"][-1]) + 1
    assert np.concatenate(pages).tolist() == ticks_of(dialect, TAPE[first - 1 :])
    return [len(x) for x in pages]


@DIALECTS
def test_pages_that_lead_backwards_join_to_the_whole_record(dialect: dialects.Okx) -> None:
    assert whole(dialect, 1) == [100] * 12 + [50]
    assert whole(dialect, 1_249) == [2]
    _, body = asked(dialect, dialect.venue.latest(dialect.symbol))
    latest = dialect.venue.parse_trades(body, AT_NS, dialect.symbol).ticks
    assert latest.tolist() == ticks_of(dialect, TAPE[-500:])


@DIALECTS
def test_the_dialect_keeps_the_venues_limits(dialect: dialects.Okx) -> None:
    of = f"instId={dialect.symbol}"
    newest = json.loads(asked(dialect, Ask(f"/api/v5/market/history-trades?{of}&before=1&limit=3"))[1])[
        "data"
    ]
    assert [int(x["tradeId"]) for x in newest] == [dialect.trade_id(x) for x in (1_250, 1_249, 1_248)]
    assert asked(dialect, Ask(f"/api/v5/market/history-trades?{of}&limit=101"))[0] == 400
    assert asked(dialect, Ask(f"/api/v5/market/trades?{of}&limit=501"))[0] == 400
    assert asked(dialect, Ask("/api/v3/trades"))[0] == 404
    assert asked(dialect, Ask(f"/api/v5/public/instruments?{of}"))[0] == 400


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (dialects.SPOT, Listing("live", True, 0.1, 1.0)),
        (dialects.FUTURES, Listing("live", True, 0.1, 0.01)),
        (dialects.Okx(FUTURES, "BTC-USDT-260925"), Listing("live", True, 0.1, 0.01)),
    ],
)
def test_the_listing_of_the_dialect_is_read(dialect: dialects.Okx, expected: Listing) -> None:
    venue: Okx = SPOT if dialect.symbol == SYMBOL else FUTURES
    assert venue.parse_listing(asked(dialect, venue.listing(dialect.symbol))[1], dialect.symbol) == expected
    for answer in (asked(dialect, venue.listing("NO-SUCH"))[1], asked(dialect, venue.latest("NO-SUCH"))[1]):
        with pytest.raises(Unlisted):
            venue.parse_trades(answer, AT_NS, "NO-SUCH")
