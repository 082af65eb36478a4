"""Integer nanoseconds since the epoch, and their text."""

from __future__ import annotations

from datetime import UTC, datetime

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
DAY_NS = 86_400 * NS_PER_S


def rfc3339(ts_ns: int) -> str:
    """Write a time as RFC 3339 with `Z` and as many decimals (0, 3, 6 or 9) as it needs."""
    seconds, fraction_ns = divmod(ts_ns, NS_PER_S)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not fraction_ns:
        return text + "Z"
    digits = f"{fraction_ns:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def floor_ns(ts_ns: int, width_ns: int) -> int:
    """Round a time down to a multiple of `width_ns`."""
    return ts_ns - ts_ns % width_ns
