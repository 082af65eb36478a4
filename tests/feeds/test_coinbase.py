from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.coinbase import VENUE
from feeds.venue import Notice, Parsed
from market.inputs import Quote
from tests.feeds.coinbase_support import (
    AT_NS,
    assert_batch_equals_singles,
    assert_sound,
    damaged,
    fuzz,
    read_ns,
)
from tests.feeds.json_support import raw

# The documents' own examples.
MATCH = {
    "type": "match",
    "trade_id": 10,
    "sequence": 50,
    "maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8",
    "taker_order_id": "132fb6ae-456b-4654-b4e0-d681ac05cea1",
    "time": "2014-11-07T08:19:27.028459Z",
    "product_id": "BTC-USD",
    "size": "5.23512",
    "price": "400.23",
    "side": "sell",
}
HEARTBEAT = {
    "type": "heartbeat",
    "sequence": 90,
    "last_trade_id": 20,
    "product_id": "BTC-USD",
    "time": "2014-11-07T08:19:28.464459Z",
}
TICKER = {
    "type": "ticker",
    "sequence": 37475248783,
    "product_id": "BTC-USD",
    "price": "1285.22",
    "open_24h": "1310.79",
    "volume_24h": "245532.79269678",
    "low_24h": "1280.52",
    "high_24h": "1313.8",
    "volume_30d": "9788783.60117027",
    "best_bid": "1285.04",
    "best_bid_size": "0.46688654",
    "best_ask": "1285.27",
    "best_ask_size": "1.56637040",
    "side": "buy",
    "time": "2022-10-19T23:28:22.061769Z",
    "trade_id": 370843401,
    "last_size": "11.4396987",
}
GRANTED = {
    "type": "subscriptions",
    "channels": [
        {"name": "heartbeat", "product_ids": ["BTC-USD"]},
        {"name": "ticker", "product_ids": ["BTC-USD"]},
        {"name": "matches", "product_ids": ["BTC-USD"]},
    ],
}
ERROR = {"type": "error", "message": "Failed to subscribe", "reason": "BTC-USX is not a valid product"}
TICK = (10, 1_415_348_367_028_459_000, 400.23, 5.23512, AT_NS, 1)
QUOTE = Quote(1_666_222_102_061_769_000, 1285.04, 0.46688654, 1285.27, 1.5663704, AT_NS)


def parsed(*payloads: object) -> Parsed:
    frames = [x if isinstance(x, bytes) else raw(x) for x in payloads]
    return VENUE.parse(frames, [AT_NS] * len(frames), "BTC-USD")


def test_a_match_is_a_tick_of_the_takers_side() -> None:
    got = parsed(MATCH, MATCH | {"trade_id": 11, "side": "buy"})
    assert got.ticks.tolist() == [TICK, (11, *TICK[1:5], -1)]
    assert (got.quote, got.rejected, got.notices, got.ids, got.newest_id) == (None, [], [], (), 0)
    assert got.venue_time_ns == TICK[1]


def test_the_last_match_of_a_subscription_is_a_tick_too() -> None:
    assert parsed(MATCH | {"type": "last_match"}).ticks.tolist() == [TICK]


def test_a_heartbeat_tells_the_time_and_the_newest_trade() -> None:
    got = parsed(HEARTBEAT)
    assert (got.venue_time_ns, got.newest_id) == (1_415_348_368_464_459_000, 20)
    assert (got.notices, got.rejected, len(got.ticks)) == ([Notice("alive")], [], 0)
    assert parsed(HEARTBEAT, HEARTBEAT | {"last_trade_id": 19}).newest_id == 20


def test_a_heartbeat_without_a_last_trade_is_unknown_not_wrong() -> None:
    """As it was for months: github.com/preichenberger/go-coinbasepro/issues/89."""
    zero = {
        "type": "heartbeat",
        "last_trade_id": 0,
        "product_id": "BTC-USD",
        "sequence": 14011426656,
        "time": "2020-05-12T05:20:06.782635Z",
    }
    got = parsed(zero)
    assert (got.newest_id, got.rejected, got.notices) == (0, [], [Notice("alive")])
    assert parsed(zero, HEARTBEAT).newest_id == 20


def test_a_ticker_is_a_quote_with_its_time() -> None:
    got = parsed(TICKER | {"best_bid": "1"}, TICKER)
    assert (got.quote, got.rejected, got.notices) == (QUOTE, [], [])
    assert got.venue_time_ns == QUOTE.ts_ns


