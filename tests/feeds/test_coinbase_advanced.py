from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.coinbase_advanced import VENUE
from feeds.venue import Notice, Parsed
from market.inputs import Quote
from tests.feeds.coinbase_advanced_support import FIRST, NEWER, OLDER, SECOND
from tests.feeds.coinbase_support import (
    AT_NS,
    assert_batch_equals_singles,
    assert_sound,
    damaged,
    fuzz,
    read_ns,
)
from tests.feeds.json_support import raw

# Messages in the form recorded in 2026-08 and documented in 2026-06.
BEST = {
    "type": "ticker",
    "product_id": "BTC-USD",
    "price": "21932.98",
    "volume_24_h": "16038.28770938",
    "low_24_h": "21835.29",
    "high_24_h": "23011.18",
    "low_52_w": "15460",
    "high_52_w": "48240",
    "price_percent_chg_24_h": "-4.15775596190603",
    "best_bid": "21931.98",
    "best_bid_quantity": "8000.21",
    "best_ask": "21933.98",
    "best_ask_quantity": "8038.07770938",
}
BEAT = {
    "current_time": "2023-06-23 20:31:56.121961769 +0000 UTC m=+91717.525857105",
    "heartbeat_counter": "3049",
}


def said(
    channel: str, *events: object, timestamp: object = "2026-08-09T21:05:51.452192913Z"
) -> dict[str, Any]:
    head = {"channel": channel, "client_id": "", "timestamp": timestamp, "sequence_num": 136}
    return head | {"events": list(events)}


def update(*trades: object) -> dict[str, Any]:
    return said("market_trades", {"type": "update", "trades": list(trades)})


def ticker(**changes: object) -> dict[str, Any]:
    return said("ticker", {"type": "snapshot", "tickers": [BEST | changes]})


UPDATE = update(NEWER, OLDER)
GRANTED = said(
    "subscriptions",
    {"subscriptions": {"heartbeats": ["heartbeats"], "market_trades": ["BTC-USD"], "ticker": ["BTC-USD"]}},
)
HEARTBEAT = said("heartbeats", BEAT, timestamp="2023-06-23T20:31:26.122969572Z")
ERROR = {"type": "error", "message": "authentication failure"}
SENT_NS = 1_786_309_551_452_192_913
QUOTE = Quote(SENT_NS, 21931.98, 8000.21, 21933.98, 8038.07770938, AT_NS)


def parsed(*payloads: object) -> Parsed:
    frames = [x if isinstance(x, bytes) else raw(x) for x in payloads]
    return VENUE.parse(frames, [AT_NS] * len(frames), "BTC-USD")


def test_trades_come_in_order_with_the_takers_side() -> None:
    got = parsed(UPDATE)
    assert got.ticks.tolist() == [FIRST, SECOND]
    assert (got.quote, got.rejected, got.notices, got.ids, got.newest_id) == (None, [], [], (), 0)
    assert got.venue_time_ns == SENT_NS


def test_a_snapshot_is_trades_like_any_other() -> None:
    snapshot = said("market_trades", {"type": "snapshot", "trades": [NEWER]}, {"trades": [OLDER]})
    assert parsed(snapshot).ticks.tolist() == [FIRST, SECOND]


def test_trades_of_one_moment_are_in_order_of_their_ids() -> None:
    same = [OLDER | {"trade_id": str(i)} for i in (12, 9, 11, 10)]
    assert parsed(update(*same)).ticks["trade_id"].tolist() == [9, 10, 11, 12]


def test_four_to_nine_digits_of_a_second_are_read() -> None:
    times = {
        f"2026-08-09T21:05:51.{'123456789'[:n]}Z": int("123456789"[:n].ljust(9, "0")) for n in range(4, 10)
    }
    for text, fraction_ns in times.items():
        assert parsed(update(OLDER | {"time": text})).ticks["ts_ns"].tolist() == [
            1_786_309_551_000_000_000 + fraction_ns
        ]


def test_a_ticker_is_a_quote_of_its_messages_time() -> None:
    got = parsed(ticker(best_bid="1"), ticker())
    assert (got.quote, got.rejected, got.notices, got.venue_time_ns) == (QUOTE, [], [], SENT_NS)


@pytest.mark.parametrize("change", [{"best_bid": ""}, {"best_ask": None}, {"best_ask_quantity": ""}])
def test_a_ticker_of_one_side_is_no_quote_and_no_fault(change: dict[str, Any]) -> None:
    got = parsed(ticker(**change))
    assert got.notices == [Notice("unknown", "ticker without bid or ask")]
    assert (got.quote, got.rejected) == (None, [])


