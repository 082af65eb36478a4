"""What a page of a pair's rows is made of: ticks as they lie in memory, the rest as msgpack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

import msgspec
import numpy as np

from market.errors import BadFrame
from market.rows import Candle, EventRow, MarketState, TickRows
from market.ticks import TICK
from market.times import NS_PER_S

PAGE_TICKS = 8_192
PAGE_EVENTS = 1_024
_BARS = frozenset({"CANDLE_CLOSED", "CANDLE_RESTATED"})


class _Announced(msgspec.Struct):
    timeframe: str
    timestamp: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    vwap: float
    trade_count: int
    is_complete: bool
    revision: int


class _Told(msgspec.Struct):
    timestamp: datetime
    mass: float | None
    momentum: float | None
    friction: float | None
    entropy: float | None
    nash_dist: float | None
    alpha: float | None
    regime: str
    sentiment_label: str
    sentiment_score: float


StatedCandle: TypeAlias = tuple[Candle, MarketState | None]
"""A bar, and the market state at its end, if the record has one."""


def encode_ticks(rows: TickRows) -> bytes:
    """Write ticks; text ids follow them."""
    return rows.ticks.tobytes() + (msgspec.msgpack.encode(rows.ids) if rows.ids else b"")


def decode_ticks(body: bytes, first_seq: int, count: int) -> TickRows:
    """Read a page of `count` ticks; raise BadFrame if it holds another number."""
    size = count * TICK.itemsize
    ids = _ids(body[size:]) if len(body) > size else ()
    if len(body) < size or (len(body) > size and len(ids) != count):
        raise BadFrame(f"{len(body)} bytes are not {count} ticks", body[:64])
    return TickRows(first_seq, np.frombuffer(body, TICK, count), ids)


def _ids(body: bytes) -> tuple[str, ...]:
    try:
        return msgspec.msgpack.decode(body, type=tuple[str, ...])
    except msgspec.MsgspecError as error:
        raise BadFrame(f"no ids behind a page of ticks: {error}", body[:64]) from error


def encode_candles(events: Iterable[EventRow], timeframe: str) -> bytes:
    """Pick the bars of one timeframe that events tell of, in their order."""
    return msgspec.msgpack.encode(told_candles(events, timeframe))


def told_candles(events: Iterable[EventRow], timeframe: str) -> list[Candle]:
    """Give the bars of one timeframe that events tell of."""
    told = (msgspec.json.decode(e.data, type=_Announced) for e in events if e.event in _BARS)
    return [_candle(bar) for bar in told if bar.timeframe == timeframe]


def told_states(events: Iterable[EventRow]) -> dict[int, MarketState]:
    """Give the market states that events tell of, by time; the last that was told of each."""
    told = (msgspec.json.decode(e.data, type=_Told) for e in events if e.event == "PHYSICS_UPDATE")
    return {state.ts_ns: state for state in map(_state, told)}


def decode_candles(body: bytes) -> Sequence[Candle]:
    """Read a page of candles; raise BadFrame for anything else."""
    try:
        return msgspec.msgpack.decode(body, type=list[Candle])
    except msgspec.MsgspecError as error:
        raise BadFrame(f"no page of candles: {error}", body[:64]) from error


def encode_states(stated: Sequence[StatedCandle]) -> bytes:
    """Write bars with the market states at their ends."""
    return msgspec.msgpack.encode(stated)


def decode_states(body: bytes) -> Sequence[StatedCandle]:
    """Read a page of bars with their states; raise BadFrame for anything else."""
    try:
        return msgspec.msgpack.decode(body, type=list[StatedCandle])
    except msgspec.MsgspecError as error:
        raise BadFrame(f"no page of states: {error}", body[:64]) from error


def _candle(bar: _Announced) -> Candle:
    values = msgspec.structs.asdict(bar)
    del values["timeframe"]
    return Candle(_ns(values.pop("timestamp")), **values)


def _state(told: _Told) -> MarketState:
    values = msgspec.structs.asdict(told)
    return MarketState(_ns(values.pop("timestamp")), **values)


def _ns(whole: datetime) -> int:
    """Read the time of a bar or a step, which are whole seconds."""
    return int(whole.timestamp()) * NS_PER_S
