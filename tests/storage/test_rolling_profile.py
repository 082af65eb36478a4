"""The profile of the last hours, by SQL, beside the plain walk over every row."""

# ruff: noqa: S608 - the tests' own numbers in SQL

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.ticks import Ticks
from market.times import NS_PER_S
from storage import views
from tests.analytics.profile_worlds import TICK_SIZE, ties, walked
from tests.recordings import HERE, trades

RECORDING = HERE / "binance_spot_btcusdt_20240808-09.csv.gz"
STEPS = {
    "va_step := 2": (2, "0.7"),
    "va_step := 1, value_area := 0.5": (1, "0.5"),
    "value_area := 1": (2, "1"),
}


def database(ticks: Ticks, bin_size: float | None = None) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    columns = {name: ticks[name].copy() for name in ("ts_ns", "price", "size", "side")}
    con.register("raw", columns)
    con.execute("""
        CREATE TABLE ticks AS
        SELECT make_timestamp_ns(ts_ns) AS timestamp, price, size AS volume,
            CASE side WHEN 1 THEN 'BUY' WHEN -1 THEN 'SELL' END AS side, row_number() OVER () AS seq
        FROM raw
    """)
    con.execute("CREATE TABLE market_profile (timestamp TIMESTAMP_NS, bin_size DOUBLE)")
    con.execute("INSERT INTO market_profile VALUES (make_timestamp_ns(1), ?)", [bin_size])
    for name in ("market_state", "supply_demand_zones", "fair_value_gaps"):
        con.execute(f"CREATE TABLE {name} (timestamp TIMESTAMP_NS, status VARCHAR)")
    for statement in views.ddl():
        if " rolling_profile(" in statement:
            con.execute(statement)
    return con


def expected(ticks: Ticks, seconds: int, bin_size: str, options: str) -> tuple[float, ...]:
    """Build every row of the trades in (last - seconds, last], and walk."""
    last_ns = int(ticks["ts_ns"].max())
    part = ticks[ticks["ts_ns"] > last_ns - seconds * NS_PER_S]
    volumes: dict[int, Decimal] = defaultdict(Decimal)
    for price, size in zip(part["price"].tolist(), part["size"].tolist(), strict=True):
        volumes[int(Decimal(repr(price)) // Decimal(bin_size))] += Decimal(repr(size))
    step, share = STEPS[options]
    return tuple(float(row * Decimal(bin_size)) for row in walked(volumes, Decimal(share), step))


def found(con: duckdb.DuckDBPyConnection, arguments: str) -> tuple[Any, ...]:
    columns = "poc, value_area_high, value_area_low, total_volume, bin_size"
    row = con.execute(f"SELECT {columns} FROM rolling_profile({arguments})").fetchone()
    assert row is not None
    return row


@given(ticks=ties(), seconds=st.sampled_from([1, 60, 3_600, 10**6]), options=st.sampled_from(sorted(STEPS)))
@settings(max_examples=150, deadline=None)
def test_any_window_equals_the_plain_walk(ticks: Ticks, seconds: int, options: str) -> None:
    with database(ticks, TICK_SIZE) as con:
        row = found(con, f"{seconds}, {options}")
    assert row[:3] == expected(ticks, seconds, repr(TICK_SIZE), options)


@pytest.mark.parametrize("bin_size", ["0.01", "0.1", "5"])
@pytest.mark.parametrize("options", sorted(STEPS))
def test_recorded_trades_in_rows_of_any_width(bin_size: str, options: str) -> None:
    ticks = trades(RECORDING)
    with database(ticks) as con:
        for seconds in (30, 300, 14_400):
            row = found(con, f"{seconds}, bin := {bin_size}, {options}")
            assert row[:3] == expected(ticks, seconds, bin_size, options)
            assert row[4] == float(bin_size)


def test_without_trades_nothing_is_known_and_without_a_width_no_price() -> None:
    ticks = trades(RECORDING)
    for con, arguments in (
        (database(ticks, TICK_SIZE), "60, until := TIMESTAMP '2001-01-01'"),
        (database(ticks[:0], TICK_SIZE), ""),
    ):
        with con:
            assert found(con, arguments)[:4] == (None,) * 4
    with database(ticks) as con:
        *prices, volume, width = found(con, "1000000")
    assert (prices, width) == ([None] * 3, None)
    assert volume == pytest.approx(ticks["size"].sum())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("60, bin := 0", "bin must be more than 0"),
        ("60, bin := -1", "bin must be more than 0"),
        ("60, va_step := 3", "va_step must be 1 or 2"),
        ("60, value_area := 70", "value_area must be more than 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(arguments: str, said: str) -> None:
    with database(trades(RECORDING), TICK_SIZE) as con, pytest.raises(duckdb.Error, match=said):
        found(con, arguments)