@pytest.mark.parametrize("counter", ["3049", 41691])
def test_a_heartbeat_tells_the_time_alone(counter: object) -> None:
    got = parsed(said("heartbeats", BEAT | {"heartbeat_counter": counter}))
    assert (got.notices, got.rejected) == ([Notice("alive")], [])
    assert (got.venue_time_ns, got.newest_id) == (SENT_NS, 0)


def test_messages_without_content_are_a_sign_of_life() -> None:
    got = parsed(update(), said("market_trades"), said("ticker", {"type": "update", "tickers": []}))
    assert (got.notices, got.rejected, got.venue_time_ns) == ([Notice("alive")] * 3, [], SENT_NS)


def test_only_the_grant_of_trades_counts_as_subscribed() -> None:
    beats = said("subscriptions", {"subscriptions": {"heartbeats": ["heartbeats"]}})
    other = said("subscriptions", {"subscriptions": {"market_trades": ["ETH-USD"]}})
    got = parsed(beats, other, GRANTED, said("subscriptions"))
    assert got.notices == [Notice("alive"), Notice("alive"), Notice("subscribed"), Notice("alive")]


def test_errors_are_told() -> None:
    assert parsed(ERROR).notices == [Notice("refused", "authentication failure")]


def test_unknown_channels_are_named_once_and_counted() -> None:
    got = parsed(said("l2_data", {"updates": []}), said("status"), UPDATE, said("l2_data", 5))
    assert got.notices == [Notice("unknown", "l2_data", count=2), Notice("unknown", "status")]
    assert (len(got.ticks), got.rejected) == (2, [])


def test_neither_the_order_of_keys_nor_new_ones_matter() -> None:
    trades = [{"new": [1]} | dict(reversed(list(x.items()))) for x in (NEWER, OLDER)]
    turned = dict(reversed(list(update(*trades).items())))
    got = parsed(turned, dict(reversed(list(ticker().items()))))
    assert (got.ticks.tolist(), got.quote) == ([FIRST, SECOND], QUOTE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": "0"}, "price 0"),
        ({"price": "NaN"}, "price NaN"),
        ({"price": "1" * 400}, "price " + "1" * 40),
        ({"size": "-0.1"}, "size -0.1"),
        ({"size": None}, "size None"),
        ({"trade_id": ""}, "id "),
        ({"trade_id": "34b080bf-fcfd-445a-832b-46b5ddc65601"}, "id 34b080bf-fcfd-445a-832b-46b5ddc65601"),
        ({"trade_id": str(2**53 + 1)}, f"id {2**53 + 1}"),
        ({"side": "sell"}, "side sell"),
        ({"side": ""}, "side "),
        ({"product_id": "ETH-USD"}, "symbol ETH-USD"),
        ({"time": "2026-08-09 21:05:51"}, "time 2026-08-09 21:05:51"),
        ({"time": "1970-01-01T00:00:00Z"}, "time before 2009"),
        ({"time": "2999-01-01T00:00:00Z"}, "time in the far future"),
    ],
)
def test_a_frame_with_one_bad_trade_is_refused_whole_and_the_field_named(
    change: dict[str, Any], reason: str
) -> None:
    bad = update(NEWER, OLDER | change)
    got = parsed(UPDATE, bad, ticker())
    assert (got.ticks.tolist(), got.quote) == ([FIRST, SECOND], QUOTE)
    assert [(x.received_ns, x.reason, x.raw) for x in got.rejected] == [(AT_NS, reason, raw(bad)[:1024])]


