"""`marketd similar`: real states in a real LanceDB, candles by the daemon's own socket."""

# ruff: noqa: S608 - the tests' own tables

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from structlog.testing import capture_logs

from analytics.state_text import VERSION, MarketState, Physics, Sentiment, metadata, text
from daemon.control_server import ControlServer
from daemon.settings import EmbeddingsSettings, PairSettings, Settings
from daemon.similar import Match, _sql, lines, similar, time_ns
from market.errors import Retryable, UsageError
from market.pairs import Pair
from market.rows import Candle
from market.times import NS_PER_S, rfc3339
from storage.minilm import ABSENT, Encoder
from storage.vectors import StateRow, Vectors

BTC = Pair("binance", "spot", "BTCUSDT")
T0_NS, MINUTE_NS = 1_766_318_460 * NS_PER_S, 60 * NS_PER_S
MOVES_BPS = (40.0, -40.0, 0.0, 25.0, -25.0, 4.0, -4.0, 33.0, 0.0, -70.0, 31.0)
LAST = 67


def candle(minute: int) -> Candle:
    move = MOVES_BPS[minute]
    buy = 5 + move / 10 if abs(move) < 50 else 5.0
    close = 100 * (1 + move / 10_000)
    low, high = min(close, 100.0) * 0.9999, max(close, 100.0) * 1.0001
    ts_ns = T0_NS + minute * MINUTE_NS
    return Candle(ts_ns, 100.0, high, low, close, 10.0, buy, 10 - buy, (100 + close) / 2, 80, True, 0)


def later(minute: int) -> Candle:
    """The candles that come after those with states; the last of them is open."""
    close = 100 + minute / 10
    ts_ns = T0_NS + minute * MINUTE_NS
    return Candle(ts_ns, close, close, close, close, 1.0, 1.0, 0.0, close, 1, minute < LAST, 0)


def settings(folder: Path, alias: str = BTC.key) -> Settings:
    return Settings(data_dir=folder, pairs=(PairSettings(pair=BTC, alias=alias),))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def store(folder: Path, encoder: Encoder, alias: str = BTC.key) -> None:
    """Store the states as their supervisor does; another pair has the same ones."""
    calm = {
        "physics": Physics(alpha=2.5, regime="Gaussian"),
        "sentiment": Sentiment(label="Neutral", score=0.5),
    }
    for symbol in (alias, "other"):
        states = [
            MarketState(symbol=symbol, ts_ns=bar.ts_ns, candle=bar, **(calm if i == 0 else {}))  # type: ignore[arg-type]
            for i, bar in enumerate(map(candle, range(len(MOVES_BPS))))
        ]
        vectors = encoder.encode([text(state) for state in states])
        rows = [
            StateRow(state.symbol, state.ts_ns, metadata(state), vector, VERSION)
            for state, vector in zip(states, vectors, strict=True)
        ]
        Vectors(folder / "lancedb").write(rows)


