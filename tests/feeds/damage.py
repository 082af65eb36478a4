"""Frames and answers made wrong, by byte and by field, and what a parser owes to each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from math import inf, isfinite
from typing import Any, TypeVar

from feeds.frames import MAX_AHEAD_NS
from feeds.venue import Parsed
from market.errors import BadFrame, Retryable
from market.ticks import Ticks

_T = TypeVar("_T")
TOKENS = (
    b"NaN",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b'"',
    b"\\",
    b"\\u0000",
    b"[",
    b"{}",
    b"\xff",
    b"\xed\xa0\x80",
    b"9" * 30,
    b"9" * 5_000,
    b'"data":',
    b"\n",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**53 + 1,
    10**30,
    inf,
    float("nan"),
    "",
    "0",
    "-5",
    "NaN",
    "1e309",
    "1e-400",
    "x" * 2_000,
    [],
    {},
    [[[[1]]]],
    [None, {"a": {"b": []}}],
)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Change one to three places of a message."""
    for _ in range(rng.randint(1, 3)):
        raw = _bytes_changed(raw, rng) if rng.random() < 0.5 else _field_changed(raw, rng)
    return raw


def _bytes_changed(raw: bytes, rng: random.Random) -> bytes:
    out = bytearray(raw)
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


def _field_changed(raw: bytes, rng: random.Random) -> bytes:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    places = list(_places(body))
    if not places:
        return raw
    holder, key = rng.choice(places)
    other, its = rng.choice(places)
    kind = rng.randrange(5)
    if kind == 0:
        holder[key] = rng.choice(VALUES)
    elif kind == 1:
        holder[key], other[its] = str(other[its]), str(holder[key])
    elif kind == 2:
        del holder[key]
    elif kind == 3:
        holder[key] = [holder[key]] * rng.randint(1, 3)
    elif isinstance(holder[key], str):
        holder[key] = holder[key].upper() + rng.choice("0 .e-\x00é")
    return json.dumps(body).encode()


def _places(body: Any) -> list[tuple[Any, Any]]:
    keys = list(body) if isinstance(body, dict) else list(range(len(body))) if isinstance(body, list) else []
    return [(body, key) for key in keys] + [x for key in keys for x in _places(body[key])]


def fates(got: Parsed) -> int:
    """Count what a frame became: trades, a quote, a refusal or notices."""
    noticed = sum(notice.count for notice in got.notices)
    return bool(len(got.ticks)) + len(got.rejected) + noticed + (got.quote is not None)


def assert_sound(got: Parsed, frame: bytes, at: int) -> None:
    """Check the parser's word for one frame, whatever that holds."""
    assert fates(got) == 1, frame
    assert_sound_ticks(got.ticks, at)
    assert 0 <= got.venue_time_ns <= at + MAX_AHEAD_NS, frame
    assert all(x.reason and (x.received_ns, x.raw) == (at, frame[:1024]) for x in got.rejected), frame
    if (quote := got.quote) is not None:
        shown = (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size)
        assert all(isfinite(x) and x > 0.0 for x in shown), frame
        assert (quote.received_ns, quote.ts_ns <= at + MAX_AHEAD_NS) == (at, True), frame


def assert_sound_ticks(ticks: Ticks, at: int) -> None:
    for trade_id, ts, price, size, received, side in ticks.tolist():
        assert 0 <= trade_id <= 2**53
        assert 0 < ts <= at + MAX_AHEAD_NS
        assert 0.0 < price < inf
        assert 0.0 < size < inf
        assert (received, abs(side)) == (at, 1)


def answered(read: Callable[..., _T], *given: object) -> _T | None:
    """Return what was read of an answer; None for a refusal that names its reason."""
    try:
        return read(*given)
    except (BadFrame, Retryable) as error:
        reason = str(error)
    assert reason
    return None
