"""The parser against recorded frames, whole and damaged."""

from __future__ import annotations

import json
import random
from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feeds import binance_frames
from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Notice, Parsed
from tests.recordings import HERE, beside, frames, trades

FRAMES, RECEIVED_NS = frames(HERE / "binance_spot_btcusdt_midnight.jsonl.gz")
TRADES = [(raw, at) for raw, at in zip(FRAMES, RECEIVED_NS, strict=True) if b'"trade"' in raw]
TOKENS = (
    b"NaN",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b'"',
    b"\\",
    b"[",
    b"{}",
    b"\xff",
    b"9" * 30,
    b'"data":',
    b"\n",
)


def parse(raws: list[bytes], at: list[int]) -> Parsed:
    return binance_frames.parse(raws, at, "BTCUSDT")


def test_every_recorded_trade_is_the_published_one() -> None:
    got = parse(FRAMES, RECEIVED_NS)
    expected = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    first = int(np.searchsorted(expected["trade_id"], got.ticks["trade_id"][0]))
    assert len(got.ticks) == 2_195
    assert got.ticks.tolist() == expected[first : first + 2_195].tolist()
    assert got.rejected == []
    assert got.notices == [Notice("unknown", "depthUpdate", count=856)]
    payloads = [json.loads(raw)["data"] for raw in FRAMES]
    assert got.venue_time_ns == max(x["E"] for x in payloads if "E" in x) * 1_000_000
    last = [x for x in payloads if "u" in x and "e" not in x][-1]
    assert got.quote is not None
    assert (got.quote.bid_price, got.quote.ask_size) == (float(last["b"]), float(last["A"]))


def test_ten_minutes_of_frames_are_every_published_trade() -> None:
    got = [parse(*frames(beside(f"raw_ws/binance_spot_btcusdt_2024080{day}.jsonl.gz"))) for day in (8, 9)]
    expected = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    assert np.concatenate([x.ticks for x in got]).tolist() == expected.tolist()
    assert len(expected) == 19_904
    assert [x.rejected for x in got] == [[], []]


def unwrapped(raw: bytes) -> bytes:
    return raw[raw.index(b'"data":') + 7 : -1]


def test_raw_frames_give_the_same_ticks_as_combined_ones() -> None:
    at = [x for _, x in TRADES]
    combined = parse([raw for raw, _ in TRADES], at)
    assert parse([unwrapped(raw) for raw, _ in TRADES], at).ticks.tolist() == combined.ticks.tolist()


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Change a frame in one to three places: a byte, a cut, a doubling, or a nasty token."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(out) + 1)
        j = min(len(out), i + rng.randint(1, 12))
        kind = rng.randrange(5)
        if kind == 0 and i < len(out):
            out[i] = rng.randrange(256)
        elif kind == 1:
            del out[i:j]
        elif kind == 2:
            out[i:i] = out[i:j]
        elif kind == 3:
            out[i:j] = rng.choice(TOKENS)
        else:
            out[i:i] = rng.choice(TOKENS)
    return bytes(out)


def fates(got: Parsed) -> int:
    """Count what a batch became; a batch with several quotes keeps only the last."""
    noticed = sum(notice.count for notice in got.notices)
    return len(got.ticks) + len(got.rejected) + noticed + (got.quote is not None)


def test_a_damaged_frame_is_a_sound_tick_or_named_and_spares_its_neighbours() -> None:
    rng = random.Random(20240809)
    rejected = 0
    for _ in range(25_000):
        raw, at = rng.choice(TRADES)
        bad = damaged(raw if rng.random() < 0.5 else unwrapped(raw), rng)
        got = parse([raw, bad, raw], [at] * 3)
        alone = parse([bad], [at])
        assert fates(alone) == 1, bad
        ticks = parse([raw], [at]).ticks.tolist()
        assert got.ticks.tolist() == [*ticks, *alone.ticks.tolist(), *ticks], bad
        for trade_id, ts, price, size, received, side in alone.ticks.tolist():
            assert 0 <= trade_id <= 2**53
            assert 0 < ts <= at + MAX_AHEAD_NS
            assert 0.0 < price < inf
            assert 0.0 < size < inf
            assert (received, abs(side)) == (at, 1)
        assert all(x.reason and x.raw == bad[:1024] for x in alone.rejected)
        rejected += len(alone.rejected)
    assert rejected > 15_000


@given(st.randoms(use_true_random=False))
def test_batches_equal_frames_one_by_one(rng: random.Random) -> None:
    start = rng.randrange(len(FRAMES) - 60)
    raws = [raw if rng.random() < 0.7 else damaged(raw, rng) for raw in FRAMES[start : start + 60]]
    at = RECEIVED_NS[start : start + 60]
    whole = parse(raws, at)
    singles = [parse([raw], [t]) for raw, t in zip(raws, at, strict=True)]
    assert all(fates(x) == 1 for x in singles)
    assert whole.ticks.tolist() == [row for x in singles for row in x.ticks.tolist()]
    assert whole.rejected == [row for x in singles for row in x.rejected]
    assert whole.quote == next((x.quote for x in reversed(singles) if x.quote), None)
    assert whole.venue_time_ns == max(x.venue_time_ns for x in singles)
    assert sum(n.count for n in whole.notices) == sum(n.count for x in singles for n in x.notices)


KEYS = st.sampled_from([*"eEstpqTmMubBaAx", "data", "stream", "result", "id", "code", "msg", "error"])
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["trade", "bookTicker", "BTCUSDT", "serverShutdown", "1.5", "NaN", ""]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=9)),
    max_leaves=20,
)


@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_has_exactly_one_fate(raw: bytes) -> None:
    got = parse([raw], [1_723_161_600_000_000_000])
    assert fates(got) == 1
