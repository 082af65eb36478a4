from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import websockets
from websockets.asyncio.client import ClientConnection

from feeds.sim.connection import Limits
from feeds.sim.exchange import SimExchange
from feeds.sim.history import GeneratedHistory
from market.times import NS_PER_S

START_NS = 1_700_000_000 * NS_PER_S


@asynccontextmanager
async def manual_sim(
    *symbols: str, rate: float = 50.0, limits: Limits | None = None, start_ns: int = START_NS
) -> AsyncIterator[SimExchange]:
    """Run an exchange in which nothing happens by itself."""
    histories = {s: GeneratedHistory(s, 7, rate, start_ns) for s in symbols or ("BTCUSDT",)}
    sim = SimExchange(histories, auto=False, limits=limits)
    await sim.start()
    try:
        yield sim
    finally:
        await sim.stop()


@asynccontextmanager
async def listening(
    sim: SimExchange, path: str = "/ws/btcusdt@trade", **options: Any
) -> AsyncIterator[ClientConnection]:
    """Connect, and wait until the exchange has taken note."""
    before = sim.stats["connections"]
    options.setdefault("max_queue", None)  # read on, else closing waits for what a test left unread
    async with websockets.connect(sim.ws_url + path, compression=None, **options) as ws:
        pong = await ws.ping()
        await pong
        assert sim.stats["connections"] == before + 1
        yield ws


async def receive(ws: ClientConnection, count: int) -> list[Any]:
    return [orjson.loads(await ws.recv()) for _ in range(count)]


async def ids(ws: ClientConnection, count: int) -> list[int]:
    return [frame["t"] for frame in await receive(ws, count)]


async def get(sim: SimExchange, path: str, **params: object) -> Any:
    """Fetch JSON that must be there."""
    status, body, _ = await ask(sim, path, **params)
    assert status == 200, body
    return body


async def ask(sim: SimExchange, path: str, **params: object) -> tuple[int, Any, dict[str, str]]:
    query = {name: str(value) for name, value in params.items()}
    async with aiohttp.ClientSession() as http, http.get(sim.rest_url + path, params=query) as reply:
        return (
            reply.status,
            await reply.json(content_type=None) if reply.status != 502 else None,
            dict(reply.headers),
        )
