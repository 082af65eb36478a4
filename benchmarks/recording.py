"""Recorded trade frames, repeated with rising ids and times."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import msgspec

from market.times import NS_PER_MS

FILE = Path(__file__).parents[1] / "tests/data/binance_spot_btcusdt_midnight.jsonl.gz"
_HEAD, _TAIL = b'"e":"trade"', b'"M":true}'


class _Trade(msgspec.Struct):
    E: int
    t: int
    T: int


@dataclass(frozen=True, slots=True)
class Frames:
    """Messages as a socket brings them, and when each was received."""

    raw: list[bytes]
    received_ns: list[int]
    first_id: int

    def __len__(self) -> int:
        return len(self.raw)


def trade_frames(count: int) -> Frames:
    """Repeat the recorded trades, id after id and minute after minute, until there are `count`."""
    payloads = _payloads()
    trades = [msgspec.json.decode(payload, type=_Trade) for payload in payloads]
    first, last = trades[0], trades[-1]
    templates = [_template(*pair) for pair in zip(payloads, trades, strict=True)]
    span_ms = max(trade.T for trade in trades) - min(trade.T for trade in trades) + 1
    raw: list[bytes] = []
    received: list[int] = []
    for lap in range(-(-count // len(trades))):
        for number, (template, trade) in enumerate(zip(templates, trades, strict=True)):
            at_ms = trade.T + lap * span_ms
            raw.append(template % (trade.E + lap * span_ms, first.t + lap * len(trades) + number, at_ms))
            received.append((at_ms + 10) * NS_PER_MS)
    assert last.t >= first.t  # noqa: S101 - the recording is in order
    return Frames(raw[:count], received[:count], first.t)


def _payloads() -> list[bytes]:
    """Read the trades out of their combined envelope: a pair's own socket brings them without."""
    with gzip.open(FILE) as lines:
        messages = [line.split(b" ", 1)[1].rstrip() for line in lines if _HEAD in line]
    return [message[message.index(b"{", 1) : -1] for message in messages]


def _template(payload: bytes, trade: _Trade) -> bytes:
    text = payload.replace(b"%", b"%%")
    for key, value in ((b"E", trade.E), (b"t", trade.t), (b"T", trade.T)):
        text = text.replace(b'"%s":%d' % (key, value), b'"%s":%%d' % key)
    return text
