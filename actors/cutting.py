"""Inputs cut into journal records, so that none makes more rows than memory should hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from market.inputs import Clock, Input, Position, TickBatch
from market.times import NS_PER_S

SILENCE_BARS = 1_000  # of the shortest timeframe, closed in one go
SILENCE_STEPS = 4_096  # of the market state


def silence_ns(timeframes_s: Sequence[int], step_ns: int) -> int:
    """Say how much time one record may cross."""
    return min(SILENCE_BARS * min(timeframes_s) * NS_PER_S, SILENCE_STEPS * step_ns)


def cut(inputs: Sequence[Input], longest_ns: int) -> Iterator[list[Input]]:
    """Cut behind every clock and run of ticks, and where ticks would cross too much time."""
    record: list[Input] = []
    for item in inputs:
        *done, record = spread(record, _runs(item, longest_ns) if isinstance(item, TickBatch) else [item])
        yield from done
        if isinstance(item, TickBatch | Clock):
            yield record
            record = []
    if record:
        yield record


def spread(before: Sequence[Input], parts: Sequence[Input]) -> list[list[Input]]:
    """Make a record of each part; what stands before goes with the first, a Position with the last."""
    records: list[list[Input]] = [[part] for part in parts]
    records[0][:0] = [item for item in before if len(parts) == 1 or not isinstance(item, Position)]
    if len(parts) > 1:
        records[-1][:0] = [item for item in before if isinstance(item, Position)]
    return records


def parted(batch: TickBatch, at: int) -> list[TickBatch]:
    """Cut a batch behind its first `at` ticks."""
    if not 0 < at < len(batch.ticks):
        return [batch]
    return [_part(batch, 0, at), _part(batch, at, len(batch.ticks))]


def _runs(batch: TickBatch, longest_ns: int) -> list[TickBatch]:
    ts_ns = np.maximum.accumulate(batch.ticks["ts_ns"])
    bounds = [0]
    while int(ts_ns[-1] - ts_ns[bounds[-1]]) > longest_ns:
        bounds.append(int(np.searchsorted(ts_ns, ts_ns[bounds[-1]] + longest_ns, "right")))
    ends = [*bounds[1:], len(ts_ns)]
    return [_part(batch, a, b) for a, b in zip(bounds, ends, strict=True)] if len(ends) > 1 else [batch]


def _part(batch: TickBatch, start: int, stop: int) -> TickBatch:
    return TickBatch(batch.ticks[start:stop], ids=batch.ids[start:stop])
