"""Times as venues write them in RFC 3339, to the nanosecond. Pure.

`datetime` holds microseconds, and Coinbase and Kraken write anything from none to nine digits.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from feeds.frames import cut
from market.errors import BadFrame
from market.times import NS_PER_S

_FORM = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00")


def to_ns(text: str) -> int:
    """Read a time in UTC, marked by `Z`, with up to nine digits of the second. Raises BadFrame."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadFrame(f"time {cut(text)}", b"")
    return _second(found[1]) * NS_PER_S + int((found[2] or "").ljust(9, "0"))


@lru_cache(maxsize=1_024)  # trades come many to the second
def _second(text: str) -> int:
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except ValueError as error:
        raise BadFrame(f"time {text}", b"") from error
    return since.days * 86_400 + since.seconds
