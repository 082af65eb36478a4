"""Twenty pairs live: how long after a frame its candle is with a subscriber, and what every process costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks import rig
from benchmarks.figures import Figure
from benchmarks.rig import ALL_STORES, Daemon, Plan
from market.times import NS_PER_MS, NS_PER_S
from storage.embedded_redis import EmbeddedRedis

PAIRS, RATE = 20, 2_000.0
WARM_UP_S = 5.0
GOALS_MS = {50: 2.0, 99: 12.0}
_TICKS = "SELECT epoch_ns(timestamp), epoch_ns(received_at) FROM ticks ORDER BY timestamp, seq"

Heard = list[tuple[int, bytes]]
"""When a message arrived (ns), and the message."""


def measure_live(seconds: float) -> list[Figure]:
    """Measure with two gathering times, with every store and a sweep each 10 s, and a script without any."""
    out: list[Figure] = []
    for gather_ms in (5, 2):
        out += _daemon(f"gather_ms {gather_ms}", Plan(PAIRS, RATE, gather_ms), seconds)
    out += _daemon("all stores", Plan(PAIRS, RATE, stores=ALL_STORES), seconds)
    return out + _percentiles("a script, no disk, no analytics", _script(Plan(PAIRS, RATE), seconds), {})


def _daemon(name: str, plan: Plan, seconds: float) -> list[Figure]:
    heard: Heard = []
    with rig.working(plan) as daemon:
        time.sleep(WARM_UP_S)
        roles = daemon.roles()
        with listening(daemon.redis_url, "state_update", heard):
            before = {role: rig.cpu_s(them) for role, them in roles.items()}
            time.sleep(seconds)
            spent = {role: rig.cpu_s(them) - before[role] for role, them in roles.items()}
        delays = _delays_ns(daemon, plan, heard)
    return [
        *_percentiles(name, delays, GOALS_MS),
        *(Figure(f"  {name}: CPU of {role}", cpu / seconds * 1e3, "ms/s") for role, cpu in spent.items()),
    ]


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
    with rig.child("-m", "benchmarks.subscriber", url, channel) as process:
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