@pytest.mark.parametrize(
    "change", [{"best_bid": ""}, {"best_ask": None}, {"best_bid_size": ""}, {"best_ask_size": None}]
)
def test_a_ticker_of_one_side_is_no_quote_and_no_fault(change: dict[str, Any]) -> None:
    got = parsed(TICKER | change, {k: v for k, v in TICKER.items() if not k.endswith("_size")})
    assert got.notices == [Notice("unknown", "ticker without bid or ask", count=2)]
    assert (got.quote, got.rejected) == (None, [])


def test_only_the_grant_of_trades_counts_as_subscribed() -> None:
    documented = {
        "type": "subscriptions",
        "channels": [
            {"name": "level2", "product_ids": ["ETH-USD", "ETH-EUR"]},
            {"name": "heartbeat", "product_ids": ["ETH-USD", "ETH-EUR"]},
            {"name": "ticker", "product_ids": ["ETH-USD", "ETH-EUR", "ETH-BTC"]},
        ],
    }
    others = {"type": "subscriptions", "channels": [{"name": "matches", "product_ids": ["ETH-USD"]}]}
    got = parsed(GRANTED, documented, others, {"type": "subscriptions", "channels": [{"name": "status"}]})
    assert got.notices == [Notice("subscribed"), Notice("alive"), Notice("alive"), Notice("alive")]


def test_errors_are_told_with_their_reason() -> None:
    got = parsed(ERROR, {"type": "error", "message": "ErrSlowConsume"}, {"type": "error", "message": 5})
    text = "Failed to subscribe: BTC-USX is not a valid product"
    assert got.notices == [
        Notice("refused", text),
        Notice("refused", "ErrSlowConsume"),
        Notice("refused", ""),
    ]


def test_unknown_types_are_named_once_and_counted() -> None:
    update = {"type": "l2update", "product_id": "BTC-USD", "changes": [["buy", "1", "2"]], "time": "x"}
    got = parsed(update, MATCH, {"type": "status", "products": []}, update)
    assert got.notices == [Notice("unknown", "l2update", count=2), Notice("unknown", "status")]
    assert (len(got.ticks), got.rejected) == (1, [])


def test_neither_the_order_of_keys_nor_new_ones_matter() -> None:
    turned = dict(reversed(list((MATCH | {"new": {"deep": [1]}}).items())))
    got = parsed(turned, dict(reversed(list(TICKER.items()))), dict(reversed(list(HEARTBEAT.items()))))
    assert (got.ticks.tolist(), got.quote, got.newest_id) == ([TICK], QUOTE, 20)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": "0.00000000"}, "price 0.00000000"),
        ({"price": "-1"}, "price -1"),
        ({"price": "NaN"}, "price NaN"),
        ({"price": "inf"}, "price inf"),
        ({"price": "1" * 400}, "price " + "1" * 40),
        ({"price": True}, "price True"),
        ({"size": "0"}, "size 0"),
        ({"size": []}, "size []"),
        ({"trade_id": -1}, "id -1"),
        ({"trade_id": 2**53 + 1}, f"id {2**53 + 1}"),
        ({"trade_id": 10**100}, "id 1" + "0" * 39),
        ({"trade_id": "ac928c66"}, "id ac928c66"),
        ({"side": "SELL"}, "side SELL"),
        ({"side": None}, "side None"),
        ({"product_id": "ETH-USD"}, "symbol ETH-USD"),
        ({"product_id": 7}, "symbol 7"),
        ({"time": 1415348367}, "time 1415348367"),
        ({"time": "yesterday"}, "time yesterday"),
        ({"time": "2008-12-31T23:59:59.999999Z"}, "time before 2009"),
        ({"time": "2999-01-01T00:00:00Z"}, "time in the far future"),
        ({"type": 5}, "type 5"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], reason: str) -> None:
    got = parsed(MATCH, MATCH | change, MATCH)
    assert got.ticks.tolist() == [TICK, TICK]
    assert [(x.received_ns, x.reason, x.raw) for x in got.rejected] == [(AT_NS, reason, raw(MATCH | change))]
    assert (got.venue_time_ns, got.notices) == (TICK[1], [])


