"""What a pair's process holds, beside an actor that does nothing."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import psutil

from benchmarks import rig
from benchmarks.bare import Bare
from benchmarks.figures import Figure
from benchmarks.rig import Plan
from daemon.ray_head import RayHead, attach, detach
from daemon.settings import RaySettings

PAIRS = 5
WORKING = Plan(PAIRS, rate=500.0)
ASLEEP = Plan(PAIRS, rate=0.05, timeframes=("1m", "5m", "15m"), past_s=3_600)
WARM_UP_S, IDLE_S = 30.0, 20.0
GOAL_MB = 75.0


def measure_memory() -> list[Figure]:
    """Measure memory at work, and the CPU of pairs whose market sleeps."""
    with rig.working(WORKING) as daemon:
        time.sleep(WARM_UP_S)
        used = {role: [rig.uss_mb(one) for one in them] for role, them in daemon.roles().items()}
    with rig.working(ASLEEP) as daemon:
        time.sleep(WARM_UP_S)
        idle_ms = _cpu_ms(daemon.roles()["pairs"])
    bare_mb, bare_ms = _bare()
    return [
        Figure("a pair's process", median(used.pop("pairs")), "MB", GOAL_MB),
        Figure("a bare actor", bare_mb, "MB"),
        *(Figure(f"{role}, {len(them)} process(es)", sum(them), "MB") for role, them in used.items()),
        Figure("CPU of an idle pair", idle_ms, "ms/s"),
        Figure("CPU of a bare actor", bare_ms, "ms/s"),
    ]


def _bare() -> tuple[float, float]:
    with rig.folder() as run_dir:
        head = RayHead(run_dir, RaySettings(), PAIRS)
        head.start()
        attach(head.address, head.environment)
        import ray  # noqa: PLC0415 - after attach, which sets its environment

        try:
            bare: Any = ray.remote(num_cpus=0)(Bare)
            actors = [bare.remote() for _ in range(PAIRS)]  # several: pages that they share are nobody's
            processes = [psutil.Process(pid) for pid in ray.get([actor.pid.remote() for actor in actors])]
            return median(map(rig.uss_mb, processes)), _cpu_ms(processes)
        finally:
            detach()
            head.stop()


def _cpu_ms(processes: list[psutil.Process]) -> float:
    """Measure CPU milliseconds a second of one of them."""
    before_s = rig.cpu_s(processes)
    time.sleep(IDLE_S)
    return (rig.cpu_s(processes) - before_s) / IDLE_S / len(processes) * 1e3
