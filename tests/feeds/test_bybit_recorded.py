"""The parsers against recorded frames of four linear contracts, whole and damaged."""

from __future__ import annotations

import gzip
import json
import random
from bisect import bisect_left
from collections import defaultdict
from functools import cache, partial
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.bybit import LINEAR, SPOT, Bybit
from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Listing, Notice, Parsed, Trades
from market.ticks import Ticks
from tests.feeds import test_bybit as documented
from tests.feeds import test_bybit_rest as rest
from tests.feeds.damage import answered, damaged, fates
from tests.recordings import beside

SYMBOLS = {"BTCUSDT": 9, "ETHUSDT": 7, "SOLUSDT": 43, "DOGEUSDT": 4}  # and how many frames have trades of it
AT_NS = documented.AT_NS


@cache
def recorded() -> list[tuple[bytes, int]]:
    with gzip.open(beside("raw_ws/cf3_bybit_v5_20260809_part1.jsonl.gz")) as lines:
        events = [json.loads(line) for line in lines]
    return [(x["data"].encode(), int(x["ts"] * 1e9)) for x in events if x["t"] == "recv"]


def parse(frames: list[tuple[bytes, int]], symbol: str, venue: Bybit = LINEAR) -> Parsed:
    return venue.parse([raw for raw, _ in frames], [at for _, at in frames], symbol)


def of_symbol(symbol: str) -> list[tuple[bytes, int]]:
    """Leave out the trades of others, which this pair's connection would not have brought."""
    others = [f'"publicTrade.{x}"'.encode() for x in SYMBOLS if x != symbol]
    return [(raw, at) for raw, at in recorded() if not any(x in raw for x in others)]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_recorded_trade_is_read(symbol: str) -> None:
    got = parse(of_symbol(symbol), symbol)
    said = [(json.loads(raw), at) for raw, at in of_symbol(symbol)]
    trades = [(x, at) for x, at in said if x.get("topic") == f"publicTrade.{symbol}"]
    assert len(trades) == SYMBOLS[symbol]
    rows = [
        (0, x["T"] * 10**6, float(x["p"]), float(x["v"]), at, {"Buy": 1, "Sell": -1}[x["S"]])
        for message, at in trades
        for x in message["data"]
    ]
    assert got.ticks.tolist() == rows
    assert got.ids == tuple(x["i"] for message, _ in trades for x in message["data"])
    assert got.venue_time_ns == max(message["ts"] for message, _ in trades) * 10**6
    assert (got.quote, got.rejected) == (None, [])
    assert got.notices[:17] == [Notice("subscribed")] * 17
    unknown = {x.text: x.count for x in got.notices[17:]}
    assert unknown["orderbook.200.BTCUSDT"] == 246
    assert sum(unknown.values()) + 17 + len(trades) == len(said)


def test_trades_of_another_symbol_are_refused() -> None:
    got = parse(recorded(), "BTCUSDT")
    reasons = [x.reason for x in got.rejected]
    assert sorted(set(reasons)) == [f"topic publicTrade.{x}" for x in ("DOGEUSDT", "ETHUSDT", "SOLUSDT")]
    assert len(reasons) == 54


