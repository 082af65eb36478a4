"""What a claim about a pair's record is made of, in SQL."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from storage.schema import TIME, columns, key_of

_IN_JSON = {TIME: "VARCHAR"}


class Ids(NamedTuple):
    """What the ids of a pair's trades are: text from tick `texts_from` on (0: none is)."""

    contiguous: bool
    texts_from: int

    @property
    def order(self) -> str:
        """Write what orders trades of the same time: the venue's integer, or the order of arrival."""
        if not self.texts_from:
            return "trade_id::BIGINT"
        return f"CASE WHEN seq >= {self.texts_from} THEN seq ELSE TRY_CAST(trade_id AS BIGINT) END"


class Check(NamedTuple):
    """`faults` selects `key` (a number, or the start of a bar in ns) and `fault`, `compared` a count."""

    text: str
    compared: str
    faults: str
    key_is_time: bool = True


def announced_as_stored(
    rows: str, event: str, which: str = "", *, compared: Sequence[str] = (), join: str = "JOIN"
) -> Check:
    """Compare each stored row, or columns of it, with its latest announcement.

    A `join` other than JOIN says that rows (LEFT), announcements (RIGHT) or both (FULL) must have the other.
    `rows` is a table, with a WHERE clause for some of its rows.
    """
    table = rows.partition(" ")[0]
    key, kinds = key_of(table), dict(columns(table))
    fields = {name: _IN_JSON.get(kind, kind) for name, kind in kinds.items()}
    shape = ", ".join(f'"{name}": "{sql_type}"' for name, sql_type in fields.items())
    typed = ", ".join(f"{name}::{kind} AS {name}" for name, kind in kinds.items())
    wanted = compared or [name for name in kinds if name != key]
    return Check(
        f"{table} is what its latest events said{f': {event}' if compared else ''}",
        f"SELECT count(*) FROM events WHERE starts_with(event, '{event}') {which}",
        f"""
        WITH said AS (
            SELECT seq, from_json(data, '{{{shape}}}') AS row FROM events
            WHERE starts_with(event, '{event}') {which}
        ), latest AS (
            SELECT unnest(arg_max(row, seq)) FROM said GROUP BY row.{key}
        ), expected AS (
            SELECT {typed}, {_key(table)} AS bar FROM latest
        )
        {differences(rows, dict.fromkeys(wanted), "announced as", join=join)}
        """,
        key_is_time=key == "timestamp",
    )


def differences(
    rows: str, compared: Mapping[str, str | None], origin: str, *, join: str = "FULL JOIN", also: str = ""
) -> str:
    """Join stored rows with `expected` and name what differs, by more than 1e-9 of a column's scale.

    `rows` is a table, with a WHERE clause for some of its rows.
    """
    table = rows.partition(" ")[0]
    cases = " ".join(
        f"WHEN ({_same(name, scale)}) IS NOT TRUE "
        f"THEN concat('{name} is ', {_shown('s', name)}, ', {origin} ', {_shown('e', name)})"
        for name, scale in compared.items()
    )
    return f"""
    SELECT * FROM (
        SELECT coalesce(s.bar, e.bar) AS key, CASE
            WHEN s.bar IS NULL THEN 'not stored' WHEN e.bar IS NULL THEN 'stored without reason'
            WHEN s.copies > 1 THEN 'stored twice' {also} {cases} END AS fault
        FROM (
            SELECT *, {_key(table)} AS bar, count(*) OVER (PARTITION BY {key_of(table)}) AS copies
            FROM {rows}
        ) s
        {join} expected e ON s.bar = e.bar
    ) WHERE fault IS NOT NULL
    """


def _key(table: str) -> str:
    """Write what tells rows apart: a number, so that faults can be put in order, or a name."""
    key = key_of(table)
    return f"epoch_ns({key}::{TIME})" if key == "timestamp" else key


def _shown(side: str, name: str) -> str:
    return f"coalesce({side}.{name}::VARCHAR, 'NULL')"


def _same(name: str, scale: str | None) -> str:
    exactly = f"s.{name} IS NOT DISTINCT FROM e.{name}"
    return exactly if scale is None else f"{exactly} OR abs(s.{name} - e.{name}) <= 1e-9 * ({scale})"
