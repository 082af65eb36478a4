"""A daemon to which everything happens, in an order made from a seed, and what its record must be after."""

from __future__ import annotations

import asyncio
import csv
import math
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from tests.daemon.support import Daemon, Exchange, announced, called, complete, key
from tests.support import eventually

PAIRS = ("one pair", "one pair", "all pairs")
SERVERS = ("signal", "retention", "health", "redis", "raylet", "gcs_server", "daemon")
VENUE = (
    "drop",
    "skip",
    "swap",
    "duplicate",
    "malformed",
    "rest_status",
    "rest_lag",
    "delay",
    "silence",
    "refuse",
)
TABLES = (
    *("candles_1s", "candles_5s", "candles_1m", "order_flow", "market_profile", "market_state"),
    *("fair_value_gaps", "supply_demand_zones"),
)
FAULTY_TRADES = 250  # 40 a second: by then no fault that was asked for is still to come
UP_S = 180.0  # a busy machine starts a daemon in a minute or two
LIVING = {
    "fair_value_gaps": ("gap_id", "gap_type", "top", "bottom", "created_at"),
    "supply_demand_zones": ("zone_id", "zone_type", "price_low", "price_high", "created_at"),
}
UNSAID = {"revision", "seq", "received_at"}
HOT_S = """
[questdb]
enabled = false
[embeddings]
enabled = false
[retention]
sweep_s = 4
ticks_s = 15
quotes_s = 15
order_flow_s = 70
events_s = 15
candles_1m_s = 15
candles_s = 15
"""


def with_tick_size(made: Daemon) -> None:
    """Say the tick size, so that nobody has to be asked or to guess."""
    path = made.folder / "config.toml"
    path.write_text(path.read_text().replace("symbols =", "tick_size = 0.01\nsymbols ="))


class FaultRun:
    """Let faults happen to a daemon; `done` counts them."""

    def __init__(self, seed: int, made: Daemon, venue: Exchange) -> None:
        self.done: Counter[str] = Counter()
        self._rng, self._made, self._venue = random.Random(seed), made, venue

    async def suffer(self, count: int) -> None:
        for _ in range(count):
            fault = self._rng.choice([*PAIRS, *SERVERS, *VENUE, *VENUE])
            if fault in VENUE:
                self._ask_venue(fault)
            else:
                await self._kill(fault)
            self.done[fault] += 1
            await asyncio.sleep(self._rng.uniform(0.1, 2.0))

    def _ask_venue(self, fault: str) -> None:
        rng, symbol = self._rng, self._rng.choice(self._made.symbols)
        at = self._venue.last_ids()[symbol] + rng.randint(5, 60)
        fields: dict[str, dict[str, Any]] = {
            "drop": {"symbol": symbol},
            "skip": {"symbol": symbol, "first_id": at, "last_id": at + rng.randint(0, 30)},
            "swap": {"symbol": symbol, "trade_id": at},
            "duplicate": {"symbol": symbol, "trade_id": at},
            "malformed": {"symbol": symbol, "flaw": rng.choice(["json", "nan", "negative", "future"])},
            "rest_status": {"status": rng.choice([429, 502]), "count": rng.randint(1, 4)},
            "rest_lag": {"seconds": rng.choice([0.0, 0.5, 2.0])},
            "delay": {"ms": rng.choice([0.0, 50.0, 400.0])},
            "silence": {"seconds": rng.uniform(0.5, 4.0)},
            "refuse": {"seconds": rng.uniform(0.2, 2.0)},
        }
        self._venue.fault(fault, **fields[fault])

    async def _kill(self, whom: str) -> None:
        if whom == "daemon":
            os.kill(self._made.pid, signal.SIGKILL)
            await self._made.ended()
            await self.up()
            return
        for pid in await self._victims(whom):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def _victims(self, whom: str) -> list[int]:
        names = {"redis": ("valkey-server", "redis-server")}.get(whom, (whom,))
        if whom in PAIRS:
            pids = [one["pid"] for one in (await self._made.pairs()).values() if one.get("pid")]
            return pids if whom == "all pairs" else pids[:1] and [self._rng.choice(pids)]
        if whom in {"signal", "retention", "health"}:
            one = (await self._made.status()).get("supervisors", {}).get(whom, {})
            return [one["pid"]] if one.get("pid") else []
        return [one.pid for one in called(self._made.pid, *names)]

    async def up(self) -> None:
        """Wait until every pair streams; a daemon that has ended is started again, as systemd does."""

        async def begun() -> object:
            if not self._made.running:
                self._made.start()
            return await self._made.pairs()

        await eventually(begun, UP_S)
        await self._made.streaming(timeout_s=UP_S)

    async def recover(self) -> None:
        """End what goes on, and wait until every pair has all that was traded while faults could happen."""
        self._venue.fault("rest_lag", seconds=0.0)
        self._venue.fault("delay", ms=0.0)
        await self.up()
        ends = {symbol: last + FAULTY_TRADES for symbol, last in self._venue.last_ids().items()}

        async def filled() -> object:
            pairs = await self._made.pairs()
            return pairs and all(_has(pairs[symbol], end) for symbol, end in ends.items())

        await eventually(filled, UP_S)

    async def check(self, url: str, other: Daemon) -> None:
        """End the daemon; compare with the venue, and with a replay of it into a folder of its own."""
        made = self._made
        for symbol in made.symbols:
            await announced(made, url, symbol)
        await made.stop(signal.SIGTERM)
        for symbol in made.symbols:
            await complete(made, self._venue, symbol)
            sql = "SELECT min(trade_id::BIGINT) AS first, max(trade_id::BIGINT) AS last FROM ticks"
            (ids,) = await made.query(symbol, sql)
            path = other.folder / f"{symbol}.csv"
            write(path, [t for t in self._venue.trades(symbol, ids["first"]) if t[0] <= ids["last"]])
            ended = await other.ask("replay", str(path), "--pair", key(symbol))
            assert ended.returncode == 0, ended.stderr
            for table in TABLES:
                assert_same(table, await rows(made, symbol, table), await rows(other, symbol, table))


def _has(pair: dict[str, Any], trade_id: int) -> bool:
    return pair.get("gaps_open") == 0 and (pair.get("last_trade_id") or 0) >= trade_id


def write(path: Path, trades: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["trade_id", "price", "size", "side", "ts_event_ns"])
        out.writerows([i, repr(price), repr(size), side, ts_ns] for i, price, size, side, ts_ns in trades)


async def rows(made: Daemon, symbol: str, table: str) -> list[dict[str, Any]]:
    found = await made.query(symbol, f"FROM {table} ORDER BY ALL")
    return [{name: value for name, value in row.items() if name not in UNSAID} for row in found]


def assert_same(table: str, lived: list[dict[str, Any]], ordered: list[dict[str, Any]]) -> None:
    """Compare what began before both end: a pair that lives closes its last bars by the clock.

    How such a bar filled a gap or broke a zone is for `marketd verify` to judge.
    """
    by = "created_at" if table in LIVING else "timestamp"
    end = min(max((row[by] for row in part), default="") for part in (lived, ordered))
    mine, theirs = ([row for row in part if row[by] < end] for part in (lived, ordered))
    assert len(mine) == len(theirs), table
    for a, b in zip(mine, theirs, strict=True):
        names = LIVING.get(table, tuple(a))
        assert all(_near(a[name], b[name]) for name in names), (table, a, b)


def _near(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    return bool(a == b)
