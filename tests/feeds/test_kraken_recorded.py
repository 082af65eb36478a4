"""The parsers against recorded trades, and against frames and answers made wrong."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.kraken import VENUE
from feeds.venue import Listing, Parsed, Trades
from tests.feeds import test_kraken as documented
from tests.feeds import test_kraken_rest as rest
from tests.feeds.damage import answered, assert_sound, assert_sound_ticks, damaged, fates
from tests.recordings import beside, table, trades

RECORDED = "trades/kraken_spot_xbtusdt_20251110_part1.csv.gz"
AT_NS = documented.AT_NS
NOW_NS = 1_762_900_000_000_000_000


def test_recorded_trades_are_read_from_an_answer() -> None:
    """The file has what REST said; ours are its times cut to whole microseconds."""
    expected = trades(beside(RECORDED))
    rows = [
        f'["{x["price"]}","{x["size"]}",{seconds(x["ts_event_ns"])},"{x["side"][0]}","l","",{x["trade_id"]}]'
        for x in table(beside(RECORDED))
    ]
    body = f'{{"error":[],"result":{{"XBTUSDT":[{",".join(rows)}],"last":"1762809294154000000"}}}}'
    got = VENUE.parse_trades(body.encode(), NOW_NS, "BTC-USDT").ticks
    assert len(got) == 516
    assert (np.diff(got["trade_id"]) == 1).all()
    expected["ts_ns"] -= expected["ts_ns"] % 1_000
    expected["received_ns"] = NOW_NS
    assert got.tolist() == expected.tolist()


def seconds(ts_ns: str) -> str:
    """Write a time as the venue does: seconds, and as many of seven decimals as there are."""
    return f"{ts_ns[:-9]}.{ts_ns[-9:-2]}".rstrip("0").rstrip(".")


def test_socket_and_rest_tell_the_same_of_a_trade() -> None:
    frames = [
        json.dumps(
            {
                "channel": "trade",
                "type": "update",
                "data": [
                    {
                        "symbol": "BTC/USDT",
                        "side": x["side"],
                        "price": float(x["price"]),
                        "qty": float(x["size"]),
                        "ord_type": "limit",
                        "trade_id": int(x["trade_id"]),
                        "timestamp": rfc3339(int(x["ts_event_ns"])),
                    }
                ],
            }
        ).encode()
        for x in table(beside(RECORDED))
    ]
    got = VENUE.parse(frames, [NOW_NS] * len(frames), "BTC-USDT")
    expected = trades(beside(RECORDED))
    expected["ts_ns"] -= expected["ts_ns"] % 1_000
    expected["received_ns"] = NOW_NS
    assert got.ticks.tolist() == expected.tolist()
    assert got.rejected == []


def rfc3339(ts_ns: int) -> str:
    time = datetime.fromtimestamp(ts_ns // 10**9, UTC).replace(microsecond=ts_ns // 1_000 % 10**6)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_the_side_of_an_answer_is_the_takers() -> None:
    """The documents do not say whose it is: who takes through several prices pays ever more, or gets less."""
    steps = [
        (second["price"] - first["price"]) * first["side"]
        for first, second in pairwise(trades(beside(RECORDED)))
        if first["ts_ns"] == second["ts_ns"] and first["side"] == second["side"]
    ]
    assert sum(step > 0 for step in steps) > 50
    assert not [step for step in steps if step < 0]


@pytest.mark.parametrize("name", ["cf_kraken_trades_2021_part1.txt.gz", "cf_kraken_ticker_2021.txt.gz"])
def test_messages_of_the_former_protocol_do_no_harm(name: str) -> None:
    with gzip.open(beside(f"raw_ws/{name}")) as lines:
        frames = [line.rstrip(b"\n").split(b": ", 1)[1] for line in lines if not line.startswith(b"wss:")]
    assert len(frames) > 30
    for frame in frames:
        got = VENUE.parse([frame], [AT_NS], "BTC-USD")
        assert_sound(got, frame, AT_NS)
        assert (len(got.ticks), got.quote) == (0, None)


DOCUMENTED = [
    json.dumps(x).encode()
    for x in (
        documented.TRADE,
        documented.TRADE,
        documented.SNAPSHOT,
        documented.TICKER,
        documented.TICKER,
        documented.ACK,
        documented.STATUS,
        documented.PONG,
    )
]


def parse(*frames: bytes) -> Parsed:
    return VENUE.parse(frames, [AT_NS] * len(frames), "MATIC-USD")


def test_a_damaged_frame_is_sound_or_named_and_spares_its_neighbours() -> None:
    rng = random.Random(20251110)
    good = DOCUMENTED[0]
    rejected = 0
    for i in range(100_000):
        bad = damaged(rng.choice(DOCUMENTED), rng)
        alone = parse(bad)
        assert_sound(alone, bad, AT_NS)
        rejected += len(alone.rejected)
        if i % 20 == 0:
            got = parse(good, bad, good)
            assert got.ticks.tolist() == [documented.TICK, *alone.ticks.tolist(), documented.TICK]
            assert got.rejected == alone.rejected
            assert got.notices == alone.notices
    assert 30_000 < rejected < 95_000


def test_a_damaged_answer_is_read_or_refused() -> None:
    rng = random.Random(20251111)
    read = 0
    for _ in range(20_000):
        bad = damaged(rest.ANSWER, rng)
        got = answered(partial(VENUE.parse_trades, bad, rest.AT_NS, "BTC-USD"))
        if isinstance(got, Trades):
            read += 1
            assert_sound_ticks(got.ticks, rest.AT_NS)
            assert got.ids == ()
        listed = answered(partial(VENUE.parse_listing, damaged(rest.PAIRS, rng), "BTC-USDT"))
        assert not isinstance(listed, Listing) or listed.tick_size is None or 0.0 < listed.tick_size < inf
        assert VENUE.is_unlisted(400, bad) in {True, False}
    assert 1_000 < read < 18_000


KEYS = st.sampled_from(
    [
        *("channel", "type", "data", "symbol", "side", "price", "qty", "trade_id", "timestamp"),
        *("bid", "bid_qty", "ask", "ask_qty", "method", "success", "error", "req_id", "time_out", "system"),
    ]
)
WORDS = ("trade", "ticker", "status", "heartbeat", "pong", "subscribe", "MATIC/USD", "buy", "1.5", "NaN")
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([*WORDS, "2023-09-25T07:49:37.708706Z"]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)


@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_has_exactly_one_fate(raw: bytes) -> None:
    assert_sound(parse(raw), raw, AT_NS)


@given(st.randoms(use_true_random=False))
def test_batches_equal_frames_one_by_one(rng: random.Random) -> None:
    frames = [damaged(x, rng) if rng.random() < 0.3 else x for x in rng.choices(DOCUMENTED, k=12)]
    whole, singles = parse(*frames), [parse(x) for x in frames]
    assert all(fates(x) == 1 for x in singles)
    assert whole.ticks.tolist() == [row for x in singles for row in x.ticks.tolist()]
    assert whole.rejected == [row for x in singles for row in x.rejected]
    assert whole.quote == next((x.quote for x in reversed(singles) if x.quote), None)
    assert whole.venue_time_ns == max(x.venue_time_ns for x in singles)
    assert sum(n.count for n in whole.notices) == sum(n.count for x in singles for n in x.notices)


def test_nesting_of_any_depth_has_one_fate() -> None:
    for head in (
        b'{"channel":',
        b'{"channel":"status","data":',
        b'{"success":false,"error":',
        b'{"time_out":',
    ):
        for depth in range(900, 1_100):
            raw = head + b"[" * depth + b"]" * depth + b"}"
            assert_sound(parse(raw), raw, AT_NS)
