from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from feeds.frames import MAX_AHEAD_NS
from feeds.kraken import VENUE
from feeds.venue import Notice, Parsed
from market.inputs import Quote

AT_NS = 1_695_628_300_000_000_000
ROW = {
    "symbol": "MATIC/USD",
    "side": "sell",
    "price": 0.5117,
    "qty": 40.0,
    "ord_type": "market",
    "trade_id": 4665906,
    "timestamp": "2023-09-25T07:49:37.708706Z",
}
TRADE = {
    "channel": "trade",
    "type": "update",
    "data": [ROW],
}  # this and what follows: the documents' examples
SNAPSHOT = {
    "channel": "trade",
    "type": "snapshot",
    "data": [
        {
            "symbol": "MATIC/USD",
            "side": "buy",
            "price": 0.5147,
            "qty": 6423.46326,
            "ord_type": "limit",
            "trade_id": 4665846,
            "timestamp": "2023-09-25T07:48:36.925533Z",
        },
        {
            "symbol": "MATIC/USD",
            "side": "buy",
            "price": 0.5147,
            "qty": 1136.19677815,
            "ord_type": "limit",
            "trade_id": 4665847,
            "timestamp": "2023-09-25T07:49:36.925603Z",
        },
    ],
}
TOP = {
    "symbol": "MATIC/USD",
    "bid": 0.10025,
    "bid_qty": 740.0,
    "ask": 0.10036,
    "ask_qty": 1361.44813783,
    "last": 0.10035,
    "volume": 997038.98383185,
    "vwap": 0.10148,
    "change_pct": -0.17,
    "timestamp": "2023-09-25T07:49:31.742648Z",
}
TICKER = {"channel": "ticker", "type": "snapshot", "data": [TOP]}
ACK = {
    "method": "subscribe",
    "result": {"channel": "trade", "snapshot": True, "symbol": "MATIC/USD"},
    "success": True,
    "time_in": "2023-09-25T07:49:10.428340Z",
    "time_out": "2023-09-25T07:49:10.428375Z",
}
STATUS = {
    "channel": "status",
    "data": [
        {
            "api_version": "v2",
            "connection_id": 13834774380200032777,
            "system": "online",
            "version": "2.0.0",
        }
    ],
    "type": "update",
}
PONG = {
    "method": "pong",
    "req_id": 101,
    "time_in": "2023-09-25T07:49:10Z",
    "time_out": "2023-09-25T07:49:11Z",
}
TICK = (4665906, 1695628177708706000, 0.5117, 40.0, AT_NS, -1)
QUOTE = Quote(1695628171742648000, 0.10025, 740.0, 0.10036, 1361.44813783, AT_NS)


def raw(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def parsed(*payloads: object) -> Parsed:
    return VENUE.parse([raw(x) for x in payloads], [AT_NS] * len(payloads), "MATIC-USD")


def test_a_trade_is_a_tick_of_the_takers_side() -> None:
    got = parsed(TRADE)
    assert (got.ticks.tolist(), got.ids) == ([TICK], ())
    assert (got.quote, got.rejected, got.notices, got.newest_id) == (None, [], [], 0)
    assert got.venue_time_ns == 1695628177708706000


def test_a_snapshot_reads_like_updates_in_order_of_ids() -> None:
    first = (4665846, 1695628116925533000, 0.5147, 6423.46326, AT_NS, 1)
    second = (4665847, 1695628176925603000, 0.5147, 1136.19677815, AT_NS, 1)
    assert parsed(SNAPSHOT, TRADE).ticks.tolist() == [first, second, TICK]
    turned = SNAPSHOT | {"data": [*reversed(SNAPSHOT["data"])]}
    assert parsed(turned).ticks.tolist() == [first, second]
    assert parsed(SNAPSHOT | {"data": []}).notices == [Notice("alive", "no trades")]


def test_times_have_from_no_to_nine_digits() -> None:
    for digits, ns in (("", 0), (".7", 700_000_000), (".708706123", 708_706_123)):
        row = ROW | {"timestamp": f"2023-09-25T07:49:37{digits}Z"}
        assert parsed(TRADE | {"data": [row]}).ticks["ts_ns"].tolist() == [1695628177_000000000 + ns]


def test_prices_are_the_numbers_that_are_written() -> None:
    text = raw(TRADE).replace(b"0.5117", b"105944.12345678901234").replace(b"40.0", b"1e-08")
    (tick,) = parsed(text).ticks.tolist()
    assert tick[2:4] == (float("105944.12345678901234"), 1e-8)


def test_the_order_of_keys_does_not_matter() -> None:
    for keys in permutations(TRADE):
        assert parsed({key: TRADE[key] for key in keys}).ticks.tolist() == [TICK]
        assert parsed({key: TICKER[key] for key in keys}).quote == QUOTE
    escaped = raw(TRADE).replace(b'"trade"', b'"\\u0074rade"')
    assert parsed(escaped).ticks.tolist() == [TICK]
    assert parsed(raw(TICKER).replace(b'"ticker"', b'"\\u0074icker"')).quote == QUOTE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": 0}, "Expected `float` > 0.0 - at `$.data[0].price`"),
        ({"price": -0.5}, "$.data[0].price"),
        ({"price": "NaN"}, "$.data[0].price"),
        ({"price": None}, "$.data[0].price"),
        ({"price": True}, "$.data[0].price"),
        ({"qty": 0.0}, "$.data[0].qty"),
        ({"qty": "1" * 400}, "$.data[0].qty"),
        ({"trade_id": -1}, "$.data[0].trade_id"),
        ({"trade_id": 2**53 + 1}, "$.data[0].trade_id"),
        ({"trade_id": 1.5}, "$.data[0].trade_id"),
        ({"side": "b"}, "$.data[0].side"),
        ({"side": None}, "$.data[0].side"),
        ({"timestamp": 1695628177}, "$.data[0].timestamp"),
        ({"timestamp": "soon"}, "time soon"),
        ({"timestamp": "2023-13-25T07:49:37Z"}, "time 2023-13-25"),
        ({"timestamp": "2023-09-25T07:49:37+00:00"}, "time 2023-09-25"),
        ({"timestamp": "2008-12-31T23:59:59Z"}, "time before 2009"),
        ({"timestamp": "2023-09-25T08:01:41Z"}, "time in the far future"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "time in the far future"),
        ({"symbol": "BTC/USD"}, "symbol BTC/USD"),
        ({"symbol": "MATIC-USD"}, "symbol MATIC-USD"),
    ],
)
def test_a_bad_field_is_named_and_the_frame_refused_whole(change: dict[str, object], reason: str) -> None:
    bad = TRADE | {"data": [ROW | change, ROW]}
    got = parsed(TRADE, bad, TRADE)
    assert got.ticks.tolist() == [TICK, TICK]
    (rejected,) = got.rejected
    assert reason in rejected.reason
    assert (rejected.received_ns, rejected.raw) == (AT_NS, raw(bad)[:1024])


