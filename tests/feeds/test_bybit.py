from __future__ import annotations

import json
from itertools import permutations

import pytest

from feeds.bybit import LINEAR, SPOT, Bybit
from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Notice, Parsed
from market.inputs import Quote
from market.times import NS_PER_MS

AT_NS = 1_786_310_823_000_000_000
SPOT_ROW = {
    "i": "2290000001189048101",
    "T": 1786310822605,
    "p": "65140.5",
    "v": "0.002705",
    "S": "Buy",
    "seq": 112488547164,
    "s": "BTCUSDT",
    "BT": False,
    "RPI": False,
}
SPOT_TRADE = {
    "topic": "publicTrade.BTCUSDT",
    "ts": 1786310822606,
    "type": "snapshot",
    "data": [SPOT_ROW],
}
LINEAR_ROW = {
    "T": 1672304486865,
    "s": "BTCUSDT",
    "S": "Buy",
    "v": "0.001",
    "p": "16578.50",
    "L": "PlusTick",
    "i": "20f43950-d8dd-5b31-9112-a178eb6023af",
    "BT": False,
    "seq": 1783284617,
}
LINEAR_TRADE = {  # the documents' example
    "topic": "publicTrade.BTCUSDT",
    "type": "snapshot",
    "ts": 1672304486868,
    "data": [LINEAR_ROW],
}
SIDES = {"s": "BTCUSDT", "b": [["65114.20", "6.054"]], "a": [["65114.30", "10.486"]], "u": 1, "seq": 2}
BOOK = {
    "topic": "orderbook.1.BTCUSDT",
    "ts": 1786310822610,
    "type": "snapshot",
    "data": SIDES,
    "cts": 1786310822607,
}
TICK = (2290000001189048101, 1786310822605000000, 65140.5, 0.002705, AT_NS, 1)
QUOTE = Quote(1786310822607000000, 65114.2, 6.054, 65114.3, 10.486, AT_NS)


def raw(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def parsed(*payloads: object, venue: Bybit = SPOT) -> Parsed:
    return venue.parse([raw(x) for x in payloads], [AT_NS] * len(payloads), "BTCUSDT")


def test_a_spot_trade_is_a_tick_with_a_number() -> None:
    got = parsed(SPOT_TRADE)
    assert (got.ticks.tolist(), got.ids) == ([TICK], ())
    assert (got.quote, got.rejected, got.notices, got.newest_id) == (None, [], [], 0)
    assert got.venue_time_ns == 1786310822606000000


def test_a_linear_trade_is_a_tick_with_a_text() -> None:
    got = parsed(LINEAR_TRADE | {"data": [LINEAR_ROW, LINEAR_ROW | {"i": "b", "S": "Sell"}]}, venue=LINEAR)
    first = (0, 1672304486865000000, 16578.5, 0.001, AT_NS, 1)
    assert got.ticks.tolist() == [first, (*first[:5], -1)]
    assert got.ids == ("20f43950-d8dd-5b31-9112-a178eb6023af", "b")
    assert got.venue_time_ns == 1672304486868000000


def test_the_order_of_keys_does_not_matter() -> None:
    for keys in permutations(SPOT_TRADE):
        assert parsed({key: SPOT_TRADE[key] for key in keys}).ticks.tolist() == [TICK]
    for keys in permutations(BOOK):
        assert parsed({key: BOOK[key] for key in keys}).quote == QUOTE
    spaced = json.dumps(SPOT_TRADE, indent=2).replace("publicTrade", "\\u0070ublicTrade").encode()
    assert parsed(spaced).ticks.tolist() == [TICK]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": "0"}, "Expected `float` > 0.0 - at `$.data[0].p`"),
        ({"p": "-1"}, "$.data[0].p"),
        ({"p": "NaN"}, "$.data[0].p"),
        ({"p": "inf"}, "$.data[0].p"),
        ({"p": "1" * 400}, "$.data[0].p"),
        ({"p": None}, "$.data[0].p"),
        ({"p": True}, "$.data[0].p"),
        ({"v": "0.000"}, "$.data[0].v"),
        ({"v": []}, "$.data[0].v"),
        ({"i": "-1"}, "$.data[0].i"),
        ({"i": str(2**63)}, "$.data[0].i"),
        ({"i": "20f43950-d8dd"}, "$.data[0].i"),
        ({"i": 1.5}, "$.data[0].i"),
        ({"S": "buy"}, "$.data[0].S"),
        ({"S": None}, "$.data[0].S"),
        ({"T": "soon"}, "$.data[0].T"),
        ({"T": -1}, "$.data[0].T"),
        ({"T": 1230767999999}, "time before 2009"),
        ({"T": (AT_NS + MAX_AHEAD_NS) // NS_PER_MS + 1}, "time in the far future"),
        ({"s": "ETHUSDT"}, "symbol ETHUSDT"),
        ({"s": 7}, "$.data[0].s"),
    ],
)
def test_a_bad_field_is_named_and_the_frame_refused_whole(change: dict[str, object], reason: str) -> None:
    bad = SPOT_TRADE | {"data": [SPOT_ROW | change, SPOT_ROW]}
    got = parsed(SPOT_TRADE, bad, SPOT_TRADE)
    assert got.ticks.tolist() == [TICK, TICK]
    (rejected,) = got.rejected
    assert reason in rejected.reason
    assert (rejected.received_ns, rejected.raw) == (AT_NS, raw(bad)[:1024])


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a\n", "\u0661", 5, None, "\ud800"])
def test_a_linear_id_is_short_plain_text(text: object) -> None:
    got = parsed(LINEAR_TRADE | {"data": [LINEAR_ROW | {"i": text}]}, venue=LINEAR)
    assert (len(got.ticks), len(got.rejected)) == (0, 1)


@pytest.mark.parametrize(
    "frame",
    [
        SPOT_TRADE | {"ts": None},
        SPOT_TRADE | {"ts": 0},
        SPOT_TRADE | {"ts": 99999999999999},
        SPOT_TRADE | {"data": None},
        SPOT_TRADE | {"data": SPOT_ROW},
        SPOT_TRADE | {"topic": "publicTrade.ETHUSDT"},
        SPOT_TRADE | {"topic": 7},
        BOOK | {"topic": "orderbook.1.ETHUSDT"},
        BOOK | {"cts": 99999999999999},
        BOOK | {"data": SIDES | {"s": "ETHUSDT"}},
        BOOK | {"data": SIDES | {"b": [["-1", "1"]]}},
        BOOK | {"data": SIDES | {"b": [["1", "NaN"]]}},
        BOOK | {"data": SIDES | {"a": [["1"]]}},
        [SPOT_TRADE],
        b"",
        b'{"topic":"publicTrade.BTCUSDT","data":[',
        b"[" * 100_000,
        b'{"a":"\xff"}',
    ],
)
def test_what_makes_no_sense_is_refused(frame: object) -> None:
    got = parsed(frame)
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.notices) == (0, None, 0, [])
    assert len(got.rejected) == 1


