"""The macros of readers, over hot and archived rows, each beside a plain loop over the ticks."""

# ruff: noqa: S608 - the tests' own numbers in SQL

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market.errors import MarketdError, UsageError
from market.rows import FairValueGap, MarketProfile, MarketState, Rows, TickRows, Zone
from market.times import NS_PER_S, rfc3339
from storage import views
from storage.hot import HotFile
from storage.reads import begin, export
from tests.storage.archive_support import END, TIMEFRAMES, filled, plan, some_ticks
from tests.storage.hot_rows import MINUTE, T0, make_ticks, open_hot, some_of_each
from tests.storage.record import Opened, record

TICKS = some_ticks()
NEWEST_FIRST = sorted(range(len(TICKS)), key=lambda i: (-int(TICKS["ts_ns"][i]), -i))


@pytest.fixture(scope="module", params=["hot", "archived"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A record of two hours; archived but for the last 20 minutes, or not at all."""
    hot, opened = filled(tmp_path_factory.mktemp("pair") / "binance/spot/BTCUSDT/trading.duckdb")
    rows = Rows()
    for minute in range(3):
        at_ns = END + minute
        state = MarketState(at_ns, 1.0 + minute, None, None, None, None, None, "Unknown", "Neutral", 0.5)
        rows.insert("market_profile", MarketProfile(0, at_ns, 1.0 + minute, 2.0, 0.5, 7.0, 0.01))
        rows.insert("market_state", state)
    for number, status in enumerate(("OPEN", "PARTIAL", "FILLED", "EXPIRED")):
        gap = FairValueGap(f"1m:{number}", "1m", "BULLISH", 2.0 + number, 1.0, END, 0.0, status, None)
        rows.keep("fair_value_gaps", gap.gap_id, gap)
    for number, status in enumerate(("FRESH", "TESTED", "BROKEN")):
        zone = Zone(f"5m:{number}", "5m", "SUPPLY", 1.0, 2.0 + number, 0.5, status, 0, END, END, None)
        rows.keep("supply_demand_zones", zone.zone_id, zone)
    hot.flush(rows, 2)
    if request.param == "archived":
        hot.sweep(plan(END - 20 * MINUTE))
    yield hot, opened
    hot.close()


def ask(pair: tuple[HotFile, Opened], sql: str, out: Path) -> Any:
    hot, opened = pair
    with closing(begin(hot.connection)) as cursor:
        export(cursor, opened, sql, "json", out)
    return json.loads(out.read_bytes())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def part(seconds: Fraction, until_ns: int) -> list[int]:
    """Find the ticks in (until - seconds, until]."""
    from_ns = until_ns - int(seconds * NS_PER_S)
    return [i for i, ts_ns in enumerate(TICKS["ts_ns"].tolist()) if from_ns < ts_ns <= until_ns]


def sides(those: list[int]) -> tuple[float, float]:
    sums = {1: 0.0, -1: 0.0, 0: 0.0}
    for i in those:
        sums[int(TICKS["side"][i])] += float(TICKS["size"][i])
    return sums[1], sums[-1]


@pytest.mark.parametrize("count", [1, 100, 700])
def test_the_last_ticks(pair: Any, out: Path, count: int) -> None:
    found = ask(pair, f"SELECT seq FROM recent_ticks({count})", out)
    assert [row["seq"] for row in found] == [i + 1 for i in NEWEST_FIRST[:count]]
    assert len(ask(pair, "FROM recent_ticks()", out)) == 100


def test_candles_of_a_timeframe_the_open_one_first(pair: Any, out: Path) -> None:
    made, opened = record(TICKS, TIMEFRAMES)
    for timeframe in ("1m", "5m", "15m"):
        bars = [*made.inserted[f"candles_{timeframe}"], *opened[f"candles_{timeframe}"]][::-1]
        found = ask(pair, f"FROM candles('{timeframe}', n := 30)", out)
        told = [(row["timestamp"], row["close"], row["is_complete"]) for row in found]
        assert told == [(rfc3339(bar[0]), bar[4], bar[10]) for bar in bars[:30]]
    hidden = ask(pair, "SELECT count(*) AS n FROM candles('1' || 'm', 1000)", out)
    assert hidden == [{"n": len(made.inserted["candles_1m"]) + 1}]
    with pytest.raises(UsageError, match="candles_7m"):
        ask(pair, "FROM candles('7m')", out)


def test_imbalance_leaves_out_the_trade_at_its_far_edge(pair: Any, out: Path) -> None:
    at_ns = int(TICKS["ts_ns"][500])
    edge_ns = at_ns - int(TICKS["ts_ns"][497])
    for seconds in (60, 300, 7_200, Fraction(edge_ns, NS_PER_S), Fraction(edge_ns + 1, NS_PER_S)):
        for until_ns in (END, at_ns, at_ns - 1):
            written = f"{float(seconds):.9f}"
            (row,) = ask(pair, f"FROM imbalance({written}, until := '{rfc3339(until_ns)}')", out)
            those = part(Fraction(written), until_ns)
            buy, sell = sides(those)
            assert (row["trade_count"], row["to_time"]) == (len(those), rfc3339(until_ns))
            assert row["imbalance"] == pytest.approx((buy - sell) / (buy + sell) if those else 0, abs=1e-12)
    (now,) = ask(pair, "FROM imbalance()", out)
    assert now["to_time"] == rfc3339(END)
    (none,) = ask(pair, "FROM imbalance(60, until := '2001-01-01T00:00:00Z')", out)
    assert (none["imbalance"], none["buy_volume"], none["trade_count"]) == (0, 0, 0)


@pytest.mark.parametrize(("seconds", "every"), [(900, 60), (3_600, 300), (60, 1)])
def test_cumulative_delta_of_a_look_back(pair: Any, out: Path, seconds: int, every: int) -> None:
    found = ask(pair, f"FROM cvd({seconds}, every := {every})", out)
    buckets: dict[int, list[int]] = defaultdict(list)
    for i in part(Fraction(seconds), END):
        buckets[int(TICKS["ts_ns"][i]) // (every * NS_PER_S)].append(i)
    cvd = 0.0
    for row, number in zip(found, sorted(buckets), strict=True):
        buy, sell = sides(buckets[number])
        cvd += buy - sell
        last = max(buckets[number], key=lambda i: (TICKS["ts_ns"][i], i))
        assert row["timestamp"] == rfc3339(number * every * NS_PER_S)
        assert row["trade_count"] == len(buckets[number])
        assert row["close"] == TICKS["price"][last]
        assert (row["delta"], row["cvd"]) == (pytest.approx(buy - sell), pytest.approx(cvd, abs=1e-12))


@pytest.mark.parametrize("every", ["0", "-60", "0.0000000001", "NULL"])
def test_buckets_of_no_width_are_refused_by_their_name(pair: Any, out: Path, every: str) -> None:
    with pytest.raises(UsageError, match="cvd: every must be more than 0 seconds"):
        ask(pair, f"FROM cvd(10, every := {every})", out)


def test_a_late_tick_that_alone_is_hot_is_not_taken_for_the_newest(tmp_path: Path, out: Path) -> None:
    hot, opened = filled(tmp_path / "binance/spot/BTCUSDT/trading.duckdb")
    hot.sweep(plan(END + 1))
    late = make_ticks(1, len(TICKS) + 1, END - 20 * MINUTE + 1)
    hot.flush(Rows(ticks=[TickRows(len(TICKS) + 1, late)]), 2)
    (newest, *_) = ask((hot, opened), "FROM recent_ticks(5)", out)
    (span,) = ask((hot, opened), "FROM imbalance(60)", out)
    (wide,) = ask((hot, opened), "FROM imbalance(1800)", out)
    assert newest["timestamp"] == span["to_time"] == rfc3339(END)
    assert span["trade_count"] == len(part(Fraction(60), END))
    assert wide["trade_count"] == len(part(Fraction(1_800), END)) + 1
    hot.close()


def test_a_reader_sees_one_moment_while_the_writer_goes_on(tmp_path: Path) -> None:
    hot = open_hot(tmp_path / "pair/trading.duckdb")
    hot.flush(some_of_each(1, 3), 1)
    sql = """
        SELECT (SELECT max(seq) FROM ticks) AS newest, (SELECT count(*) FROM ticks) AS ticks, t.seq,
            i.trade_count
        FROM recent_ticks(1) t, imbalance(1000000) i
    """
    told: list[Any] = []
    faults: list[MarketdError] = []

    def read() -> None:
        try:
            told.extend(ask((hot, {}), sql, tmp_path / "out")[0] for _ in range(20))
        except MarketdError as fault:
            faults.append(fault)

    reader = threading.Thread(target=read)
    reader.start()
    while reader.is_alive():
        first = hot.last_tick_seq() + 1
        ticks = make_ticks(3, first, T0 + first * MINUTE // 60)
        hot.flush(Rows(ticks=[TickRows(first, ticks)]), hot.position + 1)
    hot.close()
    assert faults == []
    assert all(row["newest"] == row["seq"] and row["trade_count"] == row["ticks"] for row in told)
    assert told[-1]["newest"] > told[0]["newest"]


def test_what_holds_now(pair: Any, out: Path) -> None:
    assert [row["gap_id"] for row in ask(pair, "FROM open_gaps()", out)] == ["1m:1", "1m:0"]
    assert [row["zone_id"] for row in ask(pair, "FROM active_zones()", out)] == ["5m:1", "5m:0"]
    assert [row["poc"] for row in ask(pair, "FROM profile_now()", out)] == [3.0]
    assert [row["mass"] for row in ask(pair, "FROM state_now()", out)] == [3.0]


def test_macros_join_and_stand_in_expressions(pair: Any, out: Path) -> None:
    sql = """
        SELECT s.mass, i.imbalance, (SELECT count(*) FROM Candles (timeframe := '5m')) AS bars
        FROM state_now() s, IMBALANCE(60) i WHERE i.trade_count > 0
    """
    (row,) = ask(pair, sql, out)
    assert row["bars"] == len(record(TICKS, TIMEFRAMES)[0].inserted["candles_5m"]) + 1


def test_a_file_may_have_them_for_good(tmp_path: Path) -> None:
    path = tmp_path / "binance/spot/BTCUSDT/trading.duckdb"
    hot, _ = filled(path)
    for statement in views.ddl():
        hot.connection.execute(statement)
    hot.close()
    with duckdb.connect(path, read_only=True) as con:
        ((count,),) = con.execute("SELECT trade_count FROM imbalance(60)").fetchall()
        assert count == len(part(Fraction(60), END))
        for macro in views.MACROS:
            timeframe = "'1m'" if macro.name == "candles" else ""
            con.execute(f"FROM {macro.name}({timeframe})").fetchall()
