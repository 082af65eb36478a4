"""Recorded frames through one pair: CPU a tick in large batches, CPU a batch in small ones."""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.pipeline import Run, run
from benchmarks.recording import trade_frames

TICKS, BATCH = 400_000, 4_096
SMALL, SMALL_BATCHES, BATCHES_A_SECOND = (1, 3, 12), 4_000, 100
RUNS = 3  # the one that other work on the machine disturbed least counts


def measure_replay() -> list[Figure]:
    """Measure the path at full speed."""
    frames = trade_frames(TICKS)
    best = min((run(frames, BATCH) for _ in range(RUNS)), key=_cpu_s)
    return [
        Figure("CPU a tick", best.cpu_s / best.ticks * 1e6, "µs", goal=2.4),
        Figure("ticks a second", best.ticks / best.wall_s, "1/s", goal=400_000, at_least=True),
        *(Figure(f"  {step}", spent / best.ticks * 1e6, "µs") for step, spent in best.steps_s.items()),
    ]


def measure_batches() -> list[Figure]:
    """Measure what a batch of a few ticks costs, the hot file flushed once for every second of batches."""
    out: list[Figure] = []
    for size in SMALL:
        frames = trade_frames(size * SMALL_BATCHES)
        best = min((run(frames, size, BATCHES_A_SECOND) for _ in range(RUNS)), key=_cpu_s)
        out.append(Figure(f"CPU a batch of {size}", best.cpu_s / best.batches * 1e3, "ms", goal=0.6))
        out += [Figure(f"  {step}", spent / best.batches * 1e3, "ms") for step, spent in best.steps_s.items()]
    return out


def _cpu_s(one: Run) -> float:
    return one.cpu_s
