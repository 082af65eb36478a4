from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import zones
from analytics.zone_shapes import Params
from analytics.zones import Change
from market.rows import Candle, Zone
from tests.analytics.worlds import MINUTE_NS, START_NS, splits
from tests.analytics.zone_worlds import CENTS, EIGHTHS, candle, fold, made, reference, same, worlds

FORWARD = {"FRESH": 0, "TESTED": 1, "BROKEN": 2}


def all_of(bars: list[Candle], params: Params | None = None) -> list[Change]:
    return [change for step in fold(bars, params) for change in step]


@given(worlds())
@settings(deadline=None)
def test_zones_equal_a_reference_that_sees_the_whole_list(bars: list[Candle]) -> None:
    assert same(fold(bars), reference(bars))


@given(worlds(), st.integers(1, 5))
@settings(deadline=None)
def test_so_do_zones_that_displace_each_other(bars: list[Candle], most: int) -> None:
    assert same(fold(bars, Params(max_active=most)), reference(bars, most))


@pytest.mark.parametrize("grid", [EIGHTHS, CENTS])
@pytest.mark.parametrize(("drift", "calm"), [(0.5, 0.55), (0.5, 0.7), (0.8, 0.6), (0.2, 0.6)])
def test_long_worlds_equal_the_reference_too(drift: float, calm: float, grid: float) -> None:
    bars = made(7, 1_200, drift, calm, grid)
    got = fold(bars)
    assert same(got, reference(bars))
    seen = Counter(change.event for step in got for change in step)
    assert min(seen[name] for name in ("ZONE_CREATED", "ZONE_TESTED", "ZONE_BROKEN")) >= 5


def test_a_51st_zone_displaces_the_weakest() -> None:
    bars = made(3, 900, drift=1.0, calm=0.6)
    state, displaced = zones.init(MINUTE_NS, "1m"), 0
    for bar in bars:
        before = {row.zone_id: row for row in zones.active(state)}
        changes = zones.step(state, [bar])
        for row in [change.row for change in changes if change.event == zones.DISPLACED]:
            displaced += 1
            told = [x.row for x in changes if x.row.zone_id == row.zone_id]
            assert len(before) == 50
            assert row == (told[0] if len(told) > 1 else before[row.zone_id])  # as it stood
            assert row.strength == pytest.approx(
                min(x.strength for x in {**before, row.zone_id: row}.values())
            )
            assert len(zones.active(state)) == 50
    assert displaced >= 20
    assert same(fold(bars), reference(bars))


@given(st.data())
@settings(deadline=None)
def test_any_split_and_any_restart_give_the_same(draw: st.DataObject) -> None:
    bars = draw.draw(worlds())
    state, out = zones.init(MINUTE_NS, "1m", Params(max_active=6)), list[Change]()
    for cut in draw.draw(splits(len(bars))) if bars else []:
        out += zones.step(state, bars[cut])
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=zones.State)
    assert out == all_of(bars, Params(max_active=6))


@given(worlds())
@settings(deadline=None)
def test_changes_tell_what_is_active_and_only_move_forward(bars: list[Candle]) -> None:
    state, kept, gone = zones.init(MINUTE_NS, "1m", Params(max_active=8)), dict[str, Zone](), set[str]()
    for bar in bars:
        end_ns = bar.ts_ns + MINUTE_NS
        for row, event, left in zones.step(state, [bar]):
            assert row.zone_id not in gone
            before = kept.pop(row.zone_id, None)
            assert (before is None) == (event == "ZONE_CREATED")
            assert event == "" or row.updated_ns == end_ns
            assert 0 < row.strength <= 1
            assert row.price_low < row.price_high
            if before is not None:
                assert FORWARD[before.status] <= FORWARD[row.status]
                assert before.touches <= row.touches
            if left:
                gone.add(row.zone_id)
            else:
                kept[row.zone_id] = row
        assert zones.active(state) == sorted(kept.values(), key=lambda row: row.created_ns)
        assert len(kept) <= 8


@given(worlds())
@settings(max_examples=50, deadline=None)
def test_nothing_later_is_used(bars: list[Candle]) -> None:
    half = len(bars) // 2
    assert fold(bars[:half]) == fold(bars)[:half]


