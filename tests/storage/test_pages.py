from __future__ import annotations

import numpy as np
import pytest

from actors.lane_frames import MAX_FRAME_BYTES
from actors.payloads import payload
from market.errors import BadFrame
from market.rows import Candle, EventRow, TickRows
from market.ticks import TICK
from storage.pages import PAGE_TICKS, decode_candles, decode_ticks, encode_candles, encode_ticks
from tests.recordings import HERE, trades

MINUTE_NS = 60_000_000_000
RECORDED = HERE / "binance_spot_btcusdt_20260216.csv.gz"


def bar(number: int, revision: int = 0) -> Candle:
    ts_ns = 1_766_318_400_000_000_000 + number * MINUTE_NS
    return Candle(ts_ns, 1.5, 2.5, 0.1, 1.1, 3.3, 2.2, 1.1, 0.1 + 0.2, 7, True, revision)


def test_ticks_come_back_to_the_bit_and_integer_ids_cost_nothing() -> None:
    ticks = trades(RECORDED)[:1_000]
    body = encode_ticks(TickRows(8, ticks))
    assert body == ticks.tobytes()
    back = decode_ticks(body, 8, len(ticks))
    assert (back.first_seq, back.ticks.tobytes(), back.ids) == (8, ticks.tobytes(), ())
    with pytest.raises(BadFrame, match="are not 1001 ticks"):
        decode_ticks(body, 8, 1_001)


def test_text_ids_travel_behind_their_ticks() -> None:
    ticks, ids = trades(RECORDED)[:300], tuple(f"é{n:03}-'\n\"" for n in range(300))
    body = encode_ticks(TickRows(8, ticks, ids))
    back = decode_ticks(body, 8, 300)
    assert (back.ticks.tobytes(), back.ids) == (ticks.tobytes(), ids)
    for wrong in (body[:-1], body + b"x", ticks.tobytes() + b"\x90", ticks.tobytes() + b"\x91\xa1x"):
        with pytest.raises(BadFrame):
            decode_ticks(wrong, 8, 300)
    with pytest.raises(BadFrame):
        decode_ticks(body, 8, 299)


def test_the_longest_ids_fit_a_frame() -> None:
    ticks = np.zeros(PAGE_TICKS, TICK)
    assert len(encode_ticks(TickRows(1, ticks, ("\U0001f600" * 128,) * PAGE_TICKS))) < MAX_FRAME_BYTES * 0.9


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
