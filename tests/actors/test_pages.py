"""Pages from pairs to a store: in order, each once acknowledged, whatever is cut between them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors.lane_frames import Page, PageHello, encode
from actors.page_client import WINDOW_PAGES, PageClient
from actors.page_service import Delivery, PageService
from market.errors import Fatal, MarketdError, Retryable
from tests.support import eventually

PAGE = 10


class Shelf:
    """Keeps the numbers it is given, in the order in which it is given them; refuses while `fault` is set."""

    def __init__(self) -> None:
        self.kept: dict[str, list[int]] = {}
        self.fault: MarketdError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.pings = 0

    def prepare(self) -> None:
        if self.fault:
            raise self.fault

    def write(self, deliveries: Sequence[Delivery]) -> int:
        self.gate.wait(20)
        self.prepare()
        rows = 0
        for hello, page in deliveries:
            numbers = list(range(page.after_seq + 1, page.last_seq + 1))
            assert list(page.body) == [number % 256 for number in numbers]
            self.kept.setdefault(hello.symbol, []).extend(numbers)
            rows += len(numbers)
        return rows

    def ping(self) -> None:
        self.pings += 1
        self.prepare()

    def status(self) -> dict[str, Any]:
        return {"pings": self.pings}

    def close(self) -> None:
        self.gate.set()


class Pair:
    """A record of `newest` rows in memory, and its client."""

    def __init__(self, path: Path, symbol: str = "s", cursor: int = 0) -> None:
        self.symbol, self.cursor, self.newest, self.reads = symbol, cursor, 0, 0
        self.lane = PageClient(path, self._hello, cursor, self._read, self._acked)

    def _hello(self, acked: int) -> PageHello:
        return PageHello(f"x:spot:{self.symbol}", self.symbol, "ticks", self.newest, acked)

    async def _read(self, after: int) -> tuple[int, bytes]:
        self.reads += 1
        await asyncio.sleep(0)
        last = min(after + PAGE, self.newest)
        return last, bytes(number % 256 for number in range(after + 1, last + 1))

    def _acked(self, seq: int) -> None:
        assert seq > self.cursor
        self.cursor = seq

    def grow(self, count: int) -> None:
        self.newest += count
        self.lane.grown(self.newest)


@asynccontextmanager
async def running(*them: PageClient | PageService) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run()) for one in them]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lanes" / "pages.sock"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def acknowledged(*pairs: Pair) -> None:
    await eventually(lambda: all(pair.cursor == pair.newest for pair in pairs))


async def test_what_was_there_and_what_comes(path: Path, shelf: Shelf) -> None:
    pairs = [Pair(path, symbol) for symbol in "abc"]
    for pair in pairs:
        pair.grow(25)
    service = PageService("shelf", path, shelf)
    async with running(service, *(pair.lane for pair in pairs)):
        for _ in range(20):
            for pair in pairs:
                pair.grow(7)
            await asyncio.sleep(0)
        await acknowledged(*pairs)
        assert service.status() | {"pings": 0} == {
            "ok": True, "reached": True, "error": "", "lanes": 3, "waiting": 0, "rows": 3 * 165, "pings": 0,
        }  # fmt: skip
    assert shelf.kept == {symbol: list(range(1, 166)) for symbol in "abc"}


async def test_a_supervisor_that_is_not_there_yet_is_starting(path: Path, shelf: Shelf) -> None:
    pair = Pair(path)
    pair.grow(7)
    async with running(pair.lane):
        await eventually(lambda: pair.lane.error == "starting")
        async with running(PageService("shelf", path, shelf)):
            await acknowledged(pair)
            assert not pair.lane.error


async def test_a_restarted_pair_goes_on_at_its_cursor(path: Path, shelf: Shelf) -> None:
    pair = Pair(path, cursor=40)
    pair.grow(100)
    async with running(PageService("shelf", path, shelf), pair.lane):
        await acknowledged(pair)
    assert shelf.kept["s"] == list(range(41, 101))


@pytest.mark.parametrize("fault", [Retryable("it is down"), Fatal("its table has another column")])
async def test_a_store_that_refuses_costs_lag_and_no_memory(
    path: Path, shelf: Shelf, fault: MarketdError
) -> None:
    pair = Pair(path)
    service = PageService("shelf", path, shelf)
    with capture_logs() as logs:
        async with running(service, pair.lane):
            pair.grow(10)
            await acknowledged(pair)
            shelf.fault = fault
            pair.grow(1_000)
            await eventually(lambda: service.status()["error"] == str(fault))
            await eventually(lambda: service.status()["waiting"] == WINDOW_PAGES)
            assert pair.reads <= 1 + WINDOW_PAGES
            assert pair.cursor == 10
            assert service.status()["reached"] is isinstance(fault, Fatal)
            shelf.fault = None
            await acknowledged(pair)
            assert service.status()["ok"]
    assert shelf.kept["s"] == list(range(1, 1_011))
    assert [one["event"] for one in logs if one["event"].startswith("store")] == [
        "store_ready", "store_lost", "store_ready",
    ]  # fmt: skip


async def test_a_supervisor_that_is_killed_has_taken_nothing_it_did_not_write(
    path: Path, shelf: Shelf
) -> None:
    pair = Pair(path)
    pair.grow(200)
    async with running(pair.lane):
        for _ in range(5):
            async with running(PageService("shelf", path, shelf)):
                pair.grow(30)
                await eventually(lambda: pair.cursor > 0)
        async with running(PageService("shelf", path, shelf)):
            await acknowledged(pair)
    kept = shelf.kept["s"]
    assert sorted(set(kept)) == list(range(1, pair.newest + 1))  # some again, none left out


async def test_a_pair_that_restarts_takes_the_place_of_its_former_self(path: Path, shelf: Shelf) -> None:
    shelf.gate.clear()
    first, second = Pair(path), Pair(path)
    service = PageService("shelf", path, shelf)
    async with running(service, first.lane):
        first.grow(30)
        await eventually(lambda: service.status()["waiting"])
        second.newest = 50
        async with running(second.lane):
            await eventually(lambda: second.lane.connected)
            shelf.gate.set()
            await eventually(lambda: second.cursor == 50)


@pytest.mark.parametrize(
    "frames",
    [
        [Page(1, 0, 1, b"\x01")],
        [PageHello("p", "p", "ticks", 1, 0), PageHello("p", "p", "ticks", 1, 0)],
        [PageHello("p", "p", "ticks", 9, 0), Page(1, 5, 9, bytes(4))],
        [PageHello("p", "p", "ticks", 9, 0), Page(1, 0, 0, b"")],
    ],
)
async def test_what_no_pair_would_say_ends_the_lane(
    path: Path, shelf: Shelf, frames: list[Page | PageHello]
) -> None:
    service = PageService("shelf", path, shelf)
    async with running(service):
        await eventually(path.exists)
        with socket.socket(socket.AF_UNIX) as client, capture_logs() as logs:
            client.connect(str(path))
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, b"".join(map(encode, frames)))
            while await loop.sock_recv(client, 4096):
                pass
            assert "lane_bad_frame" in [one["event"] for one in logs]
        await eventually(lambda: service.status()["lanes"] == 0)
    assert shelf.kept == {}
