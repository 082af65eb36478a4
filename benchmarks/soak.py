"""A long run under load, to see whether any process grows."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np

from benchmarks import rig
from benchmarks.figures import Figure
from benchmarks.rig import Plan

PAIRS, RATE = 10, 5_000.0
EVERY_S = 5.0


def measure_soak(seconds: float) -> list[Figure]:
    """Watch memory for so long; the first third, in which everything fills, does not count."""
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with rig.working(Plan(PAIRS, RATE)) as daemon:
        roles = daemon.roles()
        start_s = time.monotonic()
        stored = _ticks(daemon.pairs())
        while (at_s := time.monotonic() - start_s) < seconds:
            for role, them in roles.items():
                seen[role].append((at_s, sum(map(rig.uss_mb, them)) / len(them)))
            time.sleep(EVERY_S)
        stored = _ticks(daemon.pairs()) - stored
    out = [Figure("ticks stored a second", stored / seconds, "1/s")]
    for role, samples in seen.items():
        name = f"{role}, mean of {len(roles[role])}"
        out.append(Figure(f"{name}: at the end", samples[-1][1], "MB"))
        out.append(Figure(f"{name}: growth", _slope(samples[len(samples) // 3 :]) * 600, "MB/10 min"))
    return out


def _ticks(reports: list[dict[str, int]]) -> int:
    return sum(report["ticks"] for report in reports)


def _slope(samples: list[tuple[float, float]]) -> float:
    """Fit a line by least squares; 0 for too few samples."""
    at_s, mb = np.array(samples).T
    return float(np.polyfit(at_s, mb, 1)[0]) if len(samples) > 2 else 0.0
