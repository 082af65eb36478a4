"""Journals whose records tell their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np

from market.inputs import Input, TickBatch
from market.ticks import TICK
from storage.journal import Journal, read, segments


def batch(number: int, size: int = 3) -> TickBatch:
    """Make ticks that tell the record they belong to."""
    out = np.zeros(size, TICK)
    out["trade_id"] = out["ts_ns"] = number * 100 + np.arange(size)
    return TickBatch(out)


def plain(item: Input) -> tuple[object, ...]:
    """Make an input comparable: ticks by their bytes."""
    values = [getattr(item, f.name) for f in fields(item)]
    return type(item), *(v.tobytes() if isinstance(v, np.ndarray) else v for v in values)


@contextmanager
def begun(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder, sync=False)
    journal.rotate(-1, b"state 0")
    try:
        yield journal
    finally:
        journal.close()


def fill(journal: Journal, records: int, rotate_after: tuple[int, ...] = ()) -> None:
    for _ in range(records):
        number = journal.append([batch(journal.number + 1)])
        if number in rotate_after:
            journal.rotate(number * 100, b"state %d" % number)


def numbers(folder: Path) -> list[int]:
    return [record.number for record in read(segments(folder))]
