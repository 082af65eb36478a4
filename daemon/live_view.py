"""The live table: what the actors say of themselves, and what a subscriber of Redis sees."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import orjson
import redis.asyncio
import redis.exceptions
from rich.console import Console
from rich.live import Live

from actors.latency import Latencies
from daemon import stores, table
from daemon.service import Service
from daemon.table import PairRow

REFRESH_S = 1.0
WARM_UP_S = 30.0  # the given seconds begin when all pairs have trades, or after so long
ARRIVALS = 4_096


class Subscriber:
    """Note when each event arrives; at most ARRIVALS are waiting to be matched with their cause."""

    def __init__(self) -> None:
        self.latencies: dict[str, Latencies] = {}
        self._arrived: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def run(self, url: str) -> None:
        """Listen like any program of a user's, and again after a loss."""
        while True:
            with contextlib.suppress(
                redis.exceptions.RedisError, OSError
            ):  # the table shows that nothing comes
                await self._listen(url)
            await asyncio.sleep(0.5)

    async def _listen(self, url: str) -> None:
        async with redis.asyncio.from_url(url) as client, client.pubsub() as pubsub:
            await pubsub.subscribe("state_update")
            async for message in pubsub.listen():
                if message["type"] == "message":
                    event = orjson.loads(message["data"])
                    self._arrived[event["symbol"], event["seq"]] = time.time_ns()
                    while len(self._arrived) > ARRIVALS:
                        self._arrived.popitem(last=False)

    def match(self, report: dict[str, Any]) -> tuple[float, float] | None:
        """Measure the events whose causes the pair remembers; return p50 and p99 in milliseconds."""
        kept = self.latencies.setdefault(report["pair"], Latencies())
        for seq, received_ns in report.get("recent", ()):
            arrived_ns = self._arrived.pop((report["alias"], seq), 0)
            if arrived_ns and received_ns:
                kept.add(arrived_ns - received_ns)
        return kept.percentiles_ms()


class LiveView:
    """Refresh the table every second; lines instead where the output is no terminal."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began_s = 0.0
        self._ticks: dict[str, tuple[float, int]] = {}
        self._subscriber = Subscriber()

    async def show(self, service: Service) -> None:
        """Draw until cancelled, or for the given seconds."""
        self._began_s = time.monotonic() + WARM_UP_S
        listening = asyncio.create_task(self._subscriber.run(service.node.redis_url))
        try:
            await self._draw(service)
        finally:
            listening.cancel()

    async def _draw(self, service: Service) -> None:
        console = Console()
        if not console.is_terminal:
            while not self._is_over(service):
                await asyncio.sleep(REFRESH_S)
                told = [table.line(row) for row in self._rows(service)]
                sys.stdout.write("".join(f"{one}\n" for one in [*told, *stores.lines(service.status())]))
                sys.stdout.flush()
            return
        with Live(console=console, auto_refresh=False) as live:
            while not self._is_over(service):
                below = stores.lines(service.status())
                live.update(table.render(self._rows(service), console.width, below), refresh=True)
                await asyncio.sleep(REFRESH_S)

    def _is_over(self, service: Service) -> bool:
        now_s = time.monotonic()
        if now_s < self._began_s and all(report.get("ticks") for report in service.reports()):
            self._began_s = now_s
        return self._seconds is not None and now_s > self._began_s + self._seconds

    def _rows(self, service: Service) -> list[PairRow]:
        return [self._row(report) for report in service.reports()]

    def _row(self, report: dict[str, Any]) -> PairRow:
        seen = self._subscriber.match(report) or (None, None)
        return replace(
            table.row(report),
            ticks_per_s=self._speed(report["pair"], report.get("ticks", 0)),
            subscriber_p50_ms=seen[0],
            subscriber_p99_ms=seen[1],
        )

    def _speed(self, pair: str, ticks: int) -> float:
        now_s = time.monotonic()
        before_s, before = self._ticks.get(pair, (now_s, ticks))
        self._ticks[pair] = now_s, ticks
        return (ticks - before) / (now_s - before_s) if now_s > before_s else 0.0
