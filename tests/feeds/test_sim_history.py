from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.sim.history import GeneratedHistory, RecordedHistory
from feeds.sim.noise import walk
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.sim_support import START_NS
from tests.recordings import beside, table


def _history(rate: float = 50.0, seed: int = 7, symbol: str = "BTCUSDT") -> GeneratedHistory:
    return GeneratedHistory(symbol, seed, rate, START_NS)


@pytest.mark.parametrize("rate", [0.1, 3.0, 50.0, 777.7, 10_000.0])
def test_ids_are_contiguous_times_rise_and_the_rate_is_kept(rate: float) -> None:
    history = _history(rate)
    trades = history.trades(1, 30_000)
    assert [trade.id for trade in trades] == list(range(1, 30_001))
    times = [trade.ts_ns for trade in trades]
    assert times == sorted(times)
    assert times[0] >= START_NS
    assert 30_000 / ((times[-1] - START_NS) / NS_PER_S) == pytest.approx(rate, rel=0.02)
    assert all(ts_ns % NS_PER_MS == 0 for ts_ns in times)


@given(st.integers(1, 10**8), st.sampled_from([0.1, 50.0, 10_000.0]))
@settings(max_examples=30, deadline=None)
def test_any_trade_can_be_asked_for_without_its_past(trade_id: int, rate: float) -> None:
    (alone,) = _history(rate).trades(trade_id, trade_id)
    history = _history(rate)
    among = history.trades(trade_id - 3, trade_id + 300)
    assert alone in among
    assert history.last_id_at(alone.ts_ns) >= trade_id
    assert history.last_id_at(alone.ts_ns - 1) < trade_id


def test_seed_and_symbol_make_another_market() -> None:
    first = _history().trades(1, 100)
    assert first == _history().trades(1, 100)
    assert first != _history(seed=8).trades(1, 100)
    assert first != _history(symbol="ETHUSDT").trades(1, 100)


def test_nothing_happened_before_the_start() -> None:
    history = _history()
    assert history.last_id_at(START_NS - 1) == 0
    assert history.last_id_at(0) == 0
    assert history.trades(-5, 0) == []


def test_it_looks_like_a_market() -> None:
    trades = _history(500.0).trades(1, 20_000)
    cents = [round(float(trade.price) * 100) for trade in trades]
    assert max(abs(b - a) for a, b in pairwise(cents)) < 60_000 * 100 * 0.001  # continuous, over blocks too
    assert max(cents) - min(cents) > 100
    sides = [trade.buyer_is_maker for trade in trades]
    assert 0.3 < sum(sides) / len(sides) < 0.7
    assert sum(a == b for a, b in pairwise(sides)) > 0.7 * len(sides)  # persistent
    assert max(len(list(same)) for _, same in groupby(trade.ts_ns for trade in trades)) >= 10  # sweeps
    sizes = np.log([float(trade.size) for trade in trades])
    assert 1.2 < sizes.std() < 1.8
    assert all(trade.size.endswith("000") and float(trade.size) > 0 for trade in trades)


def test_the_walk_moves_with_the_root_of_time() -> None:
    at_ms = np.arange(0, 40_000_000, 40_000, dtype=np.int64)
    second = (walk(1, at_ms + 1_000) - walk(1, at_ms)).std()
    minute = (walk(1, at_ms + 60_000) - walk(1, at_ms)).std()
    assert 3 < minute / second < 20  # sqrt(60) is 7.7
    assert 0.2 < second < 3


@pytest.mark.parametrize("rate", [0.1, 50.0, 5_000.0])
def test_aggregates_are_runs_of_one_time_price_and_side(rate: float) -> None:
    history = _history(rate)
    trades = history.trades(1, 12_000)
    runs = [list(run) for _, run in groupby(trades, key=lambda t: (t.ts_ns, t.price, t.buyer_is_maker))][:-1]
    got = history.aggregates(1, len(runs))
    assert [(row.first_id, row.last_id) for row in got] == [(run[0].id, run[-1].id) for run in runs]
    assert [row.id for row in got] == list(range(1, len(runs) + 1))
    assert [row.ts_ns for row in got] == [run[0].ts_ns for run in runs]
    for row, run in zip(got, runs, strict=True):
        assert round(float(row.size) * 1e8) == sum(round(float(trade.size) * 1e8) for trade in run)
    assert all(
        history.aggregate_of(row.last_id) == history.aggregate_of(row.first_id) == row.id for row in got
    )


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rate_per_s"):
        _history(0.0)


def _write(path: Path, rows: list[str]) -> Path:
    path.write_text("trade_id,price,size,side,ts_event_ns\n" + "\n".join(rows) + "\n")
    return path


def test_a_recording_keeps_its_digits_and_its_times(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", ["7,100.10,0.500,BUY,5000000000", "8,100.1,1,sell,6000000000"])
    history = RecordedHistory(path, "ABCUSDT")
    assert history.symbol == "ABCUSDT"
    assert [tuple(trade) for trade in history.trades(0, 100)] == [
        (7, 5_000_000_000, "100.10", "0.500", False),
        (8, 6_000_000_000, "100.1", "1", True),
    ]
    assert [history.last_id_at(s * NS_PER_S) for s in (4, 5, 6, 99)] == [6, 7, 8, 8]
    assert history.tick_e8 == 10_000_000  # one decimal


def test_a_recording_can_be_moved_and_hurried(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", ["1,9,1,buy,5000000000", "2,9,1,buy,7000000000"])
    history = RecordedHistory(path, "X", speed=4.0, shift_to_ns=START_NS)
    assert [trade.ts_ns - START_NS for trade in history.trades(1, 2)] == [0, NS_PER_S // 2]


def test_a_recording_whose_times_fall_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", ["1,9,1,buy,7000000000", "2,9,1,buy,5000000000"])
    with pytest.raises(ValueError, match="times fall"):
        RecordedHistory(path, "X")


def test_a_real_recording_comes_back_as_it_was_printed() -> None:
    recording = beside("trades/binance_spot_btcusdt_20260216.csv.gz")
    rows = table(recording)
    trades = RecordedHistory(recording).trades(0, 2**62)
    assert [(str(t.id), t.price, t.size, str(t.ts_ns), t.buyer_is_maker) for t in trades] == [
        (r["trade_id"], r["price"], r["size"], r["ts_event_ns"], r["side"] == "sell") for r in rows
    ]
