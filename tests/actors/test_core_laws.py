"""PairCore: the same ticks give the same rows and events, however they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.inputs import (
    Clock,
    TickBatch,
)
from market.times import NS_PER_S
from tests.actors.core_support import (
    SLOW,
    TIMEFRAMES_S,
    Life,
    assert_announced,
    assert_complete,
    bars,
    key,
)
from tests.analytics.worlds import (
    splits,
    ticks,
)
from tests.recordings import HERE, trades


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_batching_gives_the_same_rows_and_events(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=40))
    lives = []
    for _ in range(2):
        life = Life(params=SLOW)
        for part in draw.draw(splits(len(seen))):
            life.take(TickBatch(seen[part]))
            if draw.draw(st.booleans()):
                life.rotate()
            if draw.draw(st.booleans()):  # closes early what the next trade would close
                life.take(Clock(int(seen["ts_ns"][min(part.stop, len(seen) - 1)])))
        lives.append(life)
        assert_complete(life, seen, int(seen["ts_ns"].max()))
        assert_announced(life)
    assert list(map(key, bars(lives[0].events))) == list(map(key, bars(lives[1].events)))
    assert [(e.name, e.ts_ns) for e in lives[0].events] == [(e.name, e.ts_ns) for e in lives[1].events]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_late_ticks_end_in_the_rows_of_an_ordered_fold(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=60))
    order = np.argsort(np.arange(len(seen)) + draw.draw(lateness(len(seen))), kind="stable")
    arriving, life, until_ns = seen[order], Life(params=SLOW), 0
    for part in draw.draw(splits(len(seen))):
        batch = np.sort(arriving[part], order="trade_id")
        life.take(TickBatch(batch))
        until_ns = max(until_ns, int(batch["ts_ns"].max()))
        step = draw.draw(st.sampled_from(["", "rotate", "clock"]))
        if step == "rotate":
            life.rotate()
        elif step == "clock":
            until_ns += draw.draw(st.integers(0, 3)) * 50 * NS_PER_S
            life.take(Clock(until_ns))
    assert_complete(life, seen, until_ns)
    assert_announced(life)


@st.composite
def lateness(draw: st.DrawFn, size: int) -> list[int]:
    """Say of each trade behind how many others it comes."""
    late = draw(st.dictionaries(st.integers(0, size - 1), st.integers(1, size), max_size=6))
    return [late.get(i, 0) for i in range(size)]


@pytest.mark.parametrize("batch", [1, 37, 5_000])
def test_recorded_trades(batch: int) -> None:
    seen = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    if batch == 1:
        seen = seen[:3_000]
    life = Life((5, *TIMEFRAMES_S))
    for start in range(0, len(seen), batch):
        life.take(TickBatch(seen[start : start + batch]))
        if start // batch % 100 == 50:
            life.rotate()
    assert_complete(life, seen, int(seen["ts_ns"].max()))
    assert_announced(life)


def test_recorded_trades_with_a_hole_that_is_filled_last() -> None:
    seen = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")
    life = Life(params=SLOW)
    hole = slice(4_000, 9_000)  # some four minutes
    for part in (slice(0, 4_000), slice(9_000, 15_000), hole, slice(15_000, None)):
        life.take(TickBatch(seen[part]))
        life.rotate()
    assert_complete(life, seen, int(seen["ts_ns"].max()))
    assert_announced(life)
    assert sum(row.revision for row in life.candles(60)) >= 3


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_new_timeframe_equals_a_fold_from_the_beginning(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=60))
    life, until_ns = Life(params=SLOW), 0
    order = np.argsort(np.arange(len(seen)) + draw.draw(lateness(len(seen))), kind="stable")
    parts = draw.draw(splits(len(seen)))
    change = draw.draw(st.integers(0, len(parts)))
    for index, part in enumerate([*parts, slice(0, 0)]):
        if index == change:
            before = len(life.events)
            life.write(life.core.set_timeframes((60, 180, 900)).rows)
            life.timeframes_s = (60, 180, 900)
            life.rotate()
            assert len(life.events) == before
            life.tables.pop("candles_5m", None)
        if part.stop:
            life.take(TickBatch(seen[order][part]))
            until_ns = max(until_ns, int(seen[order][part]["ts_ns"].max()))
    assert_complete(life, seen, until_ns)
    assert life.core.timeframes_s == (60, 180, 900)
    assert "candles_5m" not in life.tables
