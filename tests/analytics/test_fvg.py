from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import candles, fvg
from analytics.fvg import Change, Params
from analytics.panes import panes
from market.rows import Candle
from market.times import DAY_NS
from tests.analytics.fvg_worlds import (
    HOUR_NS,
    NO_FILTER,
    TICK_SIZE,
    WIDTH_NS,
    candle,
    flat,
    fold,
    published,
    reference,
    reference_touches,
    same,
    touches,
    worlds,
)
from tests.analytics.worlds import MINUTE_NS, splits
from tests.recordings import HERE, trades

RISE = [candle(0, (1000, 1010, 990, 1005)), candle(1, (1005, 1030, 1004, 1028))]
BULLISH = [*RISE, candle(2, (1028, 1040, 1020, 1035))]  # leaves 10.10 to 10.20
FALL = [candle(0, (1000, 1010, 990, 995)), candle(1, (995, 996, 970, 972))]
BEARISH = [*FALL, candle(2, (972, 980, 960, 965))]  # leaves 9.80 to 9.90
DAY_BARS = DAY_NS // WIDTH_NS


def after(bars: list[Candle], params: Params = NO_FILTER) -> list[Change]:
    """Take bars at once; return what the last one changed."""
    return fold(bars, params)[-1]


@settings(deadline=None)
@given(
    worlds(),
    st.sampled_from([NO_FILTER, Params(require_middle_direction=False), Params(min_gap_ticks=3)]),
)
def test_gaps_are_what_following_each_of_them_gives(bars: list[Candle], params: Params) -> None:
    assert same(fold(bars, params), reference(bars, params))


@settings(deadline=None)
@given(worlds(), st.sampled_from([0.25, 0.5, 1.0]))
def test_a_gap_is_wide_by_the_range_after_its_third_bar(bars: list[Candle], least: float) -> None:
    params = Params(min_gap_atr=least)
    assert same(fold(bars, params), reference(bars, params))


@settings(deadline=None)
@given(worlds())
def test_a_gap_is_touched_by_the_first_bar_that_comes_to_its_edge(bars: list[Candle]) -> None:
    assert touches(bars) == reference_touches(bars)


@pytest.mark.parametrize(
    ("name", "minutes", "opened", "filled"),
    [
        ("binance_spot_adabtc_1m_official_20211127", 1, 203, 193),
        ("freqtrade_etc_btc_5m", 5, 689, 652),
        ("freqtrade_ltc_btc_5m", 5, 357, 350),
        ("freqtrade_xrpeth_1m_2019_part1", 1, 405, 375),
        ("freqtrade_xrpeth_5m_2019_part1", 5, 103, 89),
        ("kraken_xbtusdt_1m_official_20251110_part1", 1, 55, 47),
    ],
)
def test_gaps_of_published_bars(name: str, minutes: int, opened: int, filled: int) -> None:
    bars, width_ns = published(name), minutes * MINUTE_NS
    got = fold(bars, width_ns=width_ns)
    assert same(got, reference(bars, width_ns=width_ns))
    seen = Counter(change.event for changes in got for change in changes)
    assert (seen["FVG_OPENED"], seen["FVG_FILLED"]) == (opened, filled)


def test_gaps_of_bars_made_of_recorded_trades() -> None:
    data, width_ns = trades(HERE / "binance_spot_btcusdt_20240808-09.csv.gz"), 1_000_000_000
    bars = candles.step(candles.init(width_ns), panes(data, width_ns))
    got = fold(bars, width_ns=width_ns)
    assert same(got, reference(bars, width_ns=width_ns))
    assert sum(change.event == "FVG_OPENED" for changes in got for change in changes) > 50


@settings(deadline=None)
@given(st.data())
def test_any_split_gives_what_the_bars_give_one_by_one(draw: st.DataObject) -> None:
    bars = draw.draw(worlds())
    state = fvg.init(WIDTH_NS, "3h", NO_FILTER, TICK_SIZE)
    cuts = draw.draw(splits(len(bars)))
    got = [change for cut in cuts for change in fvg.step(state, bars[cut])]
    assert got == [change for changes in fold(bars) for change in changes]


@settings(deadline=None)
@given(st.data())
def test_a_saved_state_continues_equal(draw: st.DataObject) -> None:
    bars, params = draw.draw(worlds()), Params(min_gap_atr=draw.draw(st.sampled_from([0.0, 0.25])))
    state, got = fvg.init(WIDTH_NS, "3h", params, TICK_SIZE), list[Change]()
    for cut in draw.draw(splits(len(bars))):
        got += fvg.step(state, bars[cut])
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=fvg.State)
    assert got == [change for changes in fold(bars, params) for change in changes]


