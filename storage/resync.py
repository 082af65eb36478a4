"""Where in a pair's record a store that has lost rows must begin again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from market.rows import Row
from market.streams import TICKS
from storage.reads import seen

_SQL = {
    True: "SELECT min(seq) FROM ticks WHERE timestamp >= make_timestamp_ns(?)",
    False: """
        SELECT min(seq) FROM events
        WHERE starts_with(event, 'CANDLE') AND (data->>'timestamp')::TIMESTAMP_NS >= make_timestamp_ns(?)
        """,
}


def place(
    cursor: duckdb.DuckDBPyConnection, open_rows: Mapping[str, Sequence[Row]], stream: str, from_ns: int
) -> int | None:
    """Find the number before the first row of a stream since `from_ns`; None where there is no such row.

    `cursor` is one of `reads.begin`; hot rows and archived ones are looked at.
    """

    def first() -> int | None:
        ((seq,),) = cursor.execute(_SQL[stream == TICKS], [from_ns]).fetchall()
        return None if seq is None else int(seq) - 1

    return seen(cursor, open_rows, first, "resync")
