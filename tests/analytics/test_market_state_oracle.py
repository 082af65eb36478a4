"""The market state of recorded trades against the text of the definitions, every window looked at in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics.market_state import Params
from market.ticks import TICK, Ticks
from market.times import NS_PER_S
from tests.analytics.state_reference import differences, reference
from tests.analytics.state_worlds import after, fold
from tests.recordings import HERE, beside, trades

MINUTE = Params(step_ns=60 * NS_PER_S)


def spy() -> Ticks:
    """Read three days of an exchange traded fund: dense days, empty nights, sides by the tick rule."""
    path = beside("ticks_equity/spy_20131007-09.csv.gz")
    rows = pd.read_csv(path, usecols=["seq", "ts_event_ns", "price", "size", "side_inferred"])
    out = np.zeros(len(rows), TICK)
    out["trade_id"], out["ts_ns"] = rows["seq"], rows["ts_event_ns"]
    out["price"], out["size"] = rows["price"], rows["size"]
    out["side"] = rows["side_inferred"].map({"buy": 1, "sell": -1}).fillna(0)
    return out[np.lexsort((out["trade_id"], out["ts_ns"]))]


def compared(data: Ticks, params: Params, batch: int) -> int:
    batches = [slice(i, i + batch) for i in range(0, len(data), batch)]
    rows = fold(data, params, after(data), batches)
    assert differences(rows, reference(data, params, after(data))) == []
    return len(rows)


def day(name: str) -> Path:
    return HERE / f"binance_spot_btcusdt_{name}.csv.gz"


@pytest.mark.parametrize("batch", [1, 3, 100, 16_384])
def test_five_and_ten_minutes_of_bitcoin(batch: int) -> None:
    assert compared(trades(day("20240808-09")), Params(), batch) == 670
    assert compared(trades(day("20260216")), Params(), batch) == 318


@pytest.mark.parametrize("batch", [3, 16_384])
def test_most_of_an_hour_of_a_coin_with_coarse_ticks(batch: int) -> None:
    assert compared(trades(beside("trades/binance_spot_trxusdt_20250304.csv.gz")), Params(), batch) == 2_898


@pytest.mark.parametrize(("params", "rows"), [(Params(), 13_881), (MINUTE, 232)])
def test_hours_of_a_thin_pair_by_the_second_and_by_the_minute(params: Params, rows: int) -> None:
    data = trades(beside("trades/kraken_spot_xbtusdt_20251110_part1.csv.gz"))
    assert compared(data, params, 7) == rows


def test_a_day_and_a_half_of_a_thin_pair() -> None:
    data = trades(beside("trades/binance_spot_xrpeth_aggtrades_2019_part1.csv.gz"))
    assert compared(data, MINUTE, 16_384) == 2_129


def test_an_exchanges_opening_by_the_second_and_three_days_by_the_minute() -> None:
    data = spy()
    opening_ns = int(data["ts_ns"][0]) // (3_600 * NS_PER_S) * 3_600 * NS_PER_S + 5 * 3_600 * NS_PER_S
    first, last = np.searchsorted(data["ts_ns"], [opening_ns, opening_ns + 3_600 * NS_PER_S])
    assert compared(data[first:last], Params(), 16_384) > 3_600
    assert compared(data, MINUTE, 16_384) > 3_800
