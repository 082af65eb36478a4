"""Recordings in the text form of cryptofeed: `<epoch seconds>: <message>`, and lines on what was asked."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

NS = 1_000_000_000


def frames(path: Path) -> tuple[list[bytes], list[int]]:
    """Read what was received, and when."""
    with gzip.open(path) as lines:
        told = [line.rstrip(b"\n").split(b": ", 1) for line in lines if not line.startswith(b"wss:")]
    return [raw for _, raw in told], [int(Decimal(at.decode()) * NS) for at, _ in told]
