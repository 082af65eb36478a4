"""PairCore: however ticks come, every table ends as if they had come in order and once."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.state import DECIDING_TRADES
from market.inputs import Clock, Instrument, TickBatch
from market.rows import FairValueGap, Zone
from market.ticks import TICK, Ticks
from market.times import NS_PER_S, rfc3339
from tests.actors.core_support import Life, data
from tests.analytics.worlds import splits
from tests.recordings import HERE, trades

TIMEFRAMES_S = (5, 15)
START_NS = 1_723_161_540 * NS_PER_S  # one minute before a UTC midnight
FOUND = ("market_profile", "market_state", "fair_value_gaps", "supply_demand_zones")
PLAIN = ("order_flow", "candles_5s", "candles_15s")


def jumpy(seed: int, size: int) -> Ticks:
    """Walk for minutes across midnight: calm bases, sudden departures, lone spikes, ties and silences."""
    rng = np.random.default_rng(seed)
    out = np.zeros(size, TICK)
    out["trade_id"] = 1_000 + np.arange(size)
    gaps_ns = rng.choice(
        [0, 1, 10**8, 4 * 10**8, 10**9, 12 * 10**9], size, p=[0.1, 0.1, 0.3, 0.3, 0.17, 0.03]
    )
    out["ts_ns"] = START_NS + np.cumsum(gaps_ns)
    steps = rng.choice([0, 1, -1, 60, -60], size, p=[0.5, 0.22, 0.22, 0.03, 0.03])
    spikes = rng.choice([0, 300], size, p=[0.97, 0.03])
    out["price"] = (10_000 + np.cumsum(steps) + spikes) / 100
    out["size"] = rng.integers(1, 10**4, size) / 10**3
    out["side"] = rng.choice([-1, 1, 0], size, p=[0.45, 0.45, 0.1])
    return out


def in_one_go(seen: Ticks, until_ns: int, *before: Instrument) -> Life:
    life = Life(TIMEFRAMES_S)
    life.take(*before, TickBatch(seen), Clock(until_ns))
    return life


def assert_same_record(life: Life, expected: Life) -> None:
    for table in (*FOUND, *PLAIN):
        found, wanted = life.rows(table), expected.rows(table)
        assert len(found) == len(wanted), table
        for row, other in zip(found, wanted, strict=True):
            assert plain(row) == plain(other), (table, row, other)
            assert numbers(row) == pytest.approx(numbers(other), rel=1e-9, abs=1e-9), table
    assert flags_by_id(life) == flags_by_id(expected)
    assert life.core.living().keys() == expected.core.living().keys()
    for table, living in expected.core.living().items():
        assert life.core.living()[table].keys() == living.keys()


def plain(row: Any) -> list[object]:
    names = row._fields
    return [None if n == "revision" else v for n, v in zip(names, row, strict=True) if type(v) is not float]


def numbers(row: Any) -> list[float]:
    return [value for value in row if type(value) is float]


def flags_by_id(life: Life) -> dict[int, int]:
    ids = dict(life.ticks)
    return {ids[seq]: flag for seq, flag in life.flags.items()}


def assert_told(life: Life) -> None:
    """See that the last word on each row is the row."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    names = {
        "PROFILE_UPDATE": "market_profile",
        "PHYSICS_UPDATE": "market_state",
        "FVG_OPENED": "opened",
        "FVG_FILLED": "filled",
        "ZONE_CREATED": "zone",
        "ZONE_TESTED": "zone",
        "ZONE_BROKEN": "zone",
    }
    for event in life.events:
        if event.name in names:
            told = data(event)
            told_of = told.get("gap_id") or told.get("zone_id") or told["timestamp"]
            last[names[event.name], told_of] = told
    for table in ("market_profile", "market_state"):
        for row in life.rows(table):
            told = last[table, rfc3339(row.ts_ns)]
            assert [told[name] for name in row._fields[2:]] == list(row[2:])
    words = {data(event)["gap_id"]: event.name for event in life.events if event.name.startswith("FVG")}
    for gap in life.rows("fair_value_gaps"):
        assert_gap_told(gap, last)
        assert (words[gap.gap_id] == "FVG_FILLED") == (gap.status == "FILLED")
    for zone in life.rows("supply_demand_zones"):
        assert_zone_told(zone, last["zone", zone.zone_id])


