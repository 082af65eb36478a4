from __future__ import annotations

import numpy as np
import pytest

from actors.payloads import payload
from market.errors import BadFrame
from market.rows import Candle, EventRow
from storage.pages import decode_candles, decode_ticks, encode_candles, encode_ticks
from tests.recordings import HERE, trades

MINUTE_NS = 60_000_000_000
RECORDED = HERE / "binance_spot_btcusdt_20260216.csv.gz"


def bar(number: int, revision: int = 0) -> Candle:
    ts_ns = 1_766_318_400_000_000_000 + number * MINUTE_NS
    return Candle(ts_ns, 1.5, 2.5, 0.1, 1.1, 3.3, 2.2, 1.1, 0.1 + 0.2, 7, True, revision)


def test_ticks_come_back_to_the_bit() -> None:
    ticks = trades(RECORDED)[:1_000]
    body = encode_ticks(ticks)
    assert decode_ticks(body, len(ticks)).tobytes() == ticks.tobytes()
    assert np.array_equal(decode_ticks(body, len(ticks)), ticks)
    with pytest.raises(BadFrame, match="are not 999 ticks"):
        decode_ticks(body, 999)


def test_the_bars_of_one_timeframe_are_picked_in_order() -> None:
    told = [
        (bar(1), "1m", "CANDLE_CLOSED"),
        (bar(1), "5m", "CANDLE_CLOSED"),
        (bar(1, 1), "1m", "CANDLE_RESTATED"),
    ]
    events = [
        EventRow(seq, row.ts_ns, name, payload(row, timeframe=timeframe))
        for seq, (row, timeframe, name) in enumerate(told, 1)
    ]
    events.append(EventRow(4, 0, "FEED_STALE", b'{"reason":"x","silent_s":1}'))
    assert decode_candles(encode_candles(events, "1m")) == [bar(1), bar(1, 1)]
    assert decode_candles(encode_candles(events, "1d")) == []
    with pytest.raises(BadFrame):
        decode_candles(b"\x93\x01\x02\x03")