@asynccontextmanager
async def answering(folder: Path, first: int | None) -> AsyncIterator[None]:
    """A daemon's socket over a record that holds the candles from a minute on; None: that cannot be read."""

    async def query(pair: str, sql: str, fmt: str, out: str) -> Mapping[str, Any]:
        assert pair == BTC.key
        if first is None:
            raise Retryable("the pair is recovering")
        with duckdb.connect() as con:
            con.execute(
                "CREATE TABLE candles_1m (timestamp TIMESTAMP_NS, open DOUBLE, high DOUBLE, low DOUBLE, "
                "close DOUBLE, volume DOUBLE, trade_count BIGINT, is_complete BOOLEAN)"
            )
            bars = [*map(candle, range(first, len(MOVES_BPS))), *map(later, range(len(MOVES_BPS), LAST + 1))]
            for bar in bars:
                row = [bar.ts_ns, *bar[1:6], bar.trade_count, bar.is_complete]
                con.execute("INSERT INTO candles_1m VALUES (make_timestamp_ns(?), ?, ?, ?, ?, ?, ?, ?)", row)
            con.execute(f"COPY ({sql}) TO '{out}' (FORMAT {fmt}, ARRAY true)")
        return {}

    server = ControlServer(folder / "run/control.sock", {"query": query})
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def minutes(found: list[Match]) -> list[int]:
    return [(one.ts_ns - T0_NS) // MINUTE_NS for one in found]


@pytest.mark.embeddings
async def test_the_nearest_past_states_of_the_pair_with_their_candles(
    tmp_path: Path, encoder: Encoder
) -> None:
    store(tmp_path, encoder)
    async with answering(tmp_path, first=1):
        found = await asyncio.to_thread(similar, settings(tmp_path), BTC, None, 3)
        earlier = await asyncio.to_thread(similar, settings(tmp_path), BTC, time_ns("2025-12-21T12:09:30"), 2)
    assert minutes(found)[0] == 10
    assert set(minutes(found)[1:]) == {0, 3, 7}  # the other rallies
    distances = [one.distance for one in found]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert minutes(found)[1] == 7  # in the same words
    assert distances[1] == pytest.approx(0, abs=1e-6)
    bars = {minute: one.bar for minute, one in zip(minutes(found), found, strict=True)}
    assert bars[0] is None  # no longer on record
    bar = bars[7]
    assert bar is not None
    assert (bar.open, bar.close, bar.volume, bar.trade_count) == (100, candle(7).close, 10, 80)
    assert bar.later == (later(12).close, later(22).close, None)  # the last is not over yet
    earliest = bars[3]
    assert earliest is not None
    assert earliest.later == (candle(8).close, later(18).close, later(63).close)
    assert minutes(earlier)[0] == 8
    assert minutes(earlier)[1] == 2


@pytest.mark.embeddings
async def test_a_pair_is_found_by_its_alias_and_without_its_record(tmp_path: Path, encoder: Encoder) -> None:
    store(tmp_path, encoder, alias="BTC")
    at_ns = T0_NS + 4 * MINUTE_NS
    async with answering(tmp_path, first=None):
        with capture_logs() as logged:
            found = await asyncio.to_thread(similar, settings(tmp_path, "BTC"), BTC, at_ns, 9)
    assert minutes(found)[:2] == [4, 1]
    assert sorted(minutes(found)) == [0, 1, 2, 3, 4]
    assert {one.bar for one in found} == {None}
    (fact,) = [one for one in logged if one["event"] == "similar_without_candles"]
    assert fact["reason"] == "the pair is recovering"
    shown = [line.split() for line in lines(found)]
    assert shown[0] == ["nearest", "to", "2025-12-21T12:05:00Z:"]
    assert shown[1][:3] == ["timestamp", "distance", "move_bps"]
    assert [line[0] for line in shown[2:]] == [rfc3339(one.ts_ns) for one in found[1:]]
    assert [line[6:8] for line in shown if line[0] == "2025-12-21T12:01:00Z"] == [["Gaussian", "Neutral"]]


@pytest.mark.embeddings
def test_what_is_not_there_is_said_in_a_line(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(UsageError, match=rf"{tmp_path}/lancedb: holds no market states yet"):
        similar(settings(tmp_path), BTC, None, 5)
    store(tmp_path, encoder, alias="BTC")
    with pytest.raises(UsageError, match=f"holds no market state of {BTC} yet"):
        similar(settings(tmp_path), BTC, None, 5)
    with pytest.raises(UsageError, match="holds no market state of BTC at or before 2025-12-21T12:00:59Z"):
        similar(settings(tmp_path, "BTC"), BTC, T0_NS - NS_PER_S, 5)
    with pytest.raises(UsageError, match=f"of binance:spot:NOPE yet; the pairs followed are: {BTC}$"):
        similar(settings(tmp_path), replace(BTC, symbol="NOPE"), None, 5)
    off = replace(settings(tmp_path / "off"), embeddings=EmbeddingsSettings(enabled=False))
    with pytest.raises(UsageError, match=r"no market states yet; they are off \(embeddings\.enabled\)$"):
        similar(off, BTC, None, 5)


ASK = """
import sys
from pathlib import Path
for name in sys.argv[2:]:
    sys.modules[name] = None
from daemon.similar import lines, similar
from market.errors import UsageError
from tests.daemon.test_similar import BTC, settings
try:
    print(*lines(similar(settings(Path(sys.argv[1])), BTC, None, 2)), sep="\\n")
except UsageError as error:
    print(error)
"""


def ask(folder: Path, *without: str) -> subprocess.CompletedProcess[str]:
    """Ask in a process of its own, in which some libraries do not exist."""
    command = [sys.executable, "-c", ASK, str(folder), *without]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.embeddings
def test_no_daemon_and_no_record_is_an_answer_too(tmp_path: Path, encoder: Encoder) -> None:
    store(tmp_path, encoder)
    told = ask(tmp_path)
    assert told.stdout.splitlines()[0] == "nearest to 2025-12-21T12:11:00Z:"
    assert told.stdout.count("2025-12-21T12:11:00Z") == 1  # it is no neighbour of its own
    assert len(told.stdout.splitlines()) == 4
    assert f"{tmp_path}: holds no record of {BTC}" in told.stderr


def test_a_light_installation_names_the_cure(tmp_path: Path) -> None:
    assert ask(tmp_path, "lancedb").stdout == f"embeddings: {ABSENT} (missing: lancedb)\n"


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("2025-12-21T12:01:00Z", 1_766_318_460),
        ("2025-12-21T13:01:00.5+01:00", 1_766_318_460.5),
        ("2025-12-21 12:01", 1_766_318_460),
        ("1970-01-02", 86_400),
    ],
)
def test_a_time_is_read_as_utc_unless_it_says_otherwise(told: str, seconds: float) -> None:
    assert time_ns(told) == int(seconds * 10) * NS_PER_S // 10


