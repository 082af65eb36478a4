"""Which trade ids a pair's record holds, hot and archived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb

from market.rows import Row
from storage.reads import seen

_KNOWN = """
SELECT DISTINCT trade_id FROM ticks WHERE trade_id IN (SELECT unnest($ids::VARCHAR[]))
    AND timestamp BETWEEN make_timestamp_ns($since_ns) AND make_timestamp_ns($until_ns)
"""
_HOLES = """
WITH here AS (
    SELECT DISTINCT TRY_CAST(trade_id AS BIGINT) AS id FROM ticks WHERE id BETWEEN $first AND $last
    UNION ALL VALUES ($first - 1), ($last + 1)
)
SELECT before + 1, id - 1 FROM (SELECT id, lag(id) OVER (ORDER BY id) AS before FROM here)
WHERE id > before + 1 ORDER BY id
"""

Opened = Mapping[str, Sequence[Row]]


def known(
    cursor: duckdb.DuckDBPyConnection, opened: Opened, ids: Sequence[str], since_ns: int, until_ns: int
) -> set[str]:
    """Say which of `ids` are those of trades between two times; `cursor` is one of `reads.begin`."""
    asked = {"ids": list(ids), "since_ns": since_ns, "until_ns": until_ns}

    def read() -> set[str]:
        return {name for (name,) in cursor.execute(_KNOWN, asked).fetchall()}

    return seen(cursor, opened, read, "look-up", named_in="ticks")


def holes(
    cursor: duckdb.DuckDBPyConnection, opened: Opened, gaps: Iterable[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """Say what lacks of each gap (first, last): its first id, and from where to where."""

    def read() -> list[tuple[int, int, int]]:
        return [
            (first, *hole)
            for first, last in gaps
            for hole in cursor.execute(_HOLES, {"first": first, "last": last}).fetchall()
        ]

    return seen(cursor, opened, read, "look-up", named_in="ticks")