@pytest.mark.parametrize("key", ["type", "trade_id", "product_id", "price", "size", "side", "time"])
def test_a_missing_field_is_named(key: str) -> None:
    got = parsed({k: v for k, v in MATCH.items() if k != key})
    assert [x.reason.split()[0] for x in got.rejected] == ["no"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (TICKER | {"best_bid": "0.00"}, "bid price 0.00"),
        (TICKER | {"best_ask": "-inf"}, "ask price -inf"),
        (TICKER | {"best_ask_size": []}, "ask size []"),
        (TICKER | {"product_id": "ETH-USD"}, "symbol ETH-USD"),
        (TICKER | {"time": "2999-01-01T00:00:00Z"}, "time in the far future"),
        (HEARTBEAT | {"last_trade_id": -1}, "last id -1"),
        (HEARTBEAT | {"product_id": "ETH-USD"}, "symbol ETH-USD"),
        (HEARTBEAT | {"time": "2999-01-01T00:00:00Z"}, "time in the far future"),
        ({"type": "subscriptions"}, "no channels"),
        ({"type": "subscriptions", "channels": [5]}, "channels [5]"),
    ],
)
def test_other_bad_frames_are_named_and_replace_nothing(payload: object, reason: str) -> None:
    got = parsed(TICKER, HEARTBEAT, payload)
    assert [x.reason for x in got.rejected] == [reason]
    assert (got.quote, got.newest_id, got.venue_time_ns) == (QUOTE, 20, QUOTE.ts_ns)


@pytest.mark.parametrize(
    "junk",
    [
        *(b"", b"{", b"\xff\xfe", b"null", b"5", b"[]", b'"match"', b"[" * 100_000, b'{"a":' * 50_000),
        *(b'{"type":"match","side":"\xff"}', raw(MATCH) + b"x", raw(MATCH) + b"\n" + raw(MATCH)),
    ],
    ids=range(12),
)
def test_junk_is_rejected_and_cut(junk: bytes) -> None:
    got = parsed(MATCH, junk, TICKER)
    assert (got.ticks.tolist(), got.quote) == ([TICK], QUOTE)
    assert [x.raw for x in got.rejected] == [junk[:1024]]


def test_an_empty_batch_is_empty() -> None:
    got = parsed()
    assert (len(got.ticks), got.quote, got.venue_time_ns, got.rejected, got.notices) == (0, None, 0, [], [])


FRAMES = [raw(x) for x in (MATCH, MATCH | {"type": "last_match"}, HEARTBEAT, TICKER, GRANTED, ERROR)]


def read(body: dict[str, Any], at_ns: int) -> list[tuple[Any, ...]]:
    side = {"sell": 1, "buy": -1}[body["side"]]
    price, size = float(body["price"]), float(body["size"])
    return [(int(body["trade_id"]), read_ns(body["time"]), price, size, at_ns, side)]


def test_a_hundred_thousand_damaged_frames_have_one_sound_fate_each() -> None:
    taken, refused = fuzz(VENUE.parse, read, [FRAMES[0], *FRAMES], 100_000)
    assert taken > 4_000
    assert refused > 50_000


@given(st.randoms(use_true_random=False))
def test_batches_equal_frames_one_by_one(rng: random.Random) -> None:
    frames = [rng.choice(FRAMES) for _ in range(40)]
    bad = [x if rng.random() < 0.5 else damaged(x, rng) for x in frames]
    assert_batch_equals_singles(VENUE.parse, bad, "BTC-USD")


KEYS = st.sampled_from([*MATCH, *TICKER, "last_trade_id", "channels", "name", "product_ids", "message"])
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(["match", "ticker", "heartbeat", "subscriptions", "error", "BTC-USD", "sell", "1.5"]),
        st.sampled_from([str(MATCH["time"]), "NaN", ""]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)


@given(st.one_of(st.binary(max_size=60), VALUES.map(raw), st.dictionaries(KEYS, VALUES).map(raw)))
def test_whatever_comes_has_exactly_one_fate(frame: bytes) -> None:
    assert_sound(parsed(frame), frame, AT_NS)


def test_one_message_asks_for_all_channels() -> None:
    (line,) = VENUE.lines("BTC-USD")
    assert (line.path, line.acks, len(line.requests)) == ("/", 1, 1)
    assert json.loads(line.requests[0]) == {
        "type": "subscribe",
        "product_ids": ["BTC-USD"],
        "channels": ["heartbeat", "ticker", "matches"],
    }
