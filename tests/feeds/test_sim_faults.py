from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from feeds.sim.exchange import SimExchange
from feeds.sim.faults import (
    YEAR_2100_MS,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Flaw,
    Halt,
    Lose,
    Malformed,
    Refuse,
    RestHang,
    RestLag,
    RestStatus,
    Silence,
    Skip,
    Swap,
)
from feeds.sim.history import GeneratedHistory
from market.times import NS_PER_S
from tests.feeds.sim_support import START_NS, ask, get, ids, listening, manual_sim, receive
from tests.support import eventually

BTC = "BTCUSDT"


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (Skip(BTC, 3, 5), [1, 2, 6, 7, 8]),
        (Lose(BTC, 3, 5), [1, 2, 6, 7, 8]),
        (Duplicate(BTC, 3), [1, 2, 3, 3, 4]),
        (Swap(BTC, 3), [1, 2, 4, 3, 5]),
        (Malformed(BTC, "zero", at_id=2, extra=True), [1, 2, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("step", [1, 20])
async def test_frames_are_left_out_repeated_and_swapped(fault: Fault, seen: list[int], step: int) -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        sim.inject(fault)
        for _ in range(20 // step):
            await sim.emit(step)
        assert await ids(ws, len(seen)) == seen
        assert sum(sim.faults.done.values()) == (3 if isinstance(fault, (Skip, Lose)) else 1)


async def test_skipped_trades_are_in_rest_and_lost_ones_are_not() -> None:
    async with manual_sim() as sim:
        sim.inject(Skip(BTC, 3, 5))
        sim.inject(Lose(BTC, 7, 1_500))
        await sim.emit(2_000)
        rows = await get(sim, "/api/v3/historicalTrades", symbol=BTC, fromId=1, limit=10)
        assert [row["id"] for row in rows] == [1, 2, 3, 4, 5, 6, 1_501, 1_502, 1_503, 1_504]
        aggregates = await get(sim, "/api/v3/aggTrades", symbol=BTC, fromId=1, limit=1_000)
        assert not any(row["f"] <= 1_500 and row["l"] >= 7 for row in aggregates)
        assert len(await get(sim, "/sim/trades", symbol=BTC, limit=5_000)) == 2_000


async def test_a_dropped_connection_ends_without_a_close_frame() -> None:
    async with (
        manual_sim("BTCUSDT", "ETHUSDT") as sim,
        listening(sim) as btc,
        listening(sim, "/ws/ethusdt@trade") as eth,
    ):
        sim.inject(Drop(BTC, at_id=4))
        await sim.emit(10, BTC)
        assert await ids(btc, 3) == [1, 2, 3]
        with pytest.raises(ConnectionClosed) as closed:
            await btc.recv()
        assert closed.value.rcvd is None
        await sim.emit(1, "ETHUSDT")
        assert await ids(eth, 1) == [1]
        sim.inject(Drop())
        with pytest.raises(ConnectionClosed):
            await eth.recv()
        async with listening(sim) as again:
            await sim.emit(1, BTC)
            assert await ids(again, 1) == [11]
        assert sim.faults.done["drop"] == 2


async def test_new_connections_are_refused_for_a_while() -> None:
    async with manual_sim() as sim:
        sim.inject(Refuse(seconds=0.3))
        with pytest.raises((InvalidHandshake, OSError, EOFError)):
            await websockets.connect(sim.ws_url + "/ws/btcusdt@trade")
        await get(sim, "/api/v3/ping")
        await asyncio.sleep(0.3)
        async with listening(sim) as ws:
            await sim.emit(1)
            assert await ids(ws, 1) == [1]


async def test_delayed_frames_keep_their_order() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        sim.inject(Delay(ms=200))
        began = time.monotonic()
        await sim.emit(5)
        sim.inject(Delay(ms=0))
        await sim.emit(5)
        assert await ids(ws, 10) == list(range(1, 11))
        assert 0.2 <= time.monotonic() - began < 2
        await sim.emit(1)
        assert await ids(ws, 1) == [11]


@pytest.mark.parametrize(
    ("flaw", "field", "value"),
    [
        ("nan", "p", "NaN"),
        ("negative", "p", "-1"),
        ("zero", "p", "0"),
        ("future", "T", YEAR_2100_MS),
        ("event", "e", "mystery"),
    ],
)
async def test_a_flaw_is_in_one_frame_and_only_there(flaw: Flaw, field: str, value: object) -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        sim.inject(Malformed(BTC, flaw, at_id=2))
        await sim.emit(3)
        frames = await receive(ws, 3)
        good = await get(sim, "/api/v3/historicalTrades", symbol=BTC, fromId=2, limit=1)
    assert [frame["t"] for frame in frames] == [1, 2, 3]
    assert frames[1][field] == value
    repaired = {**frames[1], "p": good[0]["price"], "T": good[0]["time"], "e": "trade"}
    assert {key for key in repaired if repaired[key] != frames[1][key]} == {field}


async def test_broken_json_in_the_next_frame() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        await sim.emit(1)
        sim.inject(Malformed(BTC, "json"))
        await sim.emit(2)
        assert await ids(ws, 1) == [1]
        with pytest.raises(json.JSONDecodeError):
            json.loads(await ws.recv())
        assert await ids(ws, 1) == [3]


@pytest.mark.parametrize("stream", [None, "btcusdt@trade"])
async def test_silence_loses_the_frames_and_answers_pings(stream: str | None) -> None:
    path = "/stream?streams=btcusdt@trade/ethusdt@trade"
    async with manual_sim("BTCUSDT", "ETHUSDT") as sim, listening(sim, path) as ws:
        sim.inject(Silence(seconds=0.3, stream=stream))
        await sim.emit(3, BTC)
        await sim.emit(1, "ETHUSDT")
        await (await ws.ping())
        await asyncio.sleep(0.3)
        await sim.emit(1, BTC)
        first = (await receive(ws, 1))[0]
        assert (first["stream"], first["data"]["t"]) == (
            ("btcusdt@trade", 4) if stream is None else ("ethusdt@trade", 1)
        )
        assert sim.faults.done["silence"] == (4 if stream is None else 3)


@pytest.mark.parametrize("status", [429, 418, 502])
async def test_rest_answers_with_errors_and_recovers(status: Any) -> None:
    async with manual_sim() as sim:
        sim.inject(RestStatus(status, count=2, retry_after_s=3))
        answers = [await ask(sim, "/api/v3/ping") for _ in range(3)]
        assert [code for code, _, _ in answers] == [status, status, 200]
        if status != 502:
            assert answers[0][1]["code"] == -1003
            assert answers[0][2]["Retry-After"] == "3"


async def test_rest_hangs() -> None:
    async with manual_sim() as sim:
        sim.inject(RestHang(seconds=0.4))
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as http:
                await http.get(sim.rest_url + "/api/v3/ping")
        assert await get(sim, "/api/v3/ping") == {}
        assert time.monotonic() - began >= 0.4


async def test_rest_lags_the_stream() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        await sim.emit_until(START_NS + 10 * NS_PER_S)
        sim.inject(RestLag(seconds=4))
        rows = await get(sim, "/api/v3/trades", symbol=BTC, limit=1_000)
        told = await receive(ws, sim.listings[BTC].last_id)
        limit_ms = START_NS // 1_000_000 + 6_000
        assert [row["id"] for row in rows] == [frame["t"] for frame in told if frame["T"] <= limit_ms]
        bars = await get(sim, "/api/v3/klines", symbol=BTC, interval="1m")
        assert sum(bar[8] for bar in bars) == len(rows)
        sim.inject(RestLag(seconds=0))
        assert (await get(sim, "/api/v3/trades", symbol=BTC, limit=1))[0]["id"] == told[-1]["t"]


async def test_nothing_is_traded_in_a_halt_and_no_id_is_lost() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        await sim.emit(10)
        halted_ns = sim.now_ns
        sim.inject(Halt(BTC, "BREAK"))
        assert (await get(sim, "/api/v3/exchangeInfo"))["symbols"][0]["status"] == "BREAK"
        sim.now_ns += 3_600 * NS_PER_S
        assert await sim.emit(5) == 0
        sim.inject(Halt(BTC, "TRADING"))
        assert await sim.emit(5) == 5
        frames = await receive(ws, 15)
        assert [frame["t"] for frame in frames] == list(range(1, 16))
        assert frames[9]["T"] * 1_000_000 <= halted_ns
        assert frames[10]["T"] * 1_000_000 >= halted_ns + 3_600 * NS_PER_S
        rows = await get(sim, "/api/v3/historicalTrades", symbol=BTC, fromId=1)
        assert [row["time"] for row in rows] == [frame["T"] for frame in frames]
        bars = await get(sim, "/api/v3/klines", symbol=BTC, interval="1m")
        assert [bars[0][8], bars[-1][8], sum(bar[8] for bar in bars)] == [10, 5, 15]


async def test_a_running_exchange_goes_on_after_a_halt() -> None:
    sim = SimExchange({BTC: GeneratedHistory(BTC, 7, 200.0, time.time_ns())})
    await sim.start()
    try:
        async with listening(sim) as ws:
            first = (await ids(ws, 1))[0]
            sim.inject(Halt(BTC))
            stopped_at = sim.listings[BTC].last_id
            await asyncio.sleep(0.3)
            assert sim.listings[BTC].last_id == stopped_at
            sim.inject(Halt(BTC, "TRADING"))
            resumed_ms = time.time_ns() // 1_000_000
            frames = await receive(ws, stopped_at + 50 - first)
            assert [frame["t"] for frame in frames] == list(range(first + 1, stopped_at + 51))
            assert all(frame["T"] >= resumed_ms for frame in frames if frame["t"] > stopped_at)
    finally:
        await sim.stop()


async def _post(sim: SimExchange, body: object) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.post(sim.rest_url + "/sim/fault", json=body) as reply:
        return reply.status, await reply.json()


async def test_faults_are_driven_from_another_process() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        assert await _post(sim, {"kind": "skip", "symbol": BTC, "first_id": 1, "last_id": 2}) == (200, {})
        await sim.emit(3)
        assert await ids(ws, 1) == [3]
        assert await _post(sim, {"kind": "cut_24h"}) == (200, {})
        assert (await receive(ws, 1))[0]["e"] == "serverShutdown"
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        await eventually(lambda: not sim.hub.connections)
        stats = await get(sim, "/sim/stats")
        assert stats["faults"] == {"skip": 2, "cut_24h": 1}
        assert (stats["connections"], stats["connections_open"], stats["frames"]) == (1, 0, 2)
        assert stats["symbols"] == {BTC: {"status": "TRADING", "first_id": 1, "last_id": 3}}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"kind": "explode"}, "explode"),
        ({"kind": "skip", "symbol": BTC, "first_id": 1, "last_id": 2, "why": 1}, "why"),
        ({"kind": "skip", "symbol": BTC}, "first_id"),
        ({"kind": "swap", "symbol": "NOSUCH", "trade_id": 1}, "NOSUCH"),
        ({"kind": "malformed", "symbol": BTC, "flaw": "odd"}, "odd"),
        ({"kind": "drop", "at_id": 4}, "symbol"),
        ([], "object"),
    ],
)
async def test_an_impossible_fault_is_named(body: object, named: str) -> None:
    async with manual_sim() as sim:
        status, reply = await _post(sim, body)
        assert status == 400
        assert named in reply["error"]
