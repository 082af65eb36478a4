"""Bars and flow against others: a SQL engine, and bars that exchanges and a trading tool published."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from analytics import candles, order_flow
from analytics.panes import panes
from market.rows import Candle, OrderFlow
from market.ticks import Ticks
from tests.analytics.worlds import MINUTE_NS
from tests.recordings import HERE, beside, table, trades

RESAMPLE = """
    SELECT ts_ns // $w * $w AS t, arg_min(price, (ts_ns, trade_id)), max(price), min(price),
           arg_max(price, (ts_ns, trade_id)), fsum(size), fsum(size) FILTER (side = 1),
           fsum(size) FILTER (side = -1), fsum(price * size) / fsum(size), count(*)
    FROM d GROUP BY t ORDER BY t
"""
FLOW = """
    WITH bars AS (
        SELECT ts_ns // 60000000000 * 60000000000 AS t, sum(size * side) AS delta FROM d GROUP BY t)
    SELECT t, delta, sum(delta) OVER (PARTITION BY t // 86400000000000 ORDER BY t) FROM bars ORDER BY t
"""


def folded(data: Ticks, width_ns: int, until_ns: int, batch: int = 7) -> list[Candle]:
    state, rows = candles.init(width_ns), []
    for i in range(0, len(data), batch):
        rows += candles.step(state, panes(data[i : i + batch], MINUTE_NS))
    return rows + candles.advance(state, until_ns)


def flows(data: Ticks, until_ns: int) -> list[OrderFlow]:
    state, rows = order_flow.init(), []
    for i in range(0, len(data), 7):
        rows += order_flow.step(state, panes(data[i : i + 7], MINUTE_NS))
    return rows + order_flow.advance(state, until_ns)


def ask(sql: str, data: Ticks, **parameters: int) -> list[tuple[float, ...]]:
    d = {name: np.ascontiguousarray(data[name]) for name in ("trade_id", "ts_ns", "price", "size", "side")}
    with duckdb.connect() as connection:
        connection.register("d", d)
        return connection.execute(sql, parameters or None).fetchall()


def end_ns(data: Ticks) -> int:
    return int(data["ts_ns"].max()) // (15 * MINUTE_NS) * 15 * MINUTE_NS + 15 * MINUTE_NS


@pytest.mark.parametrize(
    ("name", "bars"),
    [
        ("binance_spot_btcusdt_20240808-09.csv.gz", 12 + 4 + 2),
        ("binance_spot_btcusdt_20260216.csv.gz", 5 + 1 + 1),
    ],
)
def test_candles_equal_a_sql_resample(name: str, bars: int) -> None:
    compared = compare_with_sql(HERE / name)
    assert compared == bars


def test_candles_with_silences_equal_a_sql_resample() -> None:
    assert compare_with_sql(beside("trades/binance_spot_xrpeth_aggtrades_2019_part1.csv.gz")) == 2_024


def compare_with_sql(path: Path) -> int:
    data = trades(path)
    compared = 0
    for minutes in (1, 5, 15):
        got = [x for x in folded(data, minutes * MINUTE_NS, end_ns(data)) if x.trade_count]
        expected = ask(RESAMPLE, data, w=minutes * MINUTE_NS)
        exact = (0, 1, 2, 3, 4, 9)
        assert [[row[i] for i in exact] for row in got] == [[row[i] for i in exact] for row in expected]
        sums = [[row[i] or 0.0 for i in (5, 6, 7, 8)] for row in expected]
        np.testing.assert_allclose([row[5:9] for row in got], sums, rtol=1e-9)
        compared += len(got)
    return compared


@pytest.mark.parametrize(
    ("name", "minutes"),
    [("binance_spot_btcusdt_20240808-09.csv.gz", 12), ("binance_spot_btcusdt_20260216.csv.gz", 5)],
)
def test_order_flow_equals_sql(name: str, minutes: int) -> None:
    data = trades(HERE / name)
    got = [(x.ts_ns, x.delta, x.cvd) for x in flows(data, end_ns(data)) if x.trade_count]
    expected = ask(FLOW, data)
    assert len(got) == len(expected) == minutes
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * float(data["size"].sum()))


def test_every_minute_equals_what_kraken_published() -> None:
    data = trades(beside("trades/kraken_spot_xbtusdt_20251110_part1.csv.gz"))
    published = table(beside("bars/kraken_xbtusdt_1m_official_20251110_part1.csv.gz"))
    rows = {row.ts_ns: row for row in folded(data, MINUTE_NS, int(published[-1]["ts_open_ns"]) + MINUTE_NS)}
    flat = 0
    for bar in published:
        row = rows[int(bar["ts_open_ns"])]
        prices = [float(bar[x]) for x in ("open", "high", "low", "close")]
        assert [row.open, row.high, row.low, row.close] == prices
        assert (f"{row.volume:.8f}", row.trade_count) == (bar["volume"], int(bar["count"]))
        if row.trade_count:
            assert (
                float(bar["vwap"]) <= row.vwap < float(bar["vwap"]) + 0.1
            )  # Kraken cuts the second decimal off
        flat += not row.trade_count
    assert len(published) == 231
    assert flat == 81


@pytest.mark.parametrize(("minutes", "bars"), [(1, 1_459), (5, 423)])
def test_every_bar_equals_what_freqtrade_made(minutes: int, bars: int) -> None:
    data = trades(beside("trades/binance_spot_xrpeth_aggtrades_2019_part1.csv.gz"))
    made = table(beside(f"bars/freqtrade_xrpeth_{minutes}m_2019_part1.csv.gz"))
    got = [x for x in folded(data, minutes * MINUTE_NS, end_ns(data)) if x.trade_count]
    expected = [
        (int(x["ts_open_ns"]), *(float(x[k]) for k in ("open", "high", "low", "close", "volume")))
        for x in made
    ]
    assert [row[:6] for row in got] == expected
    assert len(got) == bars
