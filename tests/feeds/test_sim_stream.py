from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from feeds.sim.connection import Limits
from feeds.sim.control import Session
from feeds.sim.exchange import SimExchange
from feeds.sim.history import GeneratedHistory
from feeds.sim.wire import text_frame
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.sim_support import START_NS, get, ids, listening, manual_sim, receive
from tests.support import eventually


async def test_a_trade_has_the_documented_shape() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        await sim.emit(1)
        text = str(await ws.recv())
        (trade,) = GeneratedHistory("BTCUSDT", 7, 50.0, START_NS).trades(1, 1)
        ts_ms = trade.ts_ns // NS_PER_MS
        maker = "true" if trade.buyer_is_maker else "false"
        assert text == (
            f'{{"e":"trade","E":{ts_ms},"s":"BTCUSDT","t":1,"p":"{trade.price}","q":"{trade.size}",'
            f'"T":{ts_ms},"m":{maker},"M":true}}'
        )


async def test_a_combined_stream_wraps_each_kind() -> None:
    async with (
        manual_sim() as sim,
        listening(sim, "/stream?streams=btcusdt@trade/btcusdt@aggTrade/btcusdt@bookTicker") as ws,
    ):
        await sim.emit(500)
        await sim.cut_24h()
        *frames, _ = [json.loads(frame) async for frame in ws]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for frame in frames:
        assert list(frame) == ["stream", "data"]
        kinds.setdefault(frame["stream"], []).append(frame["data"])
    trades, aggregates = kinds["btcusdt@trade"], kinds["btcusdt@aggTrade"]
    assert list(trades[0]) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
    assert list(aggregates[0]) == ["e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M"]
    assert list(kinds["btcusdt@bookTicker"][0]) == ["u", "s", "b", "B", "a", "A"]
    assert [row["t"] for row in trades] == list(range(1, 501))
    assert [row["a"] for row in aggregates] == list(range(1, len(aggregates) + 1))
    assert all(b["f"] == a["l"] + 1 for a, b in pairwise(aggregates))
    assert all(float(row["b"]) < float(row["a"]) for row in kinds["btcusdt@bookTicker"])


async def test_quotes_come_at_most_every_50_ms() -> None:
    async with manual_sim(rate=5_000.0) as sim, listening(sim, "/ws/btcusdt@bookTicker") as ws:
        emitted = await sim.emit_until(START_NS + 2 * NS_PER_S)
        assert emitted == pytest.approx(10_000, rel=0.02)
        await sim.cut_24h()
        quotes = [frame async for frame in ws]
    assert 10 < len(quotes) <= 42


async def test_requests_are_answered_as_documented() -> None:
    limits = Limits(messages_per_s=100)
    async with manual_sim("BTCUSDT", "ETHUSDT", limits=limits) as sim, listening(sim, "/ws") as ws:

        async def ask(text: str) -> Any:
            await ws.send(text)
            return json.loads(await ws.recv())

        async def request(**fields: Any) -> Any:
            return await ask(json.dumps(fields))

        streams = ["btcusdt@trade", "ethusdt@trade"]
        assert await request(method="SUBSCRIBE", params=streams, id=1) == {"result": None, "id": 1}
        assert await request(method="LIST_SUBSCRIPTIONS", id="a3") == {"result": streams, "id": "a3"}
        assert await request(method="UNSUBSCRIBE", params=streams[:1], id=312) == {
            "result": None,
            "id": 312,
        }
        await sim.emit(3, "BTCUSDT")
        await sim.emit(1, "ETHUSDT")
        assert (await receive(ws, 1))[0]["s"] == "ETHUSDT"
        assert await request(method="SET_PROPERTY", params=["combined", True], id=5) == {
            "result": None,
            "id": 5,
        }
        assert await request(method="GET_PROPERTY", params=["combined"], id=2) == {
            "result": True,
            "id": 2,
        }
        await sim.emit(1, "ETHUSDT")
        assert (await receive(ws, 1))[0]["stream"] == "ethusdt@trade"
        assert await request(method="SUBSCRIBE", params=["nosuch@trade"], id=None) == {
            "result": None,
            "id": None,
        }
        assert (await ask("{"))["code"] == 3
        assert (await request(method="BUY", id=1))["code"] == 2


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (
            '{"method":"SET_PROPERTY","params":["x",true],"id":4}',
            {"code": 0, "msg": "Unknown property", "id": 4},
        ),
        (
            '{"method":"SET_PROPERTY","params":["combined",1],"id":4}',
            {"code": 1, "msg": "Invalid value type: expected Boolean"},
        ),
        (
            '{"method":"SET_PROPERTY","params":["combined",true,1],"id":4}',
            {"code": 2, "msg": "Invalid request: too many parameters"},
        ),
        (
            '{"method":"SUBSCRIBE","params":[],"id":1.5}',
            {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"},
        ),
        ('{"id":1}', {"code": 2, "msg": "Invalid request: missing field `method` at line 1 column 8"}),
    ],
)
def test_bad_requests_get_the_documented_error(text: str, reply: dict[str, Any]) -> None:
    assert Session(combined=False).answer(text) == reply