def test_the_side_is_the_takers() -> None:
    """Against the books that were recorded beside: who takes pays the ask, or gets the bid."""
    best = books()
    seen = 0
    for symbol in SYMBOLS:
        times = [at for at, _, _ in best[symbol]]
        for tick in parse(of_symbol(symbol), symbol).ticks:
            before = bisect_left(times, tick["ts_ns"] // 10**6) - 1
            _, bid, ask = best[symbol][before]
            assert (tick["price"] >= ask) if tick["side"] > 0 else (tick["price"] <= bid)
            seen += 1
    assert seen == 151


def books() -> dict[str, list[tuple[int, float, float]]]:
    """Follow the recorded books of 200 levels: engine time in ms, best bid and best ask of each state."""
    states: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    levels: dict[tuple[str, str], dict[float, float]] = {}
    for message in (json.loads(raw) for raw, _ in recorded()):
        if not message.get("topic", "").startswith("orderbook.200."):
            continue
        data: dict[str, Any] = message["data"]
        for side in "ba":
            book = levels.setdefault((data["s"], side), {})
            book |= {float(price): float(size) for price, size in data[side]}
            levels[data["s"], side] = {price: size for price, size in book.items() if size}
        bid, ask = max(levels[data["s"], "b"]), min(levels[data["s"], "a"])
        states[data["s"]].append((message["cts"], bid, ask))
    return states


def test_recorded_levels_make_quotes() -> None:
    """The recording has no book of one level: its snapshots of 200, cut to one, are what such would be."""
    snapshots = [(json.loads(raw), at) for raw, at in recorded() if b'"orderbook.200.' in raw]
    snapshots = [(message, at) for message, at in snapshots if message["type"] == "snapshot"]
    assert len(snapshots) == 4
    for message, at in snapshots:
        data = message["data"]
        top = message | {"topic": f"orderbook.1.{data['s']}", "data": data | {x: data[x][:1] for x in "ba"}}
        quote = parse([(json.dumps(top).encode(), at)], data["s"]).quote
        assert quote is not None
        (bid, bid_size), (ask, ask_size) = ([float(x) for x in data[side][0]] for side in "ba")
        assert (quote.bid_price, quote.bid_size) == (bid, bid_size)
        assert (quote.ask_price, quote.ask_size) == (ask, ask_size)
        assert (quote.ts_ns, quote.received_ns) == (message["cts"] * 10**6, at)


def test_a_recorded_listing_is_read() -> None:
    with gzip.open(beside("raw_ws/cf3_bybit_v5_20260809_part1.jsonl.gz")) as lines:
        answers = [x for x in map(json.loads, lines) if x["t"] == "http"]
    linear, spot = (x["data"].encode() for x in answers)
    for venue, body in ((LINEAR, linear), (SPOT, spot)):
        for row in json.loads(body)["result"]["list"]:
            got = venue.parse_listing(body, row["symbol"]) if row["symbol"] in SYMBOLS else None
            assert got is None or (got.trading, got.tick_size) == (
                True,
                float(row["priceFilter"]["tickSize"]),
            )


DOCUMENTED = [
    json.dumps(x).encode()
    for x in (
        documented.SPOT_TRADE,
        documented.LINEAR_TRADE,
        documented.BOOK,
        {
            "success": True,
            "ret_msg": "subscribe",
            "conn_id": "2324d924",
            "req_id": "10001",
            "op": "subscribe",
        },
        {"success": True, "ret_msg": "pong", "conn_id": "465772b1", "req_id": "", "op": "ping"},
    )
]


def assert_sound(got: Parsed, raw: bytes, at: int) -> None:
    assert fates(got) == 1, raw
    assert_sound_ticks(got.ticks, got.ids, at)
    assert all(x.reason and (x.received_ns, x.raw) == (at, raw[:1024]) for x in got.rejected), raw
    if (quote := got.quote) is not None:
        assert all(0.0 < x < inf for x in (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size))
        assert 0 < quote.ts_ns <= at + MAX_AHEAD_NS
    assert 0 <= got.venue_time_ns <= at + MAX_AHEAD_NS


def assert_sound_ticks(ticks: Ticks, ids: tuple[str, ...], at: int) -> None:
    for trade_id, ts, price, size, received, side in ticks.tolist():
        assert 0 <= trade_id < 2**63
        assert 0 < ts <= at + MAX_AHEAD_NS
        assert 0.0 < price < inf
        assert 0.0 < size < inf
        assert (received, abs(side)) == (at, 1)
    assert len(ids) in {0, len(ticks)}
    assert all(ids)


@pytest.mark.parametrize("venue", [SPOT, LINEAR], ids=["spot", "linear"])
def test_a_damaged_frame_is_sound_or_named_and_spares_its_neighbours(venue: Bybit) -> None:
    rng = random.Random(20260809)
    good = json.dumps(documented.SPOT_TRADE if venue is SPOT else documented.LINEAR_TRADE).encode()
    ticks = parse([(good, AT_NS)], "BTCUSDT", venue).ticks.tolist()
    rejected = 0
    for i in range(50_000):
        bad = damaged(rng.choice(DOCUMENTED), rng)
        alone = parse([(bad, AT_NS)], "BTCUSDT", venue)
        assert_sound(alone, bad, AT_NS)
        rejected += len(alone.rejected)
        if i % 20 == 0:
            got = parse([(raw, AT_NS) for raw in (good, bad, good)], "BTCUSDT", venue)
            assert got.ticks["size"].tolist() == [x[3] for x in (*ticks, *alone.ticks.tolist(), *ticks)]
            assert got.rejected == alone.rejected
            assert got.notices == alone.notices
    assert 15_000 < rejected < 49_000


def test_a_damaged_recorded_frame_is_sound_or_named() -> None:
    rng = random.Random(20260810)
    real = [frame for frame in recorded() if len(frame[0]) < 5_000]
    rejected = 0
    for _ in range(10_000):
        raw, at = rng.choice(real)
        bad, symbol = damaged(raw, rng), rng.choice(list(SYMBOLS))
        got = parse([(bad, at)], symbol)
        assert_sound(got, bad, at)
        rejected += len(got.rejected)
    assert rejected > 1_000


@pytest.mark.parametrize("venue", [SPOT, LINEAR], ids=["spot", "linear"])
def test_a_damaged_answer_is_read_or_refused(venue: Bybit) -> None:
    rng = random.Random(20260811)
    row = rest.REST_ROW if venue is SPOT else rest.REST_ROW | {"execId": "20f43950-d8dd-5b31"}
    trades, listing = rest.answer(row, row | {"side": "Sell"}), rest.listing()
    read = 0
    for _ in range(10_000):
        bad = damaged(trades, rng)
        got = answered(partial(venue.parse_trades, bad, AT_NS, "BTCUSDT"))
        if isinstance(got, Trades):
            read += 1
            assert_sound_ticks(got.ticks, got.ids, AT_NS)
        listed = answered(partial(venue.parse_listing, damaged(listing, rng), "BTCUSDT"))
        assert not isinstance(listed, Listing) or listed.tick_size is None or 0.0 < listed.tick_size < inf
        assert venue.is_unlisted(400, bad) in {True, False}
    assert 1_000 < read < 9_000


KEYS = st.sampled_from(
    [*"TsSvpiba", "topic", "type", "ts", "cts", "data", "op", "success", "ret_msg", "req_id", "seq", "u"]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(
            ["publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "BTCUSDT", "Buy", "1.5", "NaN", "ping"]
        ),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)


@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_has_exactly_one_fate(raw: bytes) -> None:
    for venue in (SPOT, LINEAR):
        assert_sound(parse([(raw, AT_NS)], "BTCUSDT", venue), raw, AT_NS)


@given(st.randoms(use_true_random=False))
def test_batches_equal_frames_one_by_one(rng: random.Random) -> None:
    frames = [
        (damaged(x, rng) if rng.random() < 0.3 else x, AT_NS + i)
        for i, x in enumerate(rng.choices(DOCUMENTED, k=12))
    ]
    whole, singles = parse(frames, "BTCUSDT"), [parse([x], "BTCUSDT") for x in frames]
    assert whole.ticks.tolist() == [row for x in singles for row in x.ticks.tolist()]
    assert whole.ids == tuple(name for x in singles for name in x.ids)
    assert whole.rejected == [row for x in singles for row in x.rejected]
    assert whole.quote == next((x.quote for x in reversed(singles) if x.quote), None)
    assert whole.venue_time_ns == max(x.venue_time_ns for x in singles)
    assert sum(n.count for n in whole.notices) == sum(n.count for x in singles for n in x.notices)


def test_nesting_of_any_depth_has_one_fate() -> None:
    for head in (b'{"topic":', b'{"op":', b'{"success":false,"ret_msg":', b'{"req_id":'):
        for depth in range(900, 1_100):
            raw = head + b"[" * depth + b"]" * depth + b"}"
            assert_sound(parse([(raw, AT_NS)], "BTCUSDT"), raw, AT_NS)
