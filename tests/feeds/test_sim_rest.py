from __future__ import annotations

from decimal import Decimal
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from feeds.sim.connection import Limits
from feeds.sim.exchange import SimExchange
from feeds.sim.history import RecordedHistory
from feeds.sim.tape import Trade
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.sim_support import START_NS, ask, get, manual_sim

MINUTE_MS = 60_000


async def test_trades_have_the_documented_shape_limits_and_defaults() -> None:
    async with manual_sim() as sim:
        await sim.emit(2_000)
        newest = await get(sim, "/api/v3/trades", symbol="BTCUSDT")
        assert [row["id"] for row in newest] == list(range(1_501, 2_001))
        assert list(newest[0]) == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
        exact = Decimal(newest[0]["price"]) * Decimal(newest[0]["qty"])
        assert Decimal(newest[0]["quoteQty"]) == exact
        assert newest == await get(sim, "/api/v3/historicalTrades", symbol="BTCUSDT")
        page = await get(sim, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=10, limit=1_000)
        assert [row["id"] for row in page] == list(range(10, 1_010))
        assert await get(sim, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=2_001) == []


async def test_aggregates_by_id_by_time_and_newest() -> None:
    async with manual_sim(rate=300.0) as sim:
        await sim.emit(3_000)
        every = await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", fromId=0, limit=1_000)
        assert list(every[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
        assert [row["a"] for row in every] == list(range(1, 1_001))
        assert await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", fromId=500, limit=3) == every[499:502]
        start, end = every[100]["T"], every[300]["T"]
        inside = [row for row in every if start <= row["T"] <= end]
        assert inside == await get(
            sim, "/api/v3/aggTrades", symbol="BTCUSDT", startTime=start, endTime=end, limit=1_000
        )
        assert (await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", startTime=start, limit=2)) == inside[:2]
        newest = await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT")
        assert len(newest) == 500
        assert 2_990 < newest[-1]["l"] <= 3_000
        never = 2**63 - 1
        assert await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", startTime=never) == []
        assert await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", fromId=never) == []
        assert await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", endTime=never) == newest


async def test_an_aggregate_is_told_when_all_of_it_happened() -> None:
    async with manual_sim() as sim:
        for _ in range(40):
            await sim.emit(1)
            rows = await get(sim, "/api/v3/aggTrades", symbol="BTCUSDT", limit=1_000)
            assert all(row["l"] <= sim.listings["BTCUSDT"].last_id for row in rows)
        assert len(rows) > 10


def _resample(trades: list[Trade], width_ms: int) -> dict[int, list[Any]]:
    """Cut bars in decimals, by the definition."""
    bars: dict[int, list[Any]] = {}
    for start, run in groupby(trades, key=lambda t: t.ts_ns // NS_PER_MS // width_ms * width_ms):
        rows = [(Decimal(t.price), Decimal(t.size), t.buyer_is_maker) for t in run]
        prices = [price for price, _, _ in rows]
        bars[start] = [
            prices[0],
            max(prices),
            min(prices),
            prices[-1],
            sum(size for _, size, _ in rows),
            start + width_ms - 1,
            sum(price * size for price, size, _ in rows),
            len(rows),
            sum(size for _, size, maker in rows if not maker),
            sum(price * size for price, size, maker in rows if not maker),
        ]
    return bars


def _numbers(row: list[Any]) -> list[Any]:
    return [Decimal(cell) if isinstance(cell, str) else cell for cell in row]


@pytest.mark.parametrize(("interval", "width_ms"), [("1s", 1_000), ("1m", MINUTE_MS), ("5m", 5 * MINUTE_MS)])
async def test_klines_agree_with_a_resample_of_the_trades(interval: str, width_ms: int) -> None:
    async with manual_sim(rate=3.0) as sim:
        await sim.emit_until(START_NS + 400 * NS_PER_S)
        trades = sim.listings["BTCUSDT"].trades(1, sim.listings["BTCUSDT"].last_id)
        expected = _resample(trades, width_ms)
        rows = await get(sim, "/api/v3/klines", symbol="BTCUSDT", interval=interval, limit=1_000)
    assert rows[0][0] == min(expected)
    assert rows[-1][0] == (START_NS // NS_PER_MS + 400_000) // width_ms * width_ms
    assert [row[0] for row in rows] == list(range(rows[0][0], rows[-1][0] + 1, width_ms))
    traded = {row[0]: _numbers(row[1:11]) for row in rows if row[8]}
    assert traded == expected
    assert all(len(row) == 12 for row in rows)
    for before, row in pairwise(rows):
        if not row[8]:
            assert row[1:5] == [before[4]] * 4
            assert _numbers([row[5], row[7], row[9], row[10]]) == [0] * 4


async def test_klines_by_time() -> None:
    async with manual_sim(rate=3.0) as sim:
        await sim.emit_until(START_NS + 1_000 * NS_PER_S)
        every = await get(sim, "/api/v3/klines", symbol="BTCUSDT", interval="1m")
        inside = await get(
            sim,
            "/api/v3/klines",
            symbol="BTCUSDT",
            interval="1m",
            startTime=every[2][0] - 1,
            endTime=every[5][0],
        )
        assert inside == every[2:6]
        assert (
            await get(sim, "/api/v3/klines", symbol="BTCUSDT", interval="1m", startTime=every[3][0], limit=2)
            == every[3:5]
        )
        assert await get(sim, "/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=4) == every[-4:]


async def test_exchange_info_time_and_ping() -> None:
    async with manual_sim("BTCUSDT", "ETHBTC") as sim:
        info = await get(sim, "/api/v3/exchangeInfo")
        assert [(row["symbol"], row["status"]) for row in info["symbols"]] == [
            ("BTCUSDT", "TRADING"),
            ("ETHBTC", "TRADING"),
        ]
        assert info["symbols"][0]["filters"][0]["filterType"] == "PRICE_FILTER"
        assert info["symbols"][0]["filters"][0]["tickSize"] == "0.01000000"
        assert (info["symbols"][1]["baseAsset"], info["symbols"][1]["quoteAsset"]) == ("ETH", "BTC")
        one = await get(sim, "/api/v3/exchangeInfo", symbol="ETHBTC")
        some = await get(sim, "/api/v3/exchangeInfo", symbols='["ETHBTC"]')
        assert one["symbols"] == some["symbols"] == info["symbols"][1:]
        assert await get(sim, "/api/v3/time") == {"serverTime": sim.now_ns // NS_PER_MS}
        assert await get(sim, "/api/v3/ping") == {}


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("trades", {"symbol": "NOSUCH"}, -1121),
        ("trades", {}, -1102),
        ("trades", {"symbol": "BTCUSDT", "limit": "x"}, -1100),
        ("trades", {"symbol": "BTCUSDT", "limit": "1001"}, -1130),
        ("trades", {"symbol": "BTCUSDT", "fromId": "1"}, -1104),
        ("historicalTrades", {"symbol": "BTCUSDT", "fromId": "-1"}, -1100),
        ("historicalTrades", {"symbol": "BTCUSDT", "fromId": str(2**63)}, -1108),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "1"}, -1128),
        ("exchangeInfo", {"symbols": "BTCUSDT"}, -1135),
    ],
)
async def test_bad_requests_get_the_venue_s_codes(path: str, params: dict[str, str], code: int) -> None:
    async with manual_sim() as sim:
        status, body, _ = await ask(sim, f"/api/v3/{path}", **params)
        assert (status, body["code"]) == (400, code)
        assert body.keys() == {"code", "msg"}


async def test_weights_are_counted_and_limited() -> None:
    async with manual_sim(limits=Limits(weight_per_minute=60)) as sim:
        await sim.emit(1)
        answers = [await ask(sim, "/api/v3/trades", symbol="BTCUSDT") for _ in range(3)]
        used = [int(headers["X-MBX-USED-WEIGHT-1M"]) for _, _, headers in answers]
        if used == [25, 50, 75]:  # unless a minute began meanwhile
            assert [status for status, _, _ in answers] == [200, 200, 429]
            assert answers[2][1]["code"] == -1003
            assert 1 <= int(answers[2][2]["Retry-After"]) <= 60
        assert used[0] == 25


async def test_a_recording_is_served_as_it_was_printed(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(
        "trade_id,price,size,side,ts_event_ns\n7,100.10,0.500,buy,5000000000\n8,100.1,1,sell,6000000000\n"
    )
    sim = SimExchange({"X": RecordedHistory(path, "X")}, auto=False)
    await sim.start()
    try:
        assert await get(sim, "/api/v3/trades", symbol="X") == []
        assert await sim.emit(10) == 2
        rows = await get(sim, "/api/v3/historicalTrades", symbol="X", fromId=7)
        assert [(r["id"], r["price"], r["qty"], r["time"]) for r in rows] == [
            (7, "100.10", "0.500", 5_000),
            (8, "100.1", "1", 6_000),
        ]
        aggregates = await get(sim, "/api/v3/aggTrades", symbol="X")
        assert [(r["f"], r["l"], r["q"]) for r in aggregates] == [(7, 7, "0.500"), (8, 8, "1")]
    finally:
        await sim.stop()
