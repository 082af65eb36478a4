"""Recorded market data: small files in tests/data, large ones beside the checkout."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from market.ticks import TICK, Ticks

HERE = Path(__file__).parent / "data"
_BESIDE = Path(__file__).parents[1] / "../shared/data"
_SIDES = {"buy": 1, "sell": -1}


def beside(name: str) -> Path:
    """Find a large recording; without it the test is skipped, in CI it fails."""
    path = _BESIDE / name
    if not path.exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)(f"{name} is not beside the checkout")
    return path


def table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as lines:
        return list(csv.DictReader(lines))


def trades(path: Path) -> Ticks:
    return np.array(
        [
            (
                int(row["trade_id"]),
                int(row["ts_event_ns"]),
                float(row["price"]),
                float(row["size"]),
                int(row["ts_recv_ns"] or 0),
                _SIDES[row["side"]],
            )
            for row in table(path)
        ],
        TICK,
    )


def frames(path: Path) -> tuple[list[bytes], list[int]]:
    """Read lines `receive time, blank, message`."""
    with gzip.open(path) as lines:
        pairs = [line.rstrip(b"\n").split(b" ", 1) for line in lines]
    return [raw for _, raw in pairs], [int(at) for at, _ in pairs]
