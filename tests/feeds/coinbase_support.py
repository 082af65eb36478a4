"""Damage for the two parsers of Coinbase: to the bytes of a frame, and to its structure."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from math import inf
from typing import Any

import numpy as np

from feeds.frames import MAX_AHEAD_NS, YEAR_2009_NS
from feeds.venue import Parsed

AT_NS = 1_786_309_600_000_000_000  # later than all that was recorded and documented
TOKENS = (b"NaN", b"null", b"-1", b"0", b"1e999", b'"', b"\\", b"[", b"{}", b"\xff", b"9" * 30, b"\n", b",")
NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    -(10**30),
    2**53 + 1,
    float("nan"),
    float("inf"),
    "",
    "NaN",
    "-inf",
    "1e400",
    "0",
    "-0.01",
    "0x10",
    "1_000",
    "9" * 400,
    "ETH-USD",
    "match",
    "\ud800",
    "2008-12-31T23:59:59.999999Z",
    "2026-02-30T00:00:00Z",
    "2999-01-01T00:00:00Z",
    "2026-08-09T21:05:48",
    "2026-08-09T21:05:48.+1Z",
    "٢٠٢٦-08-09T21:05:48Z",
    [],
    {},
    [[[[{}]]]],
    {"type": "match"},
)

Parse = Callable[[Sequence[bytes], Sequence[int], str], Parsed]
Read = Callable[[Any, int], list[tuple[Any, ...]]]


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


def twisted(raw: bytes, rng: random.Random) -> bytes:
    """Change a message in one to three places: values replaced, exchanged, gone, renamed or doubled."""
    out = json.loads(raw)
    for _ in range(rng.randint(1, 3)):
        holders = [x for x in _holders(out) if x]
        if not holders:
            break
        holder = rng.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        a, b, kind = rng.choice(keys), rng.choice(keys), rng.randrange(6)
        if kind < 3:
            holder[a] = copy.deepcopy(rng.choice(NASTY))
        elif kind == 3:
            holder[a], holder[b] = holder[b], holder[a]
        elif kind == 4:
            del holder[a]
        elif isinstance(holder, dict):
            holder[f"{a}x"] = holder[a]
        else:
            holder.append(holder[a])
    return json.dumps(out).encode()


def _holders(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict | list) else []
    return own + [found for x in inner for found in _holders(x)]


def fates(got: Parsed) -> int:
    """Count what one frame became: trades are one fate, however many there are."""
    noticed = sum(notice.count for notice in got.notices)
    return bool(len(got.ticks)) + len(got.rejected) + noticed + (got.quote is not None)


def assert_sound(got: Parsed, raw: bytes, at_ns: int) -> None:
    """Check that one frame has one fate, and that nothing impossible came out of it."""
    assert fates(got) == 1, raw
    assert all(x.reason and x.raw == raw[:1024] and x.received_ns == at_ns for x in got.rejected), raw
    assert 0 <= got.venue_time_ns <= at_ns + MAX_AHEAD_NS, raw
    assert 0 <= got.newest_id <= 2**53, raw
    for trade_id, ts_ns, price, size, received_ns, side in got.ticks.tolist():
        assert 0 <= trade_id <= 2**53, raw
        assert YEAR_2009_NS <= ts_ns <= at_ns + MAX_AHEAD_NS, raw
        assert 0.0 < price < inf, raw
        assert 0.0 < size < inf, raw
        assert (received_ns, abs(side)) == (at_ns, 1), raw
    if (q := got.quote) is not None:
        assert all(0.0 < x < inf for x in (q.bid_price, q.bid_size, q.ask_price, q.ask_size)), raw
        assert YEAR_2009_NS <= q.ts_ns <= at_ns + MAX_AHEAD_NS, raw


def fuzz(parse: Parse, read: Read, frames: Sequence[bytes], count: int) -> tuple[int, int]:
    """Parse so many damaged frames, half of them in their bytes; return how many gave trades or were refused.

    What is accepted is what `read` finds in the same message, decoded by json.
    """
    rng = random.Random(20260809)
    taken = refused = 0
    for i in range(count):
        raw = (damaged if i % 2 else twisted)(rng.choice(frames), rng)
        got = parse([raw], [AT_NS], "BTC-USD")
        assert_sound(got, raw, AT_NS)
        if len(got.ticks):
            assert got.ticks.tolist() == read(json.loads(raw.decode(errors="replace")), AT_NS), raw
        taken += bool(len(got.ticks))
        refused += len(got.rejected)
    return taken, refused


@cache
def read_ns(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def assert_batch_equals_singles(parse: Parse, frames: Sequence[bytes], symbol: str) -> None:
    """Check that a batch gives what its frames give one by one."""
    at = [AT_NS + i for i in range(len(frames))]
    whole = parse(frames, at, symbol)
    singles = [parse([raw], [t], symbol) for raw, t in zip(frames, at, strict=True)]
    assert whole.ticks.tolist() == [row for x in singles for row in x.ticks.tolist()]
    assert whole.rejected == [row for x in singles for row in x.rejected]
    assert whole.quote == next((x.quote for x in reversed(singles) if x.quote), None)
    assert whole.venue_time_ns == max([x.venue_time_ns for x in singles], default=0)
    assert whole.newest_id == max([x.newest_id for x in singles], default=0)
    assert sum(n.count for n in whole.notices) == sum(n.count for x in singles for n in x.notices)