def test_a_book_of_one_level_is_a_quote_of_the_engines_time() -> None:
    got = parsed(BOOK)
    assert (got.quote, got.venue_time_ns) == (QUOTE, 1786310822610000000)
    without = {key: value for key, value in BOOK.items() if key != "cts"}
    assert parsed(without).quote == Quote(1786310822610000000, 65114.2, 6.054, 65114.3, 10.486, AT_NS)


def test_of_a_delta_what_is_left_of_both_sides_is_a_quote() -> None:
    """The documents promise snapshots at this depth: whatever else comes must do no harm."""
    moved = SIDES | {
        "b": [["65114.20", "0"], ["65113.00", "1.5"], ["65113.10", "2"]],
        "a": [["65114.30", "0"], ["65115.00", "3", "more"]],
    }
    got = parsed(BOOK | {"type": "delta", "data": moved})
    assert got.quote == Quote(1786310822607000000, 65113.1, 2.0, 65115.0, 3.0, AT_NS)


@pytest.mark.parametrize("side", [{"b": []}, {"a": []}, {"b": [["65114.20", "0"]]}, {"b": [], "a": []}])
def test_a_book_that_lacks_a_side_is_no_quote(side: dict[str, object]) -> None:
    got = parsed(BOOK, BOOK | {"type": "delta", "data": SIDES | side})
    assert (got.quote, got.rejected) == (QUOTE, [])
    assert got.notices == [Notice("alive", "book with one side")]


def test_answers_to_requests() -> None:
    granted = {"success": True, "ret_msg": "subscribe", "conn_id": "2324d924-aa4d", "op": "subscribe"}
    got = parsed(
        granted | {"req_id": "10001"},
        granted | {"req_id": "", "ret_msg": ""},
        granted,
        granted | {"success": False, "ret_msg": "error:handler not found,topic:publicTrade.NOTASYMBOL"},
        {"success": True, "ret_msg": "pong", "conn_id": "0970e817-426e", "op": "ping"},
        {"success": True, "ret_msg": "pong", "conn_id": "465772b1-7630", "req_id": "", "op": "ping"},
        {"args": ["1672916271846"], "op": "pong"},
    )
    assert got.notices == [
        Notice("subscribed", id="10001"),
        Notice("subscribed"),
        Notice("subscribed"),
        Notice("refused", "error:handler not found,topic:publicTrade.NOTASYMBOL"),
        *[Notice("alive")] * 3,
    ]
    assert (got.rejected, got.venue_time_ns) == ([], 0)


def test_other_topics_and_messages_are_named_and_counted() -> None:
    kline = {"topic": "kline.1.BTCUSDT", "data": [], "ts": 1672324988882, "type": "snapshot"}
    response = {"success": True, "conn_id": "aa01", "data": {}, "type": "COMMAND_RESP"}
    got = parsed(kline, {"op": "auth", "success": True}, SPOT_TRADE, kline, response, {})
    assert got.notices == [
        Notice("unknown", "kline.1.BTCUSDT", count=2),
        Notice("unknown", "auth"),
        Notice("unknown", "conn_id,data,success,type"),
        Notice("unknown", ""),
    ]
    assert len(got.ticks) == 1


def test_a_frame_of_no_trades_is_a_sign_of_life() -> None:
    assert parsed(SPOT_TRADE | {"data": []}).notices == [Notice("alive", "no trades")]


def test_a_batch_keeps_the_latest_quote_and_an_empty_one_is_empty() -> None:
    later = BOOK | {"data": SIDES | {"b": [["65114.25", "1"]]}}
    quote = parsed(BOOK, SPOT_TRADE, later).quote
    assert quote is not None
    assert quote.bid_price == 65114.25
    got = parsed()
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.rejected, got.notices) == (0, None, 0, [], [])
