from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.rfc3339 import to_ns
from market.errors import BadFrame
from market.times import rfc3339


@pytest.mark.parametrize(
    ("text", "ts_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2014-11-07T08:19:27.028459Z", 1_415_348_367_028_459_000),
        ("2026-08-09T21:05:48.228846629Z", 1_786_309_548_228_846_629),
        ("2026-08-09T21:05:48.5Z", 1_786_309_548_500_000_000),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
    ],
)
def test_any_number_of_digits_is_read(text: str, ts_ns: int) -> None:
    assert to_ns(text) == ts_ns


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 - only its digits are used
    st.text("0123456789", max_size=9),
)
def test_it_agrees_with_numpy(moment: datetime, digits: str) -> None:
    text = moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{digits}" if digits else "")
    assert to_ns(f"{text}Z") == int(np.datetime64(text, "ns").astype(np.int64))


@given(st.integers(0, 4 * 10**18))
def test_it_reads_what_is_written(ts_ns: int) -> None:
    assert to_ns(rfc3339(ts_ns)) == ts_ns
    assert (
        to_ns(datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        == ts_ns // 10**9 * 10**9
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-08-09",
        "2026-08-09T21:05:48",
        "2026-08-09 21:05:48Z",
        "2026-08-09T21:05:48z",
        "2026-08-09T21:05:48+00:00",
        "2026-08-09T21:05:48.Z",
        "2026-08-09T21:05:48.2288466290Z",
        "2026-08-09T21:05:48.1_0Z",
        "2026-08-09T21:05:48.٣Z",
        "٢٠٢٦-08-09T21:05:48Z",
        "2026-02-29T00:00:00Z",
        "2026-08-09T24:00:00Z",
        "2026-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        " 2026-08-09T21:05:48Z",
        "2026-08-09T21:05:48Z\n",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadFrame, match=r"^time "):
        to_ns(text)