def assert_gap_told(gap: FairValueGap, last: dict[tuple[str, str], dict[str, Any]]) -> None:
    opened = last["opened", gap.gap_id]
    assert [opened[name] for name in ("gap_type", "top", "bottom", "created_at")] == [
        gap.gap_type,
        gap.top,
        gap.bottom,
        rfc3339(gap.created_ns),
    ]
    if gap.status == "FILLED":
        assert gap.filled_ns is not None
        assert last["filled", gap.gap_id]["filled_at"] == rfc3339(gap.filled_ns)


def assert_zone_told(zone: Zone, told: dict[str, Any]) -> None:
    names = ("zone_type", "price_low", "price_high", "strength", "status", "touches")
    assert [told[name] for name in names] == [getattr(zone, name) for name in names]
    assert told["updated_at"] == rfc3339(zone.updated_ns)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_late_ticks_end_in_the_record_of_an_ordered_life(draw: st.DataObject) -> None:
    seen = jumpy(draw.draw(st.integers(0, 2**32)), draw.draw(st.integers(2, 400)))
    ticks_late = st.integers(1, 4) | st.integers(1, len(seen))
    late = draw.draw(st.dictionaries(st.integers(0, len(seen) - 1), ticks_late, max_size=8))
    behind = np.array([late.get(i, 0) for i in range(len(seen))])
    order = np.argsort(np.arange(len(seen)) + behind, kind="stable")
    arriving, alone = seen[order], np.flatnonzero(behind[order]).tolist()
    cuts = {0, len(seen), *alone, *draw.draw(st.sets(st.integers(1, len(seen)), max_size=6))}
    life, until_ns, known = Life(TIMEFRAMES_S), 0, Instrument(0.01)
    life.take(known)
    for part in (slice(a, b) for a, b in pairwise(sorted(cuts))):
        life.take(TickBatch(arriving[part]))
        until_ns = max(until_ns, int(arriving[part]["ts_ns"].max()))
        step = draw.draw(st.sampled_from(["", "rotate", "clock"]))
        if step == "rotate":
            life.rotate()
        elif step == "clock":
            until_ns += draw.draw(st.integers(0, 8)) * NS_PER_S
            life.take(Clock(until_ns))
    assert_same_record(life, in_one_go(seen, until_ns, known))
    assert_told(life)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_batching_and_restart_gives_the_same_events(draw: st.DataObject) -> None:
    seen = jumpy(draw.draw(st.integers(0, 2**32)), draw.draw(st.integers(2, 1_500)))
    until_ns = int(seen["ts_ns"][-1]) + 7 * NS_PER_S
    life = Life(TIMEFRAMES_S)
    for part in draw.draw(splits(len(seen))):
        life.take(TickBatch(seen[part]))
        if draw.draw(st.booleans()):
            life.rotate()
    life.take(Clock(until_ns))
    expected = in_one_go(seen, until_ns)
    assert_same_record(life, expected)
    assert [(e.name, e.ts_ns) for e in life.events] == [(e.name, e.ts_ns) for e in expected.events]
    assert bool(life.rows("market_profile")) == (len(seen) >= DECIDING_TRADES)


def test_worlds_have_something_of_everything() -> None:
    events, gaps, zones, flags = set[str](), set[str](), set[str](), set[int]()
    for seed in range(12):
        life = in_one_go(seen := jumpy(seed, 1_200), int(seen["ts_ns"][-1]))
        events |= {event.name for event in life.events}
        gaps |= {gap.status for gap in life.rows("fair_value_gaps")}
        zones |= {zone.status for zone in life.rows("supply_demand_zones")}
        flags |= set(life.flags.values())
    assert flags == {0, 1}
    assert gaps == {"OPEN", "PARTIAL", "FILLED"}
    assert zones == {"FRESH", "TESTED", "BROKEN"}
    assert {"FVG_OPENED", "FVG_FILLED", "ZONE_CREATED", "ZONE_TESTED", "ZONE_BROKEN"} <= events
    assert {"PROFILE_UPDATE", "PHYSICS_UPDATE", "CANDLE_CLOSED", "ORDER_FLOW"} <= events


def test_a_recorded_hole_that_is_filled_last_changes_every_table_back() -> None:
    seen = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz")[:9_000]
    life = Life(TIMEFRAMES_S)
    for part in (slice(0, 3_000), slice(5_000, 7_000), slice(3_000, 5_000), slice(7_000, None)):
        life.take(TickBatch(seen[part]))
        life.rotate()
    last_ns = int(seen["ts_ns"].max())
    assert_same_record(life, in_one_go(seen, last_ns))
    assert_told(life)
    assert max(len(list(g)) for _, g in groupby(sorted(e.name for e in life.events))) > 100
