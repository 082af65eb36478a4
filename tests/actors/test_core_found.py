"""PairCore: stories of the profile, gaps, zones, the market state and outliers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from actors.cutting import SILENCE_STEPS
from actors.state import DECIDING_TRADES, MAX_TICK_SIZES, Ledger, schedule
from analytics import fvg, market_state
from analytics.params import AnalyticsParams
from market.events import Event
from market.inputs import Clock, Instrument, TickBatch
from market.rows import FairValueGap, MarketProfile, Zone
from market.ticks import TICK, Ticks
from market.times import DAY_NS, NS_PER_S, rfc3339
from storage.schema import columns
from tests.actors.core_support import HOUR_NS, Life, at, data, names
from tests.actors.test_core_record import (
    START_NS,
    TIMEFRAMES_S,
    assert_same_record,
    in_one_go,
    jumpy,
    numbers,
    plain,
)

KNOWN = Instrument(0.01)
SLOW = AnalyticsParams(state=market_state.Params(step_ns=3_600 * NS_PER_S))
TABLES = {
    "PROFILE_UPDATE": "market_profile",
    "FVG_OPENED": "fair_value_gaps",
    "FVG_FILLED": "fair_value_gaps",
    "ZONE_CREATED": "supply_demand_zones",
    "ZONE_TESTED": "supply_demand_zones",
    "ZONE_BROKEN": "supply_demand_zones",
    "PHYSICS_UPDATE": "market_state",
    "ORDER_FLOW": "order_flow",
}


def of(events: Sequence[Event], name: str) -> list[Event]:
    return [event for event in events if event.name == name]


def bars(*prices: tuple[float, ...], width_s: int = 60, first_s: float = 0) -> Ticks:
    """Make trades that draw bars through these prices, evenly spread within each."""
    return np.concatenate(
        [
            at(first_s + width_s * (k + i / len(bar)), price)
            for k, bar in enumerate(prices)
            for i, price in enumerate(bar)
        ]
    )


def test_data_of_each_event_has_the_columns_of_its_table() -> None:
    life = Life(TIMEFRAMES_S)
    life.take(KNOWN, TickBatch(jumpy(4, 3_000)))
    told = {event.name: data(event) for event in life.events}
    assert TABLES.keys() <= told.keys()
    for name, table in TABLES.items():
        assert list(told[name]) == [column for column, _ in columns(table)], name


def test_a_gap_opens_is_reached_and_filled() -> None:
    life = Life((60,))
    life.take(KNOWN, TickBatch(bars((99, 100), (100, 103), (103, 104))))
    (opened,) = of(life.take(Clock(HOUR_NS + 180 * NS_PER_S)), "FVG_OPENED")
    gap_id = f"1m:{rfc3339(HOUR_NS + 60 * NS_PER_S)}"
    assert data(opened) == {
        "gap_id": gap_id,
        "timeframe": "1m",
        "gap_type": "BULLISH",
        "top": 103.0,
        "bottom": 100.0,
        "created_at": rfc3339(HOUR_NS + 180 * NS_PER_S),
        "filled_pct": 0.0,
        "status": "OPEN",
        "filled_at": None,
    }
    assert opened.ts_ns == HOUR_NS + 180 * NS_PER_S
    events = life.take(TickBatch(bars((104, 101.5), (102, 99), (99, 99), first_s=180)))
    (filled,) = of(events, "FVG_FILLED")
    assert (data(filled)["gap_id"], data(filled)["filled_at"]) == (gap_id, rfc3339(HOUR_NS + 300 * NS_PER_S))
    row, _ = life.rows("fair_value_gaps")
    assert (row.status, row.filled_pct, row.filled_ns) == ("FILLED", 100.0, HOUR_NS + 300 * NS_PER_S)
    assert gap_id not in life.core.living()["fair_value_gaps"]


def test_a_late_tick_closes_a_gap_that_never_was() -> None:
    life = Life((60,))
    life.take(KNOWN, TickBatch(bars((99, 100), (100, 103), (103, 104), (104, 104))))
    assert len(life.rows("fair_value_gaps")) == 1
    life.take(TickBatch(at(130, 99.5, trade_id=9_999)))
    assert life.rows("fair_value_gaps") == []
    assert life.core.living()["fair_value_gaps"] == {}


def test_a_late_tick_that_narrows_a_gap_opens_it_again() -> None:
    life = Life((60,))
    life.take(KNOWN, TickBatch(bars((99, 100), (100, 103), (103, 104), (104, 104))))
    events = life.take(TickBatch(at(130, 102.0, trade_id=9_999)))
    (opened,) = of(events, "FVG_OPENED")
    (row,) = life.rows("fair_value_gaps")
    assert data(opened)["top"] == row.top == 102.0


def test_a_zone_is_created_tested_and_broken() -> None:
    calm = [(100, 100.5, 99.5, 100)] * 16
    life = Life((60,))
    life.take(KNOWN, TickBatch(bars(*calm, (100, 105, 105), (105, 104, 105), first_s=0)))
    life.take(TickBatch(bars((105, 100.2, 103), (103, 103), (103, 98, 98), (98, 98), first_s=18 * 60)))
    told = [event for event in life.events if event.name.startswith("ZONE")]
    assert names(told) == ["ZONE_CREATED", "ZONE_BROKEN"] or names(told) == [
        "ZONE_CREATED",
        "ZONE_TESTED",
        "ZONE_BROKEN",
    ]
    (zone,) = life.rows("supply_demand_zones")
    assert (zone.zone_type, zone.status, zone.price_low) == ("DEMAND", "BROKEN", 99.5)
    assert data(told[-1])["broken_at"] == rfc3339(zone.broken_ns or 0) == rfc3339(told[-1].ts_ns)
    assert life.core.living()["supply_demand_zones"] == {}


def zone_events(events: Sequence[Event]) -> list[tuple[str, str, object]]:
    told = [event for event in events if event.name.startswith("ZONE")]
    return [(event.name, data(event)["status"], data(event)["broken_at"]) for event in told]


@pytest.mark.parametrize("rotated", [False, True])
def test_a_zone_that_a_late_tick_keeps_whole_is_told_so(*, rotated: bool) -> None:
    life = Life((60,))
    life.take(KNOWN, TickBatch(bars(*[(100, 100.5, 99.5, 100)] * 16, (100, 105, 105), (105, 104, 105))))
    if rotated:
        life.rotate()
    broken = life.take(TickBatch(bars((105, 98), (105, 105), first_s=18 * 60)))
    assert [name for name, *_ in zone_events(broken)] == ["ZONE_BROKEN"]
    again = life.take(TickBatch(at(19 * 60 - 0.5, 105.0, trade_id=99_999)))
    (zone,) = life.rows("supply_demand_zones")
    assert (zone.status, zone.broken_ns) == ("TESTED", None)
    assert zone_events(again) == [("ZONE_TESTED", "TESTED", None)]
    assert life.core.living()["supply_demand_zones"].keys() == {zone.zone_id}


def test_a_zone_of_which_nothing_is_new_is_told_as_it_is_again() -> None:
    life = Life((60,))
    life.take(KNOWN, TickBatch(bars(*[(100, 100.5, 99.5, 100)] * 16, (100, 105, 105), (105, 104, 105))))
    life.take(TickBatch(bars((105, 99.9), (99.9, 99.9), first_s=18 * 60)))  # in it, and still in it
    life.rotate()
    broken = life.take(TickBatch(bars((98, 98), (98, 98), first_s=20 * 60)))
    assert [name for name, *_ in zone_events(broken)] == ["ZONE_BROKEN"]
    again = life.take(TickBatch(at(21 * 60 - 0.5, 99.9, trade_id=99_999)))
    assert zone_events(again) == [("ZONE_TESTED", "TESTED", None)]
    assert [row.status for row in life.rows("supply_demand_zones")] == ["TESTED"]


def test_the_profile_of_a_session_begins_anew_at_midnight() -> None:
    life = Life(params=SLOW)
    day_s = (DAY_NS - HOUR_NS % DAY_NS) // NS_PER_S
    life.take(KNOWN, TickBatch(at(5, 100.0, 2.0)), TickBatch(at(day_s + 5, 101.0, 3.0)))
    events = of(life.take(TickBatch(at(day_s + 65, 101.0))), "PROFILE_UPDATE")
    rows = [MarketProfile(*row) for row in life.rows("market_profile")]
    assert [(row.session_start_ns % DAY_NS, row.poc, row.total_volume) for row in rows] == [
        (0, 100.0, 2.0),
        (0, 101.0, 3.0),
    ]
    assert rows[1].session_start_ns - rows[0].session_start_ns == DAY_NS
    assert [data(event)["timestamp"] for event in events] == [rfc3339(rows[1].ts_ns)]


def test_a_lone_spike_is_an_outlier_also_when_it_comes_late() -> None:
    calm = np.concatenate([at(k / 10, 100.0 + k % 2 / 100, trade_id=k) for k in range(300)])
    calm["price"][250] = 101.0
    expected, life = Life(), Life()
    expected.take(KNOWN, TickBatch(calm))
    assert [seq for seq, flag in expected.flags.items() if flag] == [251]
    life.take(KNOWN, TickBatch(calm[:200]), TickBatch(calm[255:]), TickBatch(calm[200:255]))
    ids = dict(life.ticks)
    assert [ids[seq] for seq, flag in life.flags.items() if flag] == [250]


def test_flags_follow_their_ticks_in_a_batch_out_of_order() -> None:
    calm = np.concatenate([at(k / 10, 100.0 + k % 2 / 100, trade_id=k) for k in range(300)])
    calm["price"][250] = 101.0
    life = Life()
    life.take(KNOWN, TickBatch(np.concatenate([calm[280:], calm[:280]])))
    assert [seq for seq, flag in life.flags.items() if flag] == [271]


# What parameters and tick sizes do


def first_trades(count: int, price: float = 100.0) -> Ticks:
    return np.concatenate([at(k / 10, price + k % 7 / 10, trade_id=k) for k in range(count)])


def guess(life: Life) -> Instrument | None:
    return life.core.guess


def test_without_a_tick_size_the_profile_waits_for_a_thousand_trades() -> None:
    life, ticks = Life(), first_trades(DECIDING_TRADES + 20)
    life.take(TickBatch(ticks[:700]))
    life.rotate()
    life.take(TickBatch(ticks[700:999]))
    assert life.rows("market_profile") == []
    assert guess(life) == Instrument(0.1)
    life.take(TickBatch(ticks[999:]))
    assert guess(life) is None
    assert [row.bin_size for row in life.rows("market_profile")] == [0.1]
    assert life.core.meta()["tick_size"] == "0.1"
    assert life.core.state.ledger.first_prices == []
    expected = Life()
    expected.take(Instrument(0.1), TickBatch(ticks))
    assert life.rows("market_profile") == expected.rows("market_profile")


def test_a_tick_size_that_is_told_later_is_learned_at_once() -> None:
    life, ticks = Life(), first_trades(900)
    life.take(TickBatch(ticks[:800]), Instrument(0.5), TickBatch(ticks[800:]))
    assert {row.bin_size for row in life.rows("market_profile")} == {0.5}
    assert len(life.rows("market_profile")) == 1
    assert len(of(life.events, "PROFILE_UPDATE")) == 1


def test_another_tick_size_counts_from_the_next_session_on() -> None:
    life = Life(params=SLOW)
    day_s = (DAY_NS - HOUR_NS % DAY_NS) // NS_PER_S
    life.take(KNOWN, TickBatch(at(5, 100.03)), Instrument(0.1))
    life.rotate()
    life.take(TickBatch(at(70, 100.03)), TickBatch(at(day_s + 5, 100.03)), TickBatch(at(day_s + 65, 100.03)))
    told = [(row.bin_size, row.poc) for row in life.rows("market_profile")]
    assert told == [(0.01, 100.03), (0.01, 100.03), (0.1, 100.0)]
    life.take(TickBatch(at(20, 100.03, trade_id=9_999)))  # the first session is folded anew
    assert [(row.bin_size, row.poc) for row in life.rows("market_profile")] == told
    assert life.rows("market_profile")[0].total_volume == 2.0


def test_tick_sizes_that_come_and_go_are_not_kept_for_ever() -> None:
    ledger = Ledger(next_seq=2)
    for day in range(3 * MAX_TICK_SIZES):
        ledger.watermark_ns = HOUR_NS + day * DAY_NS
        for tick_size in (0.3, 0.01 * (day % 2 + 1)):
            schedule(ledger, tick_size)
    assert len(ledger.tick_sizes) == MAX_TICK_SIZES
    assert {from_ns % DAY_NS for from_ns, _ in ledger.tick_sizes} == {0}
    assert [size for _, size in ledger.tick_sizes[-2:]] == [0.01, 0.02]


def test_no_tick_size_is_none() -> None:
    life = Life()
    life.take(Instrument(0.0), TickBatch(at(5)))
    assert life.core.state.ledger.tick_sizes == []


PARAMS = AnalyticsParams(
    gaps=fvg.Params(require_middle_direction=False), state=market_state.Params(step_ns=2 * NS_PER_S)
)


def test_other_parameters_begin_anew_and_the_rest_goes_on() -> None:
    seen = jumpy(7, 800)
    life, cut = Life(TIMEFRAMES_S), 500
    life.take(KNOWN, TickBatch(seen[:cut]))
    before, events = {t: life.rows(t) for t in ("market_profile", "market_state")}, len(life.events)
    life.write(life.core.set_params(PARAMS).rows)
    life.rotate()
    assert len(life.events) == events
    assert {t: life.rows(t) for t in ("market_profile", "market_state")} == before
    life.take(TickBatch(seen[cut:]))
    wanted = Life(TIMEFRAMES_S, params=PARAMS)
    wanted.take(KNOWN, TickBatch(seen))
    since = life.core.state.ledger.since_ns
    for row, other in zip(
        (row for row in life.rows("market_state") if row.ts_ns > since),
        (row for row in wanted.rows("market_state") if row.ts_ns > since),
        strict=True,
    ):
        assert plain(row) == plain(other)
        assert numbers(row) == pytest.approx(numbers(other), rel=1e-9, abs=1e-9)
    assert life.core.living()["fair_value_gaps"] == wanted.core.living()["fair_value_gaps"]
    usual = Life(TIMEFRAMES_S)
    usual.take(KNOWN, TickBatch(seen))
    for table in ("market_profile", "supply_demand_zones", "candles_5s"):
        for row, other in zip(life.rows(table), usual.rows(table), strict=True):
            assert plain(row) == plain(other)
            assert numbers(row) == pytest.approx(numbers(other), rel=1e-9)


def test_late_ticks_across_a_change_of_parameters_restate_the_rest() -> None:
    seen = jumpy(7, 800)
    life = Life(TIMEFRAMES_S)
    life.take(KNOWN, TickBatch(seen[:400]))
    life.rotate()
    life.take(TickBatch(seen[450:600]))
    life.write(life.core.set_params(PARAMS).rows)
    life.rotate()
    life.take(TickBatch(seen[600:]), TickBatch(seen[400:450]))
    usual = Life(TIMEFRAMES_S)
    usual.take(KNOWN, TickBatch(seen))
    for table in ("market_profile", "supply_demand_zones"):
        assert [row[:6] for row in life.rows(table)] == [row[:6] for row in usual.rows(table)]
    assert life.core.state.folds.state is not None
    assert life.core.state.folds.state.params == PARAMS.state


# What makes little sense


def world(price: float, size: float, side: int) -> Ticks:
    out = np.zeros(400, TICK)
    out["trade_id"], out["price"], out["size"], out["side"] = np.arange(400), price, size, side
    out["ts_ns"] = START_NS + np.arange(400) * 333_000_000
    return out


@pytest.mark.parametrize("price", [1e-8, 1.0, 1e12])
@pytest.mark.parametrize(("size", "side"), [(1e-8, 0), (1e12, 1), (1.0, -1)])
def test_one_price_for_ever(price: float, size: float, side: int) -> None:
    seen = world(price, size, side)
    life = Life(TIMEFRAMES_S)
    for part in np.array_split(seen, 7):
        life.take(TickBatch(part))
        life.rotate()
    known = Instrument(1.0 if price > 1e9 else 1e-8)
    life.take(known)
    expected = in_one_go(seen, int(seen["ts_ns"][-1]), known)
    assert_same_record(life, expected)
    assert set(life.flags.values()) == {0}
    assert life.rows("fair_value_gaps") == life.rows("supply_demand_zones") == []
    assert {row.poc for row in life.rows("market_profile")} == {price}
    last = life.rows("market_state")[-1]
    assert (last.regime, last.alpha, last.nash_dist, last.friction) == ("Unknown", None, 0.0, None)
    assert last.sentiment_score == {0: 0.5, 1: 1.0, -1: 0.0}[side]


def test_prices_from_the_least_to_the_largest() -> None:
    seen = world(1.0, 1.0, 1)
    seen["price"] = 10.0 ** np.linspace(-8, 12, 400)
    life = Life(TIMEFRAMES_S)
    life.take(Instrument(1e-8), TickBatch(seen))
    for table in ("market_profile", "market_state", "fair_value_gaps"):
        assert all(np.isfinite([x for x in row if isinstance(x, float)]).all() for row in life.rows(table))


def test_hours_of_silence_are_crossed_without_a_heap_of_rows() -> None:
    life = Life()
    life.take(KNOWN, TickBatch(at(5)))
    most = 0
    for record in life.core.records([TickBatch(at(6 * 3_600))]):
        life.memory.records.append(record)
        effects = life.core.handle(len(life.memory.records), record)
        most = max(most, len(effects.rows.inserted.get("market_state", ())))
        life.write(effects.rows)
    assert len(life.rows("market_state")) == 6 * 3_600 - 5
    assert most <= SILENCE_STEPS + 1


def test_a_thin_batch_over_hours_is_cut() -> None:
    life = Life()
    sparse = np.concatenate([at(k * 900, trade_id=k) for k in range(20)])
    life.take(KNOWN, TickBatch(sparse))
    for record in life.memory.records:
        for item in record:
            if isinstance(item, TickBatch):
                assert int(item.ticks["ts_ns"].max() - item.ticks["ts_ns"].min()) <= SILENCE_STEPS * NS_PER_S
    assert [i for _, i in life.ticks] == list(range(20))


def test_living_rows_are_those_that_may_change() -> None:
    life = Life(TIMEFRAMES_S)
    life.take(KNOWN, TickBatch(jumpy(4, 3_000)))
    living = life.core.living()
    gaps = [FairValueGap(*row) for row in life.rows("fair_value_gaps")]
    assert living["fair_value_gaps"].keys() == {
        row.gap_id for row in gaps if row.status in {"OPEN", "PARTIAL"}
    }
    zones = [Zone(*row) for row in life.rows("supply_demand_zones")]
    assert living["supply_demand_zones"].keys() == {row.zone_id for row in zones if row.status != "BROKEN"}