@settings(max_examples=40)
@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_request_breaks_a_session(text: str) -> None:
    assert Session(combined=False).answer(text).keys() >= {"code", "msg"}


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_carry_their_length(size: int) -> None:
    frame = text_frame("x" * size)
    header = {0: 2, 125: 2, 126: 4, 65_535: 4, 65_536: 10}[size]
    assert frame[0] == 0x81
    assert len(frame) == header + size


async def test_pings_are_answered_and_a_mute_client_is_cut() -> None:
    limits = Limits(ping_interval_s=0.05, pong_timeout_s=0.3, messages_per_s=1_000)
    async with manual_sim(limits=limits) as sim, listening(sim) as ws:
        await asyncio.sleep(0.6)
        await sim.emit(1)
        assert await ids(ws, 1) == [1]  # the library answers pings: still connected
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.ws_url.rsplit(":", 1)[1]))
        writer.write(
            b"GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert sim.stats["pong_timeouts"] == 1


async def test_more_than_five_messages_a_second_disconnect() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        for number in range(6):  # the ping of `listening` was the first
            await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        assert [reply["id"] for reply in await receive(ws, 4)] == [0, 1, 2, 3]
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1008


async def test_more_than_1024_streams_disconnect() -> None:
    async with manual_sim() as sim, listening(sim, "/ws") as ws:
        for count in (1_024, 1_025):
            await ws.send(
                json.dumps({"method": "SUBSCRIBE", "params": [f"s{i}@trade" for i in range(count)], "id": 1})
            )
            assert await receive(ws, 1) == [{"result": None, "id": 1}]
        with pytest.raises(ConnectionClosed):
            await ws.recv()


async def test_rest_and_stream_tell_the_same() -> None:
    async with manual_sim(rate=2_000.0) as sim, listening(sim) as ws:
        await sim.emit(700)
        frames = await receive(ws, 700)
        rows = await get(sim, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=1, limit=1_000)
        assert [(f["t"], f["p"], f["q"], f["T"], f["m"]) for f in frames] == [
            (r["id"], r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in rows
        ]
        assert rows == await get(sim, "/sim/trades", symbol="BTCUSDT", limit=50_000)


async def test_trades_come_when_their_time_has_come() -> None:
    start_ns = time.time_ns() - 10 * NS_PER_S
    sim = SimExchange({"BTCUSDT": GeneratedHistory("BTCUSDT", 7, 400.0, start_ns)})
    await sim.start()
    try:
        async with listening(sim) as ws:
            late_ms = []
            first = None
            for _ in range(300):
                frame = json.loads(await ws.recv())
                first = first or frame["t"]
                late_ms.append(time.time_ns() / NS_PER_MS - frame["T"])
                assert frame["T"] <= frame["E"]
            assert first == pytest.approx(4_000, rel=0.2)
            assert frame["t"] == first + 299
        assert min(late_ms) >= 0
        assert sorted(late_ms)[150] < 25
        newest = (await get(sim, "/api/v3/trades", symbol="BTCUSDT", limit=1))[0]
        assert newest["time"] <= time.time_ns() // NS_PER_MS
    finally:
        await sim.stop()


async def test_a_restarted_exchange_has_the_same_history() -> None:
    async with manual_sim() as sim:
        await sim.emit(50)
        before = await get(sim, "/sim/trades", symbol="BTCUSDT")
    async with manual_sim() as sim:
        await sim.emit(80)
        assert (await get(sim, "/sim/trades", symbol="BTCUSDT"))[:50] == before


async def test_it_stops_like_a_killed_process_and_comes_back_on_its_port() -> None:
    async with manual_sim() as sim, listening(sim) as ws:
        port = int(sim.ws_url.rsplit(":", 1)[1])
        await sim.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is None
        await sim.start(port=port)
        async with listening(sim) as again:
            await sim.emit(1)
            assert await ids(again, 1) == [1]


async def test_the_day_s_cut_is_announced() -> None:
    async with (
        manual_sim() as sim,
        listening(sim) as raw,
        listening(sim, "/stream?streams=btcusdt@trade") as wrapped,
    ):
        await sim.cut_24h()
        event = {"e": "serverShutdown", "E": sim.now_ns // NS_PER_MS}
        assert await receive(raw, 1) == [event]
        assert await receive(wrapped, 1) == [{"stream": "!serverShutdown", "data": event}]
        with pytest.raises(ConnectionClosed) as closed:
            await raw.recv()
        assert closed.value.rcvd is not None  # a close frame came
        await eventually(lambda: not sim.hub.connections)


async def test_a_client_that_does_not_read_is_aborted() -> None:
    limits = Limits(write_buffer_bytes=256 * 1024)
    async with manual_sim(rate=5_000.0, limits=limits) as sim, listening(sim, max_queue=1) as ws:
        await sim.emit(40_000)
        assert sim.stats["slow_clients"] == 1
        with pytest.raises(ConnectionClosed):
            async for _ in ws:
                pass
