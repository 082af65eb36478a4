"""The parser against recorded frames and documented ones, whole and damaged."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.binance_usdm import VENUE
from feeds.venue import Parsed
from tests.feeds import cryptofeed_text
from tests.feeds.damage import answered, assert_sound, assert_sound_ticks, damaged
from tests.feeds.test_binance_usdm import AT_NS, BOOK, ROW, TRADE, listings, raw
from tests.recordings import beside, frames

MS = 1_000_000
SYMBOLS = ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT")
SEEDS = [
    *map(raw, (TRADE, BOOK, {"result": None, "id": 1}, {"e": "serverShutdown", "E": 1723161599991})),
    raw({"stream": "btcusdt@aggTrade", "data": TRADE}),
    raw({"code": 2, "msg": "Invalid request: too many parameters"}),
]


@pytest.fixture(scope="module")
def recorded() -> tuple[list[bytes], list[int]]:
    """Thirty seconds of four symbols in 2021: 91 aggTrades beside their bookTickers."""
    return cryptofeed_text.frames(beside("raw_ws/cf_binance_usdm_2021.txt.gz"))


def payloads(raws: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(x)["data"] for x in raws]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_recorded_frame_is_read_as_json_reads_it(
    recorded: tuple[list[bytes], list[int]], symbol: str
) -> None:
    raws, at = recorded
    own = [(x, t) for x, t in zip(payloads(raws), at, strict=True) if x["s"] == symbol]
    got = VENUE.parse(raws, at, symbol)
    told = [(x, t) for x, t in own if x["e"] == "aggTrade"]
    assert got.ticks.tolist() == [
        (x["a"], x["T"] * MS, float(x["p"]), float(x["q"]), t, -1 if x["m"] else 1) for x, t in told
    ]
    first = told[0][0]["a"]
    assert got.ticks["trade_id"].tolist() == list(range(first, first + len(told)))
    last, last_at = [(x, t) for x, t in own if x["e"] == "bookTicker"][-1]
    assert got.quote is not None
    assert (got.quote.ts_ns, got.quote.received_ns) == (last["T"] * MS, last_at)
    shown = (got.quote.bid_price, got.quote.bid_size, got.quote.ask_price, got.quote.ask_size)
    assert shown == tuple(float(last[key]) for key in "bBaA")


def test_frames_of_other_symbols_are_refused(recorded: tuple[list[bytes], list[int]]) -> None:
    raws, at = recorded
    expected = Counter(
        f"symbol {x['s']}"
        for x in payloads(raws)
        if x["e"] in {"aggTrade", "bookTicker"} and x["s"] != SYMBOLS[0]
    )
    got = VENUE.parse(raws, at, SYMBOLS[0])
    assert Counter(x.reason for x in got.rejected) == expected
    assert {x.text: x.count for x in got.notices} == {"depthUpdate": 764, "kline": 67}


def test_takers_buy_at_the_ask_and_sell_at_the_bid(recorded: tuple[list[bytes], list[int]]) -> None:
    raws, at = recorded
    books: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for x in payloads(raws):
        if x["e"] == "bookTicker":
            books[x["s"]].append((x["T"] * MS, float(x["b"]), float(x["a"])))
    seen: Counter[tuple[str, int]] = Counter()
    for symbol in SYMBOLS:
        for tick in VENUE.parse(raws, at, symbol).ticks:
            before = bisect_left(books[symbol], (int(tick["ts_ns"]),)) - 1
            if before >= 0:
                _, bid, ask = books[symbol][before]
                where = "ask" if tick["price"] >= ask else "bid" if tick["price"] <= bid else "between"
                seen[where, int(tick["side"])] += 1
    assert seen == {("ask", 1): 46, ("bid", -1): 43}


def test_five_minutes_of_quotes_are_read_as_json_reads_them() -> None:
    raws, at = frames(beside("raw_ws/binance_usdm_btcusdt_20240719.jsonl.gz"))
    expected, got, others = [], [], 0
    for frame, t in zip(raws, at, strict=True):
        one = VENUE.parse([frame], [t], "BTCUSDT")
        x = json.loads(frame)["data"]
        if x["e"] == "bookTicker":
            expected.append((x["T"] * MS, *(float(x[key]) for key in "bBaA"), t, x["E"] * MS))
            quote = one.quote
            assert quote is not None
            shown = (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size)
            got.append((quote.ts_ns, *shown, quote.received_ns, one.venue_time_ns))
        others += sum(notice.count for notice in one.notices)
        assert one.rejected == []
    assert got == expected
    assert (len(got), others) == (45_147, 9_727 + 5_696)


def parse(raws: list[bytes]) -> Parsed:
    return VENUE.parse(raws, [AT_NS] * len(raws), "BTCUSDT")


def test_a_hundred_thousand_damaged_frames_have_one_sound_fate_each_and_spare_their_neighbours() -> None:
    rng = random.Random(20260423)
    rejected = 0
    for _ in range(2_000):
        bad = [damaged(rng.choice(SEEDS), rng) for _ in range(50)]
        alone = [parse([x]) for x in bad]
        for got, frame in zip(alone, bad, strict=True):
            assert_sound(got, frame, AT_NS)
        whole = parse(bad)
        assert whole.ticks.tolist() == [row for x in alone for row in x.ticks.tolist()]
        assert whole.rejected == [row for x in alone for row in x.rejected]
        assert whole.quote == next((x.quote for x in reversed(alone) if x.quote), None)
        assert whole.venue_time_ns == max(x.venue_time_ns for x in alone)
        assert sum(n.count for n in whole.notices) == sum(n.count for x in alone for n in x.notices)
        rejected += len(whole.rejected)
    assert 50_000 < rejected < 95_000


KEYS = st.sampled_from([*"eEsapqTmfluBbA", "data", "stream", "result", "id", "code", "msg", "error"])
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["aggTrade", "bookTicker", "BTCUSDT", "serverShutdown", "1.5", "NaN", ""]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)


def test_damaged_recorded_frames_have_one_sound_fate_each(recorded: tuple[list[bytes], list[int]]) -> None:
    rng = random.Random(20210722)
    own = [(frame, t) for frame, t in zip(*recorded, strict=True) if b"@depth" not in frame]
    for _ in range(20_000):
        frame, t = rng.choice(own)
        bad = damaged(frame, rng)
        assert_sound(VENUE.parse([bad], [t], SYMBOLS[0]), bad, t)


def test_no_depth_of_nesting_is_too_much() -> None:
    for depth in range(900, 1_100):
        deep = b"[" * depth + b"]" * depth
        for frame in (
            b'{"e":"aggTrade","s":' + deep + b"}",
            b'{"e":' + deep + b"}",
            b'{"data":' + deep + b"}",
        ):
            assert_sound(parse([frame]), frame, AT_NS)


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_has_exactly_one_fate(frame: bytes) -> None:
    assert_sound(parse([frame]), frame, AT_NS)


def test_twenty_thousand_damaged_answers_are_trades_or_refused() -> None:
    rng = random.Random(20260424)
    page = [ROW | {"a": 26129 + n, "T": 1498793709153 + n} for n in range(3)]
    seeds = [raw(page), raw(page[:1]), raw([]), raw({"code": -1003, "msg": "Too many requests"})]
    read = 0
    for _ in range(20_000):
        body = damaged(rng.choice(seeds), rng)
        if (got := answered(VENUE.parse_trades, body, AT_NS, "BTCUSDT")) is not None:
            assert_sound_ticks(got.ticks, AT_NS)
            assert got.ticks["trade_id"].tolist() == sorted(got.ticks["trade_id"].tolist())
            read += 1
        listed = answered(VENUE.parse_listing, damaged(listings(), rng), "BTCUSDT")
        assert listed is None or listed.tick_size is None or listed.tick_size > 0.0
        assert isinstance(VENUE.is_unlisted(400, body), bool)
    assert 500 < read < 10_000
