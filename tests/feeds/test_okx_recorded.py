"""The parser against recorded frames and documented ones, whole and damaged.

The recording is of `trades`, in 2022, when it still told each trade by itself, in the rows that `trades-all`
has today: only the channel's name is changed here.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.okx import FUTURES, SPOT
from feeds.venue import Parsed
from tests.feeds import cryptofeed_text
from tests.feeds.damage import answered, assert_sound, assert_sound_ticks, damaged
from tests.feeds.json_support import raw
from tests.feeds.okx_support import AT_NS, INSTRUMENT, ROW, SWAP, SYMBOL, TICKERS, TRADES, UPGRADE, reply
from tests.recordings import beside

MS = 1_000_000
SYMBOLS = ("BTC-USDT", "UNI-USD-SWAP", "BTC-USD-220527")
SEEDS = [
    *map(raw, (TRADES, TRADES, TICKERS, {"id": "1512", "event": "subscribe", "arg": TRADES["arg"]})),
    raw({"id": "1512", "event": "error", "code": "60012", "msg": "Invalid request", "connId": "a4d3ae55"}),
    raw({"event": "notice", "code": "64008", "msg": UPGRADE, "connId": "a4d3ae55"}),
]


@pytest.fixture(scope="module")
def recorded() -> tuple[list[bytes], list[int]]:
    raws, at = cryptofeed_text.frames(beside("raw_ws/cf_okx_2022_part1.txt.gz"))
    return [x.replace(b'"channel":"trades"', b'"channel":"trades-all"') for x in raws], at


def told(raws: list[bytes], channel: str, symbol: str) -> list[dict[str, Any]]:
    bodies = [json.loads(x) for x in raws]
    return [x for x in bodies if "data" in x and x["arg"] == {"channel": channel, "instId": symbol}]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_recorded_frame_is_read_as_json_reads_it(
    recorded: tuple[list[bytes], list[int]], symbol: str
) -> None:
    raws, at = recorded
    received = dict(zip(raws, at, strict=True))
    own = [x for x in raws if f'"instId":"{symbol}"'.encode() in x]
    got = SPOT.parse(own, [received[x] for x in own], symbol)
    rows = [(x["data"][0], received[x_raw]) for x_raw in own for x in told([x_raw], "trades-all", symbol)]
    assert got.ticks.tolist() == [
        (
            int(x["tradeId"]),
            int(x["ts"]) * MS,
            float(x["px"]),
            float(x["sz"]),
            t,
            1 if x["side"] == "buy" else -1,
        )
        for x, t in rows
    ]
    last = told(own, "tickers", symbol)[-1]["data"][0]
    assert got.quote is not None
    shown = (got.quote.bid_price, got.quote.bid_size, got.quote.ask_price, got.quote.ask_size)
    assert shown == tuple(float(last[key]) for key in ("bidPx", "bidSz", "askPx", "askSz"))
    assert got.quote.ts_ns == int(last["ts"]) * MS
    kinds = Counter((x.kind, x.text) for x in got.notices)
    books = len(told(own, "books", symbol))
    assert [x.count for x in got.notices if x.kind == "unknown"] == [books]
    assert kinds == {("subscribed", ""): 6, ("unknown", "books"): 1}
    assert got.rejected == []


def test_the_ids_of_spot_trades_rise_by_one(recorded: tuple[list[bytes], list[int]]) -> None:
    ids = SPOT.parse(*recorded, SYMBOL).ticks["trade_id"].tolist()
    assert ids == list(range(338476307, 338476344))


def test_frames_of_other_symbols_are_refused(recorded: tuple[list[bytes], list[int]]) -> None:
    raws, _ = recorded
    others = Counter(f"symbol {x['arg']['instId']}" for x in map(json.loads, raws))
    del others[f"symbol {SYMBOL}"]
    got = Counter(x.reason for x in SPOT.parse(*recorded, SYMBOL).rejected)
    assert got == others
    assert len(got) == 2


def tops(raws: list[bytes]) -> list[tuple[int, float, float]]:
    """Keep the recorded order book; return time, best bid and best ask after each change."""
    book: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
    out = []
    for frame in told(raws, "books", SYMBOL):
        for side, levels in book.items():
            if frame["action"] == "snapshot":
                levels.clear()
            levels.update({float(x[0]): float(x[1]) for x in frame["data"][0][side]})
        bids, asks = ([price for price, size in book[side].items() if size] for side in ("bids", "asks"))
        out.append((int(frame["data"][0]["ts"]) * MS, max(bids), min(asks)))
    return out


def test_takers_buy_at_or_above_the_ask_and_sell_at_or_below_the_bid(
    recorded: tuple[list[bytes], list[int]],
) -> None:
    book = tops(recorded[0])
    seen: Counter[tuple[str, int]] = Counter()
    for tick in SPOT.parse(*recorded, SYMBOL).ticks:
        before = bisect_left(book, (int(tick["ts_ns"]),)) - 1
        if before >= 0:
            _, bid, ask = book[before]
            where = "ask" if tick["price"] >= ask else "bid" if tick["price"] <= bid else "between"
            seen[where, int(tick["side"])] += 1
    assert seen == {("ask", 1): 23, ("bid", -1): 13}


def parse(raws: list[bytes]) -> Parsed:
    return SPOT.parse(raws, [AT_NS] * len(raws), SYMBOL)


def test_a_hundred_thousand_damaged_frames_have_one_sound_fate_each_and_spare_their_neighbours() -> None:
    rng = random.Random(20220513)
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


def test_damaged_recorded_frames_have_one_sound_fate_each(recorded: tuple[list[bytes], list[int]]) -> None:
    rng = random.Random(20220515)
    own = [(raw, t) for raw, t in zip(*recorded, strict=True) if b'"books"' not in raw]
    assert len(own) > 60
    for _ in range(20_000):
        raw, t = rng.choice(own)
        bad = damaged(raw, rng)
        assert_sound(SPOT.parse([bad], [t], SYMBOL), bad, t)


def test_no_depth_of_nesting_is_too_much() -> None:
    head = b'{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":'
    for depth in range(900, 1_100):
        deep = b"[" * depth + b"]" * depth
        for frame in (head + deep + b"}", head + b'[{"instId":' + deep + b"}]}", b'{"event":' + deep + b"}"):
            assert_sound(parse([frame]), frame, AT_NS)
        for key in (b"code", b"msg", b"id"):
            frame = b'{"event":"error","' + key + b'":' + deep + b"}"
            assert_sound(parse([frame]), frame, AT_NS)


KEYS = st.sampled_from(
    ["arg", "data", "channel", "instId", "tradeId", "px", "sz", "side", "ts", "event", "code"]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(
            ["trades-all", "tickers", SYMBOL, "notice", "error", "64008", "buy", "1.5", "NaN", ""]
        ),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_has_exactly_one_fate(frame: bytes) -> None:
    assert_sound(parse([frame]), frame, AT_NS)


def test_twenty_thousand_damaged_answers_are_trades_or_refused() -> None:
    rng = random.Random(20220514)
    page = [ROW | {"tradeId": str(242720720 - n), "ts": str(1654161646974 - n)} for n in range(3)]
    seeds = [reply(*page), reply(page[0]), reply(), reply(code="50011", msg="Rate limit reached.")]
    read = 0
    for _ in range(20_000):
        body = damaged(rng.choice(seeds), rng)
        if (got := answered(SPOT.parse_trades, body, AT_NS, SYMBOL)) is not None:
            assert_sound_ticks(got.ticks, AT_NS)
            assert got.ticks["trade_id"].tolist() == sorted(got.ticks["trade_id"].tolist())
            read += 1
        for venue, row in ((SPOT, INSTRUMENT), (FUTURES, SWAP)):
            listed = answered(venue.parse_listing, damaged(reply(row), rng), row["instId"])
            assert listed is None or (listed.tick_size or 0.0) > 0.0 < listed.contract_size
        assert isinstance(SPOT.is_unlisted(400, body), bool)
    assert 500 < read < 10_000
