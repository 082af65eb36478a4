"""Zones of recorded markets, coarse and fine ticks, against the plain reference."""

from __future__ import annotations

from collections import Counter

import pytest

from analytics import candles, zones
from analytics.panes import panes
from market.rows import Candle
from market.times import NS_PER_MS, NS_PER_S
from tests.analytics.worlds import MINUTE_NS
from tests.analytics.zone_worlds import fold, reference, same
from tests.recordings import beside, table, trades


def published(name: str) -> list[Candle]:
    out: list[Candle] = []
    for row in table(beside(name)):
        ts_ns = int(row["ts_open_ns"]) if "ts_open_ns" in row else int(row["open_time_ms"]) * NS_PER_MS
        opened, high, low, close, volume = (float(row[x]) for x in ("open", "high", "low", "close", "volume"))
        out.append(Candle(ts_ns, opened, high, low, close, volume, 0.0, 0.0, close, 1, True, 0))
    return out


@pytest.mark.parametrize(
    ("name", "minutes", "created", "tested", "broken"),
    [
        ("bars/binance_spot_adabtc_1m_official_20211127", 1, 22, 43, 13),
        ("bars/freqtrade_etc_btc_5m", 5, 29, 75, 28),
        ("bars/freqtrade_ltc_btc_5m", 5, 10, 31, 9),
        ("bars/freqtrade_xrpeth_1m_2019_part1", 1, 22, 29, 17),
        ("bars/freqtrade_xrpeth_5m_2019_part1", 5, 3, 4, 1),
        ("bars/kraken_xbtusdt_1m_official_20251110_part1", 1, 5, 2, 5),
        ("ticks_equity/spy_1m_vendor_20131007-09", 1, 44, 102, 40),
        ("pairs/coinbase_ltcusd_1m_20180404-06", 1, 89, 76, 78),
    ],
)
def test_zones_of_published_bars(name: str, minutes: int, created: int, tested: int, broken: int) -> None:
    bars, width_ns = published(f"{name}.csv.gz"), minutes * MINUTE_NS
    got = fold(bars, width_ns=width_ns)
    assert same(got, reference(bars, width_ns=width_ns))
    seen = Counter(change.event for step in got for change in step)
    assert (seen[zones.CREATED], seen[zones.TESTED], seen[zones.BROKEN]) == (created, tested, broken)


@pytest.mark.parametrize(
    ("name", "seconds", "created"),
    [
        ("binance_spot_xrpeth_aggtrades_2019_part1", 60, 60),
        ("binance_spot_xrpeth_aggtrades_2019_part1", 15, 139),
        ("binance_spot_trxusdt_20250304", 5, 9),
        ("binance_spot_btcusdt_20240808-09", 5, 2),
        ("kraken_spot_xbtusdt_20251110_part1", 15, 13),
    ],
)
def test_zones_of_candles_made_from_trades(name: str, seconds: int, created: int) -> None:
    width_ns = seconds * NS_PER_S
    frame = candles.init(width_ns)
    bars = candles.step(frame, panes(trades(beside(f"trades/{name}.csv.gz")), width_ns))
    got = fold(bars, width_ns=width_ns)
    assert same(got, reference(bars, width_ns=width_ns))
    assert sum(x.event == zones.CREATED for step in got for x in step) == created
