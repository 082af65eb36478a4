"""Flags of recorded trades, one by one, against the text's rule computed plainly."""

from __future__ import annotations

import csv
import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from analytics import anomaly
from market.ticks import TICK, Ticks
from tests.analytics import anomaly_reference
from tests.recordings import HERE, beside, trades


def equity(path: Path, count: int) -> Ticks:
    with gzip.open(path, "rt") as lines:
        rows = list(islice(csv.DictReader(lines), count))
    return np.array(
        [
            (
                int(x["seq"]),
                int(x["ts_event_ns"]),
                float(x["price"]),
                float(x["size"]),
                0,
                {"buy": 1, "sell": -1}.get(x["side_inferred"], 0),
            )
            for x in rows
        ],
        TICK,
    )


def same_in_all_batches(ticks: Ticks, tick_size: float) -> tuple[int, int]:
    """Compare with the reference; return how many prices and sizes are flagged."""
    expected = anomaly_reference.flags(ticks, tick_size)
    for length in (16_384, 1_000, 60, 3):
        state = anomaly.init(tick_size=tick_size)
        parts = [anomaly.step(state, ticks[at : at + length]) for at in range(0, len(ticks), length)]
        assert np.concatenate([part.price for part in parts]).tolist() == expected[0]
        assert np.concatenate([part.size for part in parts]).tolist() == expected[1]
    return state.price_outliers, state.size_outliers


@pytest.mark.parametrize(
    ("name", "count", "tick_size", "flagged"),
    [
        ("binance_spot_btcusdt_20240808-09", 6_000, 0.01, (0, 0)),
        ("binance_spot_btcusdt_20260216", 6_000, 0.01, (0, 60)),
    ],
)
def test_flags_of_recorded_trades_here(
    name: str, count: int, tick_size: float, flagged: tuple[int, int]
) -> None:
    assert same_in_all_batches(trades(HERE / f"{name}.csv.gz")[:count], tick_size) == flagged


@pytest.mark.parametrize(
    ("name", "count", "tick_size", "flagged"),
    [
        ("binance_spot_trxusdt_20250304", 5_000, 0.0001, (0, 0)),
        ("binance_spot_xrpeth_aggtrades_2019_part1", 7_872, 1e-8, (535, 0)),
        ("binance_coinm_btcusd_perp_20240808-09", 5_235, 0.1, (0, 0)),
        ("kraken_spot_xbtusdt_20251110_part1", 516, 0.1, (17, 0)),
    ],
)
def test_flags_of_recorded_trades(name: str, count: int, tick_size: float, flagged: tuple[int, int]) -> None:
    assert same_in_all_batches(trades(beside(f"trades/{name}.csv.gz"))[:count], tick_size) == flagged


def test_flags_of_recorded_equity_prints() -> None:
    ticks = equity(beside("ticks_equity/spy_20131007-09.csv.gz"), 12_000)
    assert same_in_all_batches(ticks, 0.01) == (9, 21)


def test_spikes_put_into_recorded_trades_are_flagged() -> None:
    ticks = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")[:4_000].copy()
    at = np.arange(200, 4_000, 50)
    ticks["price"][at] = np.round(ticks["price"][at] * 1.002, 2)
    ticks["size"][at] *= 1e6
    prices, sizes = same_in_all_batches(ticks, 0.01)
    assert prices >= len(at)
    assert sizes >= 1