@pytest.mark.parametrize(
    "frame",
    [
        TRADE | {"data": None},
        TRADE | {"data": ROW},
        TRADE | {"channel": 7},
        TRADE | {"channel": None},
        TICKER | {"data": TOP},
        TICKER | {"data": [TOP | {"symbol": "BTC/USD"}]},
        TICKER | {"data": [TOP | {"bid": -1.0}]},
        TICKER | {"data": [TOP | {"ask_qty": "NaN"}]},
        TICKER | {"data": [TOP | {"timestamp": "soon"}]},
        TICKER | {"data": [TOP | {"timestamp": "2023-09-25T08:01:41Z"}]},
        PONG | {"time_out": "2023-09-25T08:01:41Z"},
        [TRADE],
        [0, {"a": ["5541.30000", 1, "2.50700000"]}, "ticker", "XBT/USD"],  # of websocket v1
        b"",
        b'{"channel":"trade","data":[',
        b'{"channel":"trade","data":' + b"[" * 100_000,
        b'{"a":"\xff"}',
    ],
    ids=range(17),
)
def test_what_makes_no_sense_is_refused(frame: object) -> None:
    got = parsed(frame)
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.notices) == (0, None, 0, [])
    assert len(got.rejected) == 1


def test_the_time_of_a_trade_may_be_ten_minutes_ahead() -> None:
    row = ROW | {"timestamp": "2023-09-25T08:01:40Z"}
    assert parsed(TRADE | {"data": [row]}).ticks["ts_ns"].tolist() == [AT_NS + MAX_AHEAD_NS]


def test_the_top_of_the_book_is_a_quote_with_or_without_its_time() -> None:
    got = parsed(TICKER)
    assert (got.quote, got.venue_time_ns) == (QUOTE, 1695628171742648000)
    for untimed in ({key: x for key, x in TOP.items() if key != "timestamp"}, TOP | {"timestamp": None}):
        got = parsed(TICKER | {"data": [untimed]})
        assert got.quote == Quote(0, 0.10025, 740.0, 0.10036, 1361.44813783, AT_NS)
        assert got.venue_time_ns == 0


@pytest.mark.parametrize("side", [{"bid": None}, {"bid": 0.0, "bid_qty": 0.0}, {"ask_qty": 0}, {"ask": None}])
def test_a_ticker_that_lacks_a_side_is_no_quote(side: dict[str, object]) -> None:
    got = parsed(TICKER, TICKER | {"data": [TOP | side]})
    assert (got.quote, got.rejected) == (QUOTE, [])
    assert got.notices == [Notice("alive", "ticker with one side")]
    assert parsed(TICKER | {"data": []}).notices == [Notice("alive", "ticker with one side")]


def test_answers_to_requests() -> None:
    refusal: dict[str, Any] = {"error": "Currency pair not supported XBT/USD", "method": "subscribe"}
    got = parsed(
        ACK,
        ACK | {"req_id": 2, "time_out": None},
        refusal | {"success": False, "symbol": "XBT/USD", "req_id": 1},
        {"error": "Exceeded msg rate"},
        PONG,
        {"method": "pong", "error": "no", "success": False},
    )
    assert got.notices == [
        Notice("subscribed"),
        Notice("subscribed", id=2),
        Notice("refused", "Currency pair not supported XBT/USD", 1),
        Notice("refused", "Exceeded msg rate"),
        Notice("alive"),
        Notice("refused", "no"),
    ]
    assert got.rejected == []
    assert got.venue_time_ns == 1695628151_000000000


def test_signs_of_life() -> None:
    maintenance = STATUS | {"data": [{"system": "maintenance"}]}
    got = parsed(
        {"channel": "heartbeat"}, STATUS, maintenance, STATUS | {"data": []}, STATUS | {"data": None}
    )
    states = ["", "online", "maintenance", "", ""]
    assert got.notices == [Notice("alive", state) for state in states]


def test_other_channels_and_messages_are_named_and_counted() -> None:
    ohlc = {"channel": "ohlc", "type": "update", "data": []}
    got = parsed(ohlc, {"method": "unsubscribe", "success": True}, TRADE, ohlc, {"event": "heartbeat"}, {})
    assert got.notices == [
        Notice("unknown", "ohlc", count=2),
        Notice("unknown", "unsubscribe"),
        Notice("unknown", "event"),
        Notice("unknown", ""),
    ]
    assert len(got.ticks) == 1


def test_an_empty_batch_is_empty() -> None:
    got = parsed()
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.rejected, got.notices) == (0, None, 0, [], [])
