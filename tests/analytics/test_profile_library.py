"""Value areas against the marketprofile package, in its one-row mode.

It leaves out empty rows, names a row by the price above it, looks for the middle of the profile half a row
higher and goes on while the share is reached exactly. So it is given rows for prices, so wide that none is
empty, and markets without ties.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_profile import MarketProfile

from analytics.profile import Params
from analytics.profile_rows import prices_of, rows_of
from tests.analytics.profile_worlds import fold
from tests.recordings import HERE, beside, trades


def compare(path: Path, tick_size: float, params: Params, every: int = 1) -> int:
    """Compare the rows of a recorded market, or some of them; return how many."""
    data = trades(path)
    placed = rows_of(np.ascontiguousarray(data["price"]), tick_size, params.bin_ticks)
    theirs = pd.DataFrame({"Close": placed.astype(float), "Volume": data["size"]})
    ours = fold(data, params, tick_size=tick_size)[::every]
    for row in ours:
        start, end = np.searchsorted(data["ts_ns"], (row.session_start_ns, row.ts_ns)).tolist()
        profile = MarketProfile(theirs, tick_size=1, value_area_pct=params.va_share)[start:end]
        low, high = profile.value_area
        found = (int(profile.poc_price), int(high), int(low))
        expected = prices_of(found, tick_size, params.bin_ticks)
        assert [row.poc, row.value_area_high, row.value_area_low] == expected
        assert row.total_volume == pytest.approx(profile.total_volume, rel=1e-9)
    return len(ours)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
@pytest.mark.parametrize(
    ("name", "bin_ticks", "minutes"),
    [
        ("binance_spot_btcusdt_20240808-09", 500, 12),
        ("binance_spot_btcusdt_20240808-09", 2_000, 12),
        ("binance_spot_btcusdt_20260216", 200, 5),
    ],
)
def test_value_areas_equal_the_librarys(name: str, bin_ticks: int, minutes: int, share: float) -> None:
    params = Params(bin_ticks=bin_ticks, va_share=share, va_step=1)
    assert compare(HERE / f"{name}.csv.gz", 0.01, params) == minutes


@pytest.mark.parametrize(
    ("name", "tick_size", "bin_ticks", "every", "minutes"),
    [
        ("binance_spot_trxusdt_20250304", 0.0001, 1, 1, 48),
        ("binance_spot_xrpeth_aggtrades_2019_part1", 1e-8, 100, 30, 49),
        ("binance_usdm_btcusdt_20240808", 0.1, 20, 1, 6),
        ("binance_coinm_btcusd_perp_20240808-09", 0.1, 50, 1, 12),
    ],
)
def test_other_recorded_markets(
    name: str, tick_size: float, bin_ticks: int, every: int, minutes: int
) -> None:
    params = Params(bin_ticks=bin_ticks, va_step=1)
    assert compare(beside(f"trades/{name}.csv.gz"), tick_size, params, every) == minutes
