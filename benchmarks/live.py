"""Pairs live: how long after a frame its candle is with a subscriber, and what every process costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks import rig
from benchmarks.figures import Figure
from benchmarks.rig import ALL_STORES, Daemon, Plan
from market.times import NS_PER_MS, NS_PER_S
from storage.embedded_redis import EmbeddedRedis

PAIRS, RATE = 20, 2_000.0
MANY, MANY_RATE = 100, 5_000.0  # 100 pairs take 8 GB
GATHERINGS_MS = (2, 5, 20)
WARM_UP_S = 5.0
GOALS_MS = {50: 2.0, 99: 12.0}
MANY_GOALS_MS = {99: 50.0}
_TICKS = "SELECT epoch_ns(timestamp), epoch_ns(received_at) FROM ticks ORDER BY timestamp, seq"

Heard = list[tuple[int, bytes]]
"""When a message arrived (ns), and the message."""


def measure_live(seconds: float) -> Iterator[Figure]:
    """Measure some pairs and many, with each gathering time; some with every store; a script without any."""
    for gather_ms in GATHERINGS_MS:
        name = f"{PAIRS} pairs, gather_ms {gather_ms}"
        yield from _daemon(name, Plan(PAIRS, RATE, gather_ms), seconds, GOALS_MS if gather_ms <= 5 else {})
    yield from _daemon(f"{PAIRS} pairs, all stores", Plan(PAIRS, RATE, stores=ALL_STORES), seconds, GOALS_MS)
    yield from _percentiles("a script, no disk, no analytics", _script(Plan(PAIRS, RATE), seconds), {})
    for gather_ms in GATHERINGS_MS:
        yield from _daemon(f"{MANY} pairs, gather_ms {gather_ms}", _many(gather_ms), seconds, MANY_GOALS_MS)


def _many(gather_ms: int) -> Plan:
    return Plan(MANY, MANY_RATE, gather_ms)


def _daemon(name: str, plan: Plan, seconds: float, goals: dict[int, float]) -> list[Figure]:
    heard: Heard = []
    with rig.working(plan) as daemon:
        time.sleep(WARM_UP_S)
        roles, first = daemon.roles(), {one["pair"]: one for one in daemon.pairs()}
        with listening(daemon.redis_url, "state_update", heard):
            before = {role: rig.cpu_s(them) for role, them in roles.items()}
            time.sleep(seconds)
            spent = {role: rig.cpu_s(them) - before[role] for role, them in roles.items()}
        last = {one["pair"]: one for one in daemon.pairs()}
        delays = _delays_ns(daemon, plan, heard)
    ticks = sum(one["ticks"] - first[pair]["ticks"] for pair, one in last.items())
    return [
        *_percentiles(name, delays, goals),
        Figure(f"  {name}: ticks stored a second", ticks / seconds, "1/s"),
        Figure(f"  {name}: pairs that fell", sum(_fell(first[pair], last[pair]) for pair in first), "", 0),
        *(Figure(f"  {name}: CPU of {role}", cpu / seconds * 1e3, "ms/s") for role, cpu in spent.items()),
    ]


def _fell(was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether a pair restarted, lost its connection, or missed trades for good."""
    return any(was[name] != now[name] for name in ("pid", "connects", "gaps")) or now["state"] != "streaming"


def _script(plan: Plan, seconds: float) -> npt.NDArray[np.int64]:
    heard: Heard = []
    with rig.exchange(plan) as urls, rig.folder() as folder:
        server = EmbeddedRedis(folder)
        url = server.start()
        try:
            with rig.child("-m", "benchmarks.script", urls["ws_url"], url, ",".join(plan.symbols)):
                time.sleep(WARM_UP_S)
                with listening(url, "script", heard):
                    time.sleep(seconds)
        finally:
            server.stop()
    return np.array([at_ns - orjson.loads(data)["received_ns"] for at_ns, data in heard])


@contextmanager
def listening(url: str, channel: str, heard: Heard) -> Iterator[None]:
    """Listen in a process of its own as long as the block lasts; then fill `heard`."""
    with rig.child("-m", "benchmarks.subscriber", url, channel, elsewhere=True) as process:
        rig.line(process)
        yield
        process.terminate()
        told, _ = process.communicate()
    for line in told.splitlines():
        at_ns, _, data = line.partition(b" ")
        heard.append((int(at_ns), data))


def _delays_ns(daemon: Daemon, plan: Plan, heard: Heard) -> npt.NDArray[np.int64]:
    """Match each candle to the trade that closed it: the first at or after its end."""
    ticks = {key: daemon.query(key, _TICKS) for key in plan.keys}
    delays: list[int] = []
    for at_ns, data in heard:
        message = orjson.loads(data)
        if message["event"] != "CANDLE_CLOSED" or message["data"]["timeframe"] != "1s":
            continue
        times, received = ticks[message["symbol"]]
        end_ns = _ns(message["data"]["timestamp"]) + NS_PER_S
        delays.append(at_ns - int(received[np.searchsorted(times, end_ns)]))
    return np.array(delays)


def _ns(text: str) -> int:
    """Read the time of a one-second bar, a whole second."""
    return int(datetime.fromisoformat(text).timestamp()) * NS_PER_S


def _percentiles(name: str, delays: npt.NDArray[np.int64], goals: dict[int, float]) -> list[Figure]:
    out = [
        Figure(
            f"{name}: frame to subscriber, p{p}",
            float(np.percentile(delays, p)) / NS_PER_MS,
            "ms",
            goals.get(p),
        )
        for p in (50, 99)
    ]
    return [*out, Figure(f"  {name}: candles measured", len(delays), "")]
