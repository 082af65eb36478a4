"""Gaps and their first touches against the smartmoneyconcepts package, which indexes the middle bar too."""

from __future__ import annotations

import pandas as pd
import pytest
from smartmoneyconcepts.smc import smc

from market.times import DAY_NS
from tests.analytics.fvg_worlds import fold, published, touches
from tests.analytics.worlds import MINUTE_NS


@pytest.mark.parametrize(
    ("name", "minutes", "gaps", "touched"),
    [
        ("binance_spot_adabtc_1m_official_20211127", 1, 203, 200),
        ("freqtrade_etc_btc_5m", 5, 689, 664),
        ("freqtrade_ltc_btc_5m", 5, 357, 355),
        ("freqtrade_xrpeth_1m_2019_part1", 1, 405, 394),
        ("freqtrade_xrpeth_5m_2019_part1", 5, 103, 98),
        ("kraken_xbtusdt_1m_official_20251110_part1", 1, 55, 52),
    ],
)
def test_gaps_and_touches_equal_the_librarys(name: str, minutes: int, gaps: int, touched: int) -> None:
    bars, width_ns = published(name), minutes * MINUTE_NS
    frame = pd.DataFrame([bar._asdict() for bar in bars])[["open", "high", "low", "close"]]
    theirs = smc.fvg(frame).dropna(subset="FVG")
    expected = [
        (bars[i + 1].ts_ns + width_ns, "BULLISH" if row.FVG == 1 else "BEARISH", row.Top, row.Bottom)
        for i, row in zip(theirs.index, theirs.itertuples(), strict=True)
    ]
    opened = [x.row for changes in fold(bars, width_ns=width_ns) for x in changes if x.event == "FVG_OPENED"]
    assert [(row.created_ns, row.gap_type, row.top, row.bottom) for row in opened] == expected
    first = {
        bars[i].ts_ns: bars[int(at)].ts_ns + width_ns
        for i, at in theirs["MitigatedIndex"].items()
        if at and bars[int(at)].ts_ns <= bars[i + 1].ts_ns + DAY_NS
    }
    assert touches(bars, width_ns) == first
    assert (len(opened), len(first)) == (gaps, touched)
