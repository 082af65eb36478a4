"""Rows as the JSON of their announcements: keys are the columns of the tables, times are text."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import orjson

from market.times import rfc3339

_COLUMNS = {
    "ts_ns": "timestamp",
    "session_start_ns": "session_start",
    "from_ns": "from_time",
    "to_ns": "to_time",
    "detected_ns": "detected_at",
    "created_ns": "created_at",
    "updated_ns": "updated_at",
    "broken_ns": "broken_at",
    "filled_ns": "filled_at",
}


class _Shape(NamedTuple):
    keys: tuple[str, ...]
    times: tuple[str, ...]  # which of them


def payload(row: Any, **more: Any) -> bytes:
    """Write a row of a table, a named tuple, as JSON, with `more` keys after its own."""
    kind: Any = type(row)
    keys, times = _shape(kind)
    told = dict(zip(keys, row, strict=True))
    for key in times:
        if told[key] is not None:
            told[key] = rfc3339(told[key])
    return orjson.dumps(told | more if more else told)


@cache
def _shape(kind: Any) -> _Shape:
    fields = kind._fields
    times = tuple(_COLUMNS[field] for field in fields if field in _COLUMNS)
    return _Shape(tuple(_COLUMNS.get(field, field) for field in fields), times)
