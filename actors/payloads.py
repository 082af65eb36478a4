"""Rows as the JSON of their announcements: keys are the columns of the tables, times are text."""

from __future__ import annotations

from typing import Any

import orjson

from market.rows import Candle, GapRow, OrderFlow
from market.times import rfc3339

_COLUMNS = {
    "ts_ns": "timestamp",
    "from_ns": "from_time",
    "to_ns": "to_time",
    "detected_ns": "detected_at",
    "filled_ns": "filled_at",
}


def payload(row: Candle | OrderFlow | GapRow, **more: Any) -> bytes:
    """Write a row as JSON, with `more` keys after its own."""
    return orjson.dumps({_COLUMNS.get(k, k): _value(k, v) for k, v in row._asdict().items()} | more)


def _value(field: str, value: Any) -> Any:
    return rfc3339(value) if field in _COLUMNS and value is not None else value
