from __future__ import annotations

import json
from typing import Any

import pytest

from feeds.frames import MAX_AHEAD_NS
from feeds.okx import FUTURES, SPOT
from feeds.venue import Notice, Parsed
from market.inputs import Quote
from tests.feeds.json_support import raw
from tests.feeds.okx_support import AT_NS, MS, ROW, SYMBOL, TICK, TICKER, TICKERS, TRADES, UPGRADE, pushed

QUOTE = Quote(1597026383085 * MS, 8888.88, 5.0, 9999.99, 11.0, AT_NS)


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