@settings(deadline=None)
@given(worlds())
def test_a_mirror_swaps_bullish_and_bearish(bars: list[Candle]) -> None:
    mirrored = [
        x._replace(open=-x.open, high=-x.low, low=-x.high, close=-x.close, vwap=-x.vwap) for x in bars
    ]
    swapped = [
        [
            Change(
                row._replace(
                    gap_type="BEARISH" if row.gap_type == "BULLISH" else "BULLISH",
                    top=-row.bottom,
                    bottom=-row.top,
                ),
                event,
            )
            for row, event in changes
        ]
        for changes in fold(bars)
    ]
    assert same(fold(mirrored), swapped)


@settings(deadline=None)
@given(worlds())
def test_a_gap_only_goes_forward_and_is_shown_while_it_is_open(bars: list[Candle]) -> None:
    state = fvg.init(WIDTH_NS, "3h", NO_FILTER, TICK_SIZE)
    order = ["OPEN", "PARTIAL", "FILLED", "EXPIRED"]
    now: dict[str, Change] = {}
    for bar in bars:
        for change in fvg.step(state, [bar]):
            row, before = change.row, now.get(change.row.gap_id)
            assert (change.event == "FVG_OPENED") == (before is None)
            if before is not None:
                assert order.index(row.status) >= order.index(before.row.status)
                assert row.filled_pct >= before.row.filled_pct
                assert before.row.status not in {"FILLED", "EXPIRED"}
            assert (row.status == "FILLED") == (row.filled_pct == 100.0) == (row.filled_ns is not None)
            now[row.gap_id] = change
        shown = [x.row for x in now.values() if x.row.status in {"OPEN", "PARTIAL"}]
        assert fvg.open_gaps(state) == shown
        assert len(state.bullish) + len(state.bearish) == len(shown)


@pytest.mark.parametrize(
    ("bars", "gap_type", "bottom", "top"),
    [(BULLISH, "BULLISH", 10.10, 10.20), (BEARISH, "BEARISH", 9.80, 9.90)],
)
def test_a_gap_is_announced_at_the_end_of_its_third_bar(
    bars: list[Candle], gap_type: str, bottom: float, top: float
) -> None:
    assert fold(bars)[:2] == [[], []]
    ((row, event),) = after(bars)
    assert event == "FVG_OPENED"
    assert (row.gap_type, row.bottom, row.top) == (gap_type, bottom, top)
    assert row.gap_id == "3h:2024-08-08T03:00:00Z"
    assert row.created_ns == bars[2].ts_ns + WIDTH_NS
    assert (row.timeframe, row.status, row.filled_pct, row.filled_ns) == ("3h", "OPEN", 0.0, None)


@pytest.mark.parametrize("last", [(1028, 1040, 1010, 1035), (1028, 1040, 1005, 1035)])
def test_prices_that_meet_leave_no_gap(last: tuple[int, ...]) -> None:
    assert after([*RISE, candle(2, last)]) == []


@pytest.mark.parametrize("middle", [(1028, 1030, 1004, 1005), (1015, 1030, 1004, 1015), (1015,) * 4])
def test_a_middle_bar_of_another_direction_makes_no_gap_unless_allowed(middle: tuple[int, ...]) -> None:
    bars = [BULLISH[0], candle(1, middle), BULLISH[2]]
    assert after(bars) == []
    assert [x.event for x in after(bars, Params(require_middle_direction=False))] == ["FVG_OPENED"]


def test_a_touch_is_neither_a_change_nor_forgotten() -> None:
    state = fvg.init(WIDTH_NS, "3h", NO_FILTER, TICK_SIZE)
    fvg.step(state, BULLISH)
    assert fvg.step(state, [candle(3, (1035, 1036, 1021, 1030))]) == []
    assert [gap.touched_ns for gap in state.gaps.values()] == [None]
    for k in (4, 5):
        assert fvg.step(state, [candle(k, (1035, 1036, 1020, 1030))]) == []
        assert [gap.touched_ns for gap in state.gaps.values()] == [candle(4, (1,) * 4).ts_ns + WIDTH_NS]
    assert [row.status for row in fvg.open_gaps(state)] == ["OPEN"]


def test_a_gap_is_filled_bit_by_bit() -> None:
    bars = [
        *BULLISH,
        candle(3, (1030, 1030, 1018, 1025)),
        candle(4, (1025, 1025, 1019, 1020)),  # less far than before
        candle(5, (1020, 1020, 1015, 1015)),
        candle(6, (1015, 1020, 1010, 1012)),  # to the far edge exactly
        candle(7, (1015, 1015, 1000, 1012)),
    ]
    changes = fold(bars)[3:]
    assert [[(round(x.row.filled_pct, 9), x.row.status, x.event) for x in rows] for rows in changes] == [
        [(20.0, "PARTIAL", "")],
        [],
        [(50.0, "PARTIAL", "")],
        [(100.0, "FILLED", "FVG_FILLED")],
        [],
    ]
    assert changes[3][0].row.filled_ns == bars[6].ts_ns + WIDTH_NS