@pytest.mark.parametrize("told", ["", "noon", "12", "2025-13-01"])
def test_what_is_no_time_is_refused(told: str) -> None:
    with pytest.raises(UsageError, match="--at"):
        time_ns(told)


@pytest.mark.parametrize("bar_known", [True, False])
def test_a_line_shows_a_candle_by_its_shape(bar_known: bool) -> None:  # noqa: FBT001
    from daemon.similar import Bar  # noqa: PLC0415

    later = (101.505, 99.495, None)
    bar = Bar(0, 100.0, 101.0, 99.0, 100.5, 12.345678, 7, later) if bar_known else None
    nothing = {"physics": {"regime": None}, "sentiment": {"label": None}}
    asked = Match(T0_NS + MINUTE_NS, 0.0, nothing, None)
    (_, _, line) = lines([asked, Match(T0_NS, 0.12345, nothing, bar)])
    assert lines([asked]) == ["nearest to 2025-12-21T12:02:00Z:"]
    shown = ["+50.0", "202.0", "12.346", "7"] if bar_known else ["-"] * 4
    moves = ["+100.0", "-100.0", "-"] if bar_known else ["-"] * 3
    assert line.split() == ["2025-12-21T12:01:00Z", "0.1235", *shown, "-", "-", *moves]


@pytest.mark.parametrize(
    ("timeframe", "table", "after_s"),
    [
        ("5s", "candles_5s", [300, 900, 3_600]),
        ("1m", "candles_1m", [300, 900, 3_600]),
        ("15m", "candles_1m", [300 + 840, 900 + 840, 3_600 + 840]),
        ("45s", "candles_1m", [240, 840, 3_540]),  # the last minute that is over by then
    ],
)
def test_what_came_later_is_read_from_candles_that_end_then(
    timeframe: str, table: str, after_s: list[int]
) -> None:
    start_ns = 1_766_275_200 * NS_PER_S
    names = {table, f"candles_{timeframe}"}
    with duckdb.connect() as con:
        for name in names:
            con.execute(
                f"CREATE TABLE {name} AS SELECT make_timestamp_ns({start_ns} + i * {NS_PER_S}) AS timestamp, "
                "1.0 AS open, 1.0 AS high, 1.0 AS low, i::DOUBLE AS close, 1.0 AS volume, 1 AS trade_count, "
                "true AS is_complete FROM range(6000) s(i)"
            )
        ((later,),) = con.execute(f"SELECT later FROM ({_sql(timeframe, [start_ns])})").fetchall()
    assert later == after_s
