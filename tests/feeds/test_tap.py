"""A tap on a simulated venue: frames as they came, over cuts and handovers, and what REST says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from feeds import okx
from feeds.binance_spot import VENUE
from feeds.live import Address
from feeds.recording_format import Kept
from feeds.sim.exchange import SimExchange
from feeds.sim.faults import Cut24h, Drop, Silence
from feeds.tap import Tap
from market.errors import UsageError
from tests.feeds.sim_support import manual_sim
from tests.support import eventually

BTC = "BTCUSDT"


class Listener:
    """Take what a tap hands out, as a recorder does."""

    def __init__(self, sim: SimExchange, symbol: str = BTC, stale_after_s: float = 30.0) -> None:
        self.tap = Tap(VENUE, Address(sim.ws_url, sim.rest_url), symbol, stale_after_s)
        self.kept: list[Kept] = []

    @property
    def ids(self) -> list[int]:
        bodies = [json.loads(one.frame) for one in self.kept if one.connection]
        return [body["t"] for body in bodies if body.get("e") == "trade"]

    @property
    def rest(self) -> list[Kept]:
        return [one for one in self.kept if not one.connection and one.path]

    async def run(self) -> None:
        while True:
            self.kept += self.tap.take(time.time_ns())
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (listener.tap.run(), listener.run())]
    try:
        await eventually(lambda: listener.tap.subscribed and listener.rest)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_frames_are_handed_out_as_they_came() -> None:
    async with manual_sim() as sim:
        listener = Listener(sim)
        async with listening(listener):
            await sim.emit(50)
            await eventually(lambda: len(listener.ids) == 50)
    assert listener.ids == list(range(1, 51))
    assert listener.kept[0][1:] == (0, "", b'{"tap": "began", "symbol": "BTCUSDT"}')
    assert {(one.connection, one.path) for one in listener.kept if one.connection} == {(1, "/ws")}
    times = [one.received_ns for one in listener.kept if one.connection]
    assert times == sorted(times)
    assert abs(times[-1] - time.time_ns()) < 60e9
    (listing,) = listener.rest
    assert listing.path == VENUE.listing(BTC).path
    assert VENUE.parse_listing(listing.frame, BTC).trading


async def test_a_cut_connection_is_made_anew_and_counted() -> None:
    async with manual_sim() as sim:
        listener = Listener(sim)
        async with listening(listener):
            await sim.emit(5)
            await eventually(lambda: len(listener.ids) == 5)
            sim.inject(Drop())
            await eventually(lambda: listener.tap.opened == 2 and listener.tap.subscribed)
            await sim.emit(5)
            await eventually(lambda: len(listener.ids) == 10)
        assert "connection lost" in listener.tap.last_error
    assert {one.connection for one in listener.kept} == {0, 1, 2}


async def test_a_socket_that_falls_silent_is_given_up() -> None:
    async with manual_sim() as sim:
        listener = Listener(sim, stale_after_s=0.3)
        async with listening(listener):
            sim.inject(Silence(seconds=60.0))
            await eventually(lambda: listener.tap.opened > 1)


async def test_a_connection_that_will_end_is_succeeded_first() -> None:
    async with manual_sim() as sim:
        listener = Listener(sim)
        async with listening(listener):
            sim.inject(Cut24h(warn_s=20.0))
            await eventually(lambda: listener.tap.opened == 2 and listener.tap.subscribed)
            await sim.emit(3)
            await eventually(lambda: len(listener.ids) >= 3)
    assert set(listener.ids) == {1, 2, 3}


async def test_contracts_are_not_heard_before_their_size_is_known() -> None:
    async with manual_sim() as sim:
        tap = Tap(okx.FUTURES, Address(sim.ws_url, sim.rest_url), "BTC-USDT-SWAP", 30.0)
        running = asyncio.create_task(tap.run())
        await eventually(lambda: "HTTP 404" in tap.last_error)
        assert [one.path for one in tap.take(1)] == [""]
        assert tap.opened == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_symbol_that_is_not_listed_is_said() -> None:
    async with manual_sim() as sim:
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(Listener(sim, "NOPE").tap.run(), 10)
        assert caught.group_contains(UsageError, match="does not list NOPE")