def test_the_bar_that_confirms_a_gap_fills_nothing_of_it() -> None:
    wick = candle(2, (1028, 1040, 1020, 1020))  # its own low is the near edge
    ((row, _),) = after([*RISE, wick])
    assert (row.filled_pct, row.status) == (0.0, "OPEN")


@pytest.mark.parametrize(
    ("ends", "low", "expected"),
    [
        (DAY_BARS, 1010, [("FILLED", 100.0)]),  # a fill by a bar that ends with it counts
        (DAY_BARS, 1015, [("PARTIAL", 50.0), ("EXPIRED", 50.0)]),
        (DAY_BARS, 1030, [("EXPIRED", 0.0)]),
        (DAY_BARS + 1, 1010, [("EXPIRED", 0.0)]),  # the bar that ended with it is missing
        (DAY_BARS - 1, 1015, [("PARTIAL", 50.0)]),
    ],
)
def test_a_gap_lives_for_a_day(ends: int, low: int, expected: list[tuple[str, float]]) -> None:
    last = candle(2 + ends, (1030, 1030, low, 1030))
    changes = after([*BULLISH, last])
    assert [(x.row.status, round(x.row.filled_pct, 9)) for x in changes] == expected
    assert all(x.row.filled_ns is None and x.event == "" for x in changes if x.row.status != "FILLED")
    assert reference([*BULLISH, last])[-1] == changes


def test_adjacent_gaps_are_not_merged() -> None:
    bars = [candle(k, (1000 + 20 * k, 1021 + 20 * k, 999 + 20 * k, 1020 + 20 * k)) for k in range(6)]
    opened = [x.row for changes in fold(bars) for x in changes]
    assert [(row.bottom, row.top) for row in opened] == [
        (10.21, 10.39),
        (10.41, 10.59),
        (10.61, 10.79),
        (10.81, 10.99),
    ]


@pytest.mark.parametrize(("least", "count"), [(0, 1), (10, 1), (10.5, 0), (11, 0)])
def test_a_filter_in_ticks_is_not_misled_by_the_last_bits(least: float, count: int) -> None:
    height = BULLISH[2].low - BULLISH[0].high
    assert height != 0.1  # what the rule allows for
    assert len(after(BULLISH, Params(min_gap_ticks=least))) == count


def test_a_filter_in_ticks_waits_for_the_tick_to_be_known() -> None:
    assert len(fold(BULLISH, Params(min_gap_ticks=11), tick_size=0.0)[-1]) == 1


def test_before_bar_14_no_gap_is_wide_enough_by_the_range() -> None:
    params = Params(min_gap_atr=0.01)
    late = [flat(k, 1000) for k in range(14)]
    late += [x._replace(ts_ns=x.ts_ns + 14 * WIDTH_NS) for x in BULLISH]
    assert after(BULLISH, params) == []
    assert [x.event for x in after(late, params)] == ["FVG_OPENED"]


@pytest.mark.parametrize(("least", "count"), [(0.5, 1), (0.51, 0)])
def test_a_gap_of_just_the_least_range_counts(least: float, count: int) -> None:
    bars = [candle(k, (1000, 1050, 950, 1050)) for k in range(15)]  # every true range is 1
    bars += [candle(15, (1050, 1150, 1050, 1150)), candle(16, (1150, 1200, 1100, 1150))]
    assert len(after(bars, Params(min_gap_atr=least))) == count


def test_flat_bars_reach_a_gap_and_make_none() -> None:
    assert [x.row.status for x in after([*BULLISH, flat(3, 1012)])] == ["PARTIAL"]
    assert after([flat(0, 1000), flat(1, 1010), flat(2, 1020)]) == []


def test_nothing_of_a_market_that_never_comes_back_is_kept() -> None:
    state = fvg.init(HOUR_NS, "1h", NO_FILTER, TICK_SIZE)
    for k in range(500):
        bar = candle(k, (1000 + 20 * k, 1021 + 20 * k, 999 + 20 * k, 1020 + 20 * k), HOUR_NS)
        fvg.step(state, [bar])
        assert len(state.gaps) == len(state.bullish) <= 24
    assert len(msgspec.msgpack.encode(state)) < 2_500


def test_one_price_and_no_bars_give_nothing() -> None:
    assert fold([]) == []
    assert fold([flat(k, 1000) for k in range(50)]) == [[]] * 50
