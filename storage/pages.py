"""What a page of a pair's rows is made of: ticks as they lie in memory, the rest as msgpack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
import numpy as np

from market.errors import BadFrame
from market.rows import Candle, EventRow, TickRows
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
    told = (msgspec.json.decode(e.data, type=_Announced) for e in events if e.event in _BARS)
    return msgspec.msgpack.encode([_candle(bar) for bar in told if bar.timeframe == timeframe])


def decode_candles(body: bytes) -> Sequence[Candle]:
    """Read a page of candles; raise BadFrame for anything else."""
    try:
        return msgspec.msgpack.decode(body, type=list[Candle])
    except msgspec.MsgspecError as error:
        raise BadFrame(f"no page of candles: {error}", body[:64]) from error


def _candle(bar: _Announced) -> Candle:
    values = msgspec.structs.asdict(bar)
    del values["timeframe"]
    opened: datetime = values.pop("timestamp")
    return Candle(int(opened.timestamp()) * NS_PER_S, **values)
