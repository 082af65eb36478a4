"""Journal records as bytes: msgpack lists `[code, field, ...]`, ticks as their raw array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np

from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Instrument,
    Position,
    Quote,
    Rejected,
    TickBatch,
)
from market.ticks import TICK

# The number is the format: it is never given to another class, and a class only gains fields with defaults.
_CODES: dict[int, type[Any]] = {
    1: TickBatch,
    2: Quote,
    3: Clock,
    4: Began,
    5: GapOpened,
    6: GapClosed,
    7: Rejected,
    8: FeedStale,
    9: FeedRecovered,
    10: Instrument,
    11: Position,
}
_NUMBERS = {kind: code for code, kind in _CODES.items()}
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in _CODES.values()}
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[list[Any]])


def encode(inputs: Sequence[Input]) -> bytes:
    """Write one record's inputs."""
    return _encoder.encode([_to_list(item) for item in inputs])


def decode(payload: bytes | memoryview) -> list[Input]:
    """Read what `encode` wrote; raises msgspec.DecodeError or LookupError for anything else."""
    return [_from_list(item) for item in _decoder.decode(payload)]


def _to_list(item: Input) -> list[Any]:
    if isinstance(item, TickBatch):
        head = [1, item.ticks.tobytes(), item.late]
        return [*head, item.ids] if item.ids else head
    kind = type(item)
    return [_NUMBERS[kind], *(getattr(item, name) for name in _FIELDS[kind])]


def _from_list(item: list[Any]) -> Input:
    code, *values = item
    if code == 1:
        return TickBatch(np.frombuffer(values[0], TICK), *values[1:2], *map(tuple, values[2:]))
    made: Input = _CODES[code](*values)
    return made