@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.5, 0.9]))
@settings(deadline=None)
def test_a_mirrored_market_swaps_demand_and_supply(seed: int, drift: float) -> None:
    bars = made(seed, 150, drift)
    mirrored = [
        x._replace(open=4_096 - x.open, high=4_096 - x.low, low=4_096 - x.high, close=4_096 - x.close)
        for x in bars
    ]
    swapped = {"DEMAND": "SUPPLY", "SUPPLY": "DEMAND"}
    expected = [
        change._replace(
            row=change.row._replace(
                zone_type=swapped[change.row.zone_type],
                price_low=4_096 - change.row.price_high,
                price_high=4_096 - change.row.price_low,
            ),
        )
        for change in all_of(bars)
    ]
    assert all_of(mirrored) == expected


@given(worlds(), st.integers(-30, 30), st.integers(-10, 10))
@settings(deadline=None)
def test_neither_the_price_level_nor_the_unit_of_volume_matters(
    bars: list[Candle], sizes: int, prices: int
) -> None:
    q, p = 2.0**sizes, 2.0**prices  # exact
    scaled = [
        x._replace(open=x.open * p, high=x.high * p, low=x.low * p, close=x.close * p, volume=x.volume * q)
        for x in bars
    ]
    expected = [
        change._replace(
            row=change.row._replace(price_low=change.row.price_low * p, price_high=change.row.price_high * p),
        )
        for change in all_of(bars)
    ]
    assert all_of(scaled) == expected


Prices = tuple[float, float, float, float]
QUIET: Prices = (100, 100.5, 99.5, 100)
RISE: Prices = (100, 103, 99.75, 102.5)


def flipped(x: Prices) -> Prices:
    opened, high, low, close = (200 - price for price in x)
    return opened, low, high, close


def after_the_rise(*later: Prices, supply: bool = False) -> list[list[Change]]:
    """Fold 14 quiet bars (the ATR is 1), two of base, the impulse, and what follows."""
    shapes = [QUIET] * 16 + [RISE, *later]
    bars = [
        candle(k, flipped(x) if supply else x, volume=1.5 if k == 16 else 1.0) for k, x in enumerate(shapes)
    ]
    return fold(bars)[16:]


@pytest.mark.parametrize("supply", [False, True])
def test_a_zone_is_drawn_as_the_text_says(*, supply: bool) -> None:
    (change,) = after_the_rise(supply=supply)[0]
    end_ns = START_NS + 17 * MINUTE_NS
    low, high = (100.0, 100.5) if supply else (99.5, 100.0)
    strength = 0.5 * 2.5 / 3 + 0.3 * 1.5 / 2 + 0.2 / 2
    assert change.event == "ZONE_CREATED"
    assert change.row.strength == pytest.approx(strength)
    assert change.row == Zone(
        zone_id="1m:2024-08-09T00:15:00Z",
        timeframe="1m",
        zone_type="SUPPLY" if supply else "DEMAND",
        price_low=low,
        price_high=high,
        strength=change.row.strength,
        status="FRESH",
        touches=0,
        created_ns=end_ns,
        updated_ns=end_ns,
        broken_ns=None,
    )


@pytest.mark.parametrize("supply", [False, True])
def test_a_zone_is_tested_at_each_entry_and_broken_by_a_close(*, supply: bool) -> None:
    later: list[Prices] = [
        (102.5, 103, 100, 102),  # touches: the first test
        (102, 102, 99.9, 101),  # stays inside
        (101, 102, 100.01, 101),  # has left
        (101, 101, 99, 99.5),  # a wick beyond and a close on the edge: the second test
        (99.5, 99.6, 99, 99.49),  # closes beyond
        (99.5, 102, 99, 101),
    ]
    told = after_the_rise(*later, supply=supply)[1:]
    first = 0.5 * 2.5 / 3 + 0.3 * 1.5 / 2 + 0.2 / 2
    mine = [[x for x in step if x.row.created_ns == START_NS + 17 * MINUTE_NS] for step in told]
    events = [(k, x.event, x.row.status, x.row.touches, x.gone) for k, step in enumerate(mine) for x in step]
    assert events == [
        (0, "ZONE_TESTED", "TESTED", 1, False),
        (3, "ZONE_TESTED", "TESTED", 2, False),
        (4, "ZONE_BROKEN", "BROKEN", 2, True),
    ]
    broken = mine[4][0].row
    assert broken.strength == pytest.approx(first * 0.75**2)
    assert broken.broken_ns == broken.updated_ns == START_NS + 22 * MINUTE_NS
    assert mine[3][0].row.updated_ns == START_NS + 21 * MINUTE_NS


