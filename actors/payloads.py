"""Rows as the JSON of their announcements: keys are the columns of the tables, times are text."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from market.times import NS_PER_S, rfc3339

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
_MINUTE_NS = 60 * NS_PER_S


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
            told[key] = _text(told[key])
    return orjson.dumps(told | more if more else told)


@cache
def _shape(kind: Any) -> _Shape:
    fields = kind._fields
    times = tuple(_COLUMNS[field] for field in fields if field in _COLUMNS)
    return _Shape(tuple(_COLUMNS.get(field, field) for field in fields), times)


def _text(ts_ns: int) -> str:
    """Write a time as `rfc3339` does; whole seconds, which all but a few are, at a fifth of the cost."""
    minute, rest_ns = divmod(ts_ns, _MINUTE_NS)
    second, fraction_ns = divmod(rest_ns, NS_PER_S)
    return rfc3339(ts_ns) if fraction_ns else f"{_minute(minute)}{second:02d}Z"


@lru_cache(maxsize=1_024)
def _minute(minute: int) -> str:
    return rfc3339(minute * _MINUTE_NS)[:-3]
