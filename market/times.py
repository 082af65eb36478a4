"""Integer nanoseconds since the epoch, and their text."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
DAY_NS = 86_400 * NS_PER_S


def rfc3339(ts_ns: int) -> str:
    """Write a time as RFC 3339 with `Z` and as many decimals (0, 3, 6 or 9) as it needs."""
    minute, rest_ns = divmod(ts_ns, 60 * NS_PER_S)
    second, fraction_ns = divmod(rest_ns, NS_PER_S)
    if not fraction_ns:
        return f"{_minute(minute)}{second:02d}Z"
    digits = f"{fraction_ns:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{_minute(minute)}{second:02d}.{digits}Z"


@lru_cache(maxsize=1_024)
def _minute(minute: int) -> str:
    """Write all but the seconds, which most often differ alone."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def floor_ns(ts_ns: int, width_ns: int) -> int:
    """Round a time down to a multiple of `width_ns`."""
    return ts_ns - ts_ns % width_ns