def test_a_bar_that_enters_and_closes_beyond_is_no_test() -> None:
    (change,) = after_the_rise((102, 102, 98, 99))[1]
    assert (change.event, change.row.touches, change.row.status) == ("ZONE_BROKEN", 0, "BROKEN")


@pytest.mark.parametrize(
    ("shape", "is_zone"),
    [
        ((100, 101.5, 100, 101.5), True),  # a body of exactly 1.5 ATR
        ((100, 101.49, 100, 101.49), False),
        ((100, 102.5, 100, 101.5), True),  # of exactly 0.6 of the range
        ((100, 102.51, 100, 101.5), False),
        ((98, 100.5, 98, 100.5), False),  # closes at the base's high
        ((98, 100.51, 98, 100.51), True),
    ],
)
def test_thresholds_are_inclusive_and_departures_are_not(shape: Prices, *, is_zone: bool) -> None:
    for last in (shape, flipped(shape)):
        bars = [candle(k, x) for k, x in enumerate([QUIET] * 16 + [last])]
        assert bool(fold(bars)[16]) == is_zone


def test_only_the_last_six_bars_of_a_run_are_its_base() -> None:
    lower: Prices = (100, 100.25, 99.25, 100)
    bars = [candle(k, x) for k, x in enumerate([QUIET] * 14 + [lower] + [QUIET] * 6 + [RISE])]
    (change,) = fold(bars)[-1]
    assert change.row.price_low == 99.5
    assert change.row.strength == pytest.approx(0.5 * 2.5 / 3 + 0.3 / 2 + 0.2 / 6)
    (change,) = fold([*bars[:-2], candle(20, RISE)])[-1]
    assert change.row.price_low == 99.25


def test_a_body_of_half_a_range_of_decimals_is_quiet() -> None:
    tie: Prices = (0.00002853, 0.00002855, 0.00002853, 0.00002854)
    assert abs(tie[3] - tie[0]) > 0.5 * (tie[1] - tie[2])  # by its last bit
    jump: Prices = (0.00002854, 0.00002862, 0.00002854, 0.00002862)
    bars = [candle(k, x) for k, x in enumerate([tie] * 16 + [jump])]
    assert [change.event for change in fold(bars)[-1]] == ["ZONE_CREATED"]


def test_a_range_of_one_atr_of_decimals_is_quiet() -> None:
    shapes: list[Prices] = [(1.13, 1.14, 1.12, 1.13)] * 15 + [(1.14, 1.15, 1.13, 1.14)]
    assert 1.15 - 1.13 > 1.14 - 1.12  # by its last bit
    bars = [candle(k, x) for k, x in enumerate([*shapes, (1.14, 1.21, 1.14, 1.21)])]
    (change,) = fold(bars)[-1]
    assert change.row.price_low == 1.12
    assert change.row.price_high == 1.14


@pytest.mark.parametrize("volume", [0.0, 1e-8, 1e12, 5e-324, 1e300])
def test_extreme_volumes_leave_strengths_between_0_and_1(volume: float) -> None:
    for before, at in ((volume, 1.0), (1.0, volume), (volume, volume)):
        bars = [candle(k, QUIET, before) for k in range(16)] + [candle(16, RISE, at)]
        (change,) = fold(bars)[-1]
        assert 0 < change.row.strength <= 1


def test_where_nothing_moves_there_is_no_zone() -> None:
    still = [candle(k, (5, 5, 5, 5), 0.0) for k in range(40)]
    assert all_of([]) == all_of(still[:1]) == all_of(still) == []
    assert all_of([*still, candle(40, (5, 9, 4, 9))]) == []  # the ATR before it is 0
    moved = [*still, candle(40, (5, 6, 5, 6)), *(candle(k, (6, 6, 6, 6), 0.0) for k in range(41, 60))]
    assert [x.event for x in all_of([*moved, candle(60, (6, 9, 6, 9))])] == []  # a base of no height


def test_a_bar_of_one_price_is_quiet_whatever_the_atr() -> None:
    still = [candle(k, (5, 5, 5, 5), 0.0) for k in range(40)]
    (change,) = all_of([*still, candle(40, (6, 6, 6, 6)), candle(41, (6, 9, 6, 9))])
    assert (change.row.price_low, change.row.price_high) == (5, 6)


def test_fifty_zones_stay_small_in_a_journals_head() -> None:
    state = zones.init(MINUTE_NS, "15m")
    zones.step(state, made(3, 900, drift=1.0, calm=0.6))
    assert len(state.zones) == 50
    assert len(msgspec.msgpack.encode(state)) < 4_096
