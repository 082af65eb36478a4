"""The questions of docs/questdb.md, asked of a real server; the answers are computed here, row by row."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from market.rows import Candle
from market.ticks import TICK, Ticks
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_frames import TradeRows
from tests.storage.questdb_support import DAY_NS, MINUTE_NS, ask, settled
from tests.support import eventually

BTC, ETH = "binance:spot:BTCUSDT", "binance:spot:ETHUSDT"
DAY = int(datetime(2026, 2, 16, tzinfo=UTC).timestamp()) * 10**9
DAYS = 3
RANDOM = np.random.default_rng(20260216)
Row = list[Any]


def questions() -> dict[str, str]:
    """Take the first query under each heading of the document, and the others by a number."""
    text = (Path(__file__).parents[2] / "docs/questdb.md").read_text()
    found: dict[str, str] = {}
    for part in text.split("\n## ")[1:]:
        for number, sql in enumerate(re.findall(r"```sql\n(.*?);\n```", part, re.DOTALL)):
            found[part.partition("\n")[0] + f" {number + 1}" * bool(number)] = sql
    return found


def trades(count: int, price: float) -> Ticks:
    """Make trades of the first hour of a day, prices and sizes without any pattern."""
    ticks = np.zeros(count, TICK)
    ticks["trade_id"] = np.arange(1, count + 1)
    ticks["ts_ns"] = DAY + np.sort(RANDOM.integers(0, 3_600 * 10**6, count)) * 1_000
    ticks["price"] = price + RANDOM.normal(0, 1, count).round(2)
    ticks["size"] = RANDOM.exponential(1, count).round(5) + 0.00001
    ticks["side"] = RANDOM.choice([-1, 1], count)
    return ticks


def minutes(price: float) -> list[Candle]:
    """Make every minute of some days."""
    bars = []
    for at in range(DAYS * 1_440):
        o, c = price * (1 + RANDOM.normal(0, 0.01, 2))
        high, low, volume = max(o, c) * 1.001, min(o, c) * 0.999, float(RANDOM.exponential(3))
        row = (o, high, low, c, volume, volume, 0.0, (o + c) / 2, 7, True, 0)
        bars.append(Candle(DAY + at * MINUTE_NS, *row))
    return bars


TRADES = {BTC: trades(4_000, 70_000.0), ETH: trades(3_000, 2_000.0)}
BARS = {BTC: minutes(70_000.0), ETH: minutes(2_000.0)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedQuestDB]:
    server = EmbeddedQuestDB(tmp_path_factory.mktemp("questdb"))
    store = QuestDB(server.start())
    store.prepare()
    for symbol in (BTC, ETH):
        store.write_trades([TradeRows(symbol, "binance", 1, TRADES[symbol])])
        store.write_candles([(symbol, BARS[symbol])])
    store.close()
    yield server
    server.stop()


def stamp(ts_ns: int) -> str:
    """Write a time as QuestDB's JSON does."""
    return datetime.fromtimestamp(ts_ns // 1_000 / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def grouped(width_ns: int) -> dict[int, list[Any]]:
    out: dict[int, list[Any]] = defaultdict(list)
    for tick in TRADES[BTC]:
        out[int(tick["ts_ns"]) // width_ns * width_ns].append(tick)
    return out


def hours(width_ns: int) -> list[Row]:
    parts: dict[int, list[Candle]] = defaultdict(list)
    for bar in BARS[BTC]:
        parts[bar.ts_ns // width_ns * width_ns].append(bar)
    return [
        [
            stamp(at),
            part[0].open,
            max(bar.high for bar in part),
            min(bar.low for bar in part),
            part[-1].close,
            sum(bar.volume for bar in part),
        ]
        for at, part in sorted(parts.items())
    ]


def latest() -> list[Row]:
    last = {symbol: ticks[-1] for symbol, ticks in TRADES.items()}
    return [
        [symbol, stamp(int(t["ts_ns"])), float(t["price"]), float(t["size"]), "B" if t["side"] > 0 else "S"]
        for symbol, t in last.items()
    ]


def vwap() -> list[Row]:
    out = []
    for at, part in sorted(grouped(MINUTE_NS).items()):
        volume = sum(float(t["size"]) for t in part)
        paid = sum(float(t["price"]) * float(t["size"]) for t in part)
        out.append([stamp(at), BTC, paid / volume, volume, len(part)])
    return out


def sides() -> list[Row]:
    return [
        [stamp(at), *(sum(float(t["size"]) for t in part if t["side"] == side) for side in (1, -1))]
        for at, part in sorted(grouped(5 * MINUTE_NS).items())
    ]


def returns() -> list[Row]:
    closes = [BARS[BTC][(day + 1) * 1_440 - 1].close for day in range(DAYS)]
    changes = [None, *(now / before - 1 for before, now in pairwise(closes))]
    days = [stamp(DAY + day * DAY_NS) for day in range(DAYS)]
    return [list(row) for row in zip(days, closes, changes, strict=True)]


ANSWERS = {
    "The last trade of each pair": latest,
    "VWAP per minute": vwap,
    "Buying and selling per five minutes": sides,
    "Candles of an hour": lambda: hours(60 * MINUTE_NS),
    "Candles of an hour 2": lambda: hours(15 * MINUTE_NS),
    "Daily returns": returns,
    "What was refused, and why": list,
}


def test_every_question_of_the_document_has_an_answer_here() -> None:
    assert questions().keys() == ANSWERS.keys()


@pytest.mark.parametrize("question", ANSWERS)
async def test_a_question_is_answered_as_computed_here(server: EmbeddedQuestDB, question: str) -> None:
    wanted = ANSWERS[question]()
    await settled(server)
    await eventually(lambda: len(ask(server, questions()[question])) == len(wanted))  # the view is made later
    got = sorted(ask(server, questions()[question]), key=lambda row: row[:2])  # by time, or by symbol
    assert [[one for one in row if not isinstance(one, float)] for row in got] == [
        [one for one in row if not isinstance(one, float)] for row in wanted
    ]
    for row, expected in zip(got, wanted, strict=True):
        numbers = [one for one in expected if isinstance(one, float)]
        assert [one for one in row if isinstance(one, float)] == pytest.approx(numbers, rel=1e-9)