@pytest.mark.parametrize("key", ["product_id", "trade_id", "price", "size", "side", "time"])
def test_a_missing_field_is_named(key: str) -> None:
    got = parsed(update({k: v for k, v in OLDER.items() if k != key}))
    assert [x.reason.split()[0] for x in got.rejected] == ["no"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (UPDATE | {"timestamp": "now"}, "time now"),
        (UPDATE | {"timestamp": 5}, "timestamp 5"),
        (UPDATE | {"timestamp": "2999-01-01T00:00:00Z"}, "time in the far future"),
        (UPDATE | {"events": None}, "events None"),
        (UPDATE | {"events": [5]}, "events [5]"),
        (UPDATE | {"events": [{}]}, "no trades"),
        (UPDATE | {"events": [{"trades": {}}]}, "trades {}"),
        (UPDATE | {"channel": 5}, "channel 5"),
        ({k: v for k, v in UPDATE.items() if k != "channel"}, "no channel"),
        ({k: v for k, v in HEARTBEAT.items() if k != "timestamp"}, "no timestamp"),
        (ticker(best_bid="0.00"), "bid price 0.00"),
        (ticker(best_ask_quantity=[]), "ask size []"),
        (ticker(product_id="ETH-USD"), "symbol ETH-USD"),
        (GRANTED | {"events": [{"subscriptions": 5}]}, "subscriptions 5"),
        (GRANTED | {"events": [{}]}, "no subscriptions"),
    ],
)
def test_other_bad_frames_are_named_and_replace_nothing(payload: object, reason: str) -> None:
    got = parsed(ticker(), payload)
    assert [x.reason for x in got.rejected] == [reason]
    assert (got.quote, got.venue_time_ns, len(got.ticks)) == (QUOTE, SENT_NS, 0)


@pytest.mark.parametrize(
    "junk",
    [
        *(b"", b"{", b"\xff\xfe", b"null", b"5", b"[]", b'"ticker"', b"[" * 100_000, b'{"a":' * 50_000),
        *(b'{"channel":"\xff"}', raw(UPDATE) + b"x", raw(UPDATE) + b"\n" + raw(UPDATE)),
    ],
    ids=range(12),
)
def test_junk_is_rejected_and_cut(junk: bytes) -> None:
    got = parsed(UPDATE, junk, ticker())
    assert (got.ticks.tolist(), got.quote) == ([FIRST, SECOND], QUOTE)
    assert [x.raw for x in got.rejected] == [junk[:1024]]


def test_an_empty_batch_is_empty() -> None:
    got = parsed()
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.rejected, got.notices) == (0, None, 0, [], [])


FRAMES = [raw(x) for x in (UPDATE, update(OLDER), HEARTBEAT, ticker(), GRANTED, ERROR)]


def read(body: dict[str, Any], at_ns: int) -> list[tuple[Any, ...]]:
    rows = [
        (
            int(x["trade_id"]),
            read_ns(x["time"]),
            float(x["price"]),
            float(x["size"]),
            at_ns,
            {"SELL": 1, "BUY": -1}[x["side"]],
        )
        for event in body["events"]
        for x in event["trades"]
    ]
    return sorted(rows, key=lambda x: (x[1], x[0]))


def test_a_hundred_thousand_damaged_frames_have_one_sound_fate_each() -> None:
    taken, refused = fuzz(VENUE.parse, read, [FRAMES[0], *FRAMES], 100_000)
    assert taken > 4_000
    assert refused > 50_000


@given(st.randoms(use_true_random=False))
def test_batches_equal_frames_one_by_one(rng: random.Random) -> None:
    frames = [rng.choice(FRAMES) for _ in range(40)]
    bad = [x if rng.random() < 0.5 else damaged(x, rng) for x in frames]
    assert_batch_equals_singles(VENUE.parse, bad, "BTC-USD")


KEYS = st.sampled_from(
    ["channel", "timestamp", "events", "trades", "tickers", "subscriptions", "type", "message", *NEWER, *BEST]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(
            ["market_trades", "ticker", "heartbeats", "subscriptions", "error", "BTC-USD", "SELL"]
        ),
        st.sampled_from([OLDER["time"], "1.5", "NaN", ""]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)
NESTED = st.builds(
    lambda channel, name, rows: raw(said(channel, {name: rows})),
    st.sampled_from(["market_trades", "ticker", "heartbeats", "subscriptions"]),
    st.sampled_from(["trades", "tickers", "subscriptions"]),
    VALUES,
)


@given(st.one_of(st.binary(max_size=60), VALUES.map(raw), NESTED))
def test_whatever_comes_has_exactly_one_fate(frame: bytes) -> None:
    assert_sound(parsed(frame), frame, AT_NS)


def test_each_channel_is_asked_for_by_itself_and_trades_last() -> None:
    (line,) = VENUE.lines("BTC-USD")
    assert (line.path, line.acks) == ("/", 1)
    assert [json.loads(x) for x in line.requests] == [
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": channel}
        for channel in ("heartbeats", "ticker", "market_trades")
    ]
    assert VENUE.rules.connects * len(line.requests) <= 8 * VENUE.rules.connects_per_s  # messages a second
