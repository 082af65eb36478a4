"""Prove that rows and the events that told of them come together: neither is there without the other."""

# ruff: noqa: S608 - every name and number put into SQL here is one of our own

from __future__ import annotations

from collections.abc import Iterator

from market.rows import timeframe_text
from market.times import NS_PER_S
from storage.proof_sql import Check, announced_as_stored
from storage.schema import key_of

_LIVING = (("fair_value_gaps", "FVG_"), ("supply_demand_zones", "ZONE_"))
_FOUND = ("market_profile", "market_state", *(table for table, _ in _LIVING))
_EVENTS = "regexp_matches(event, '^(PROFILE_UPDATE|PHYSICS_UPDATE|FVG_|ZONE_)')"


def gaps() -> Iterator[Check]:
    """Compare data_gaps with what was announced of each when it opened and when it ended."""
    yield announced_as_stored("data_gaps", "DATA_GAP", join="FULL JOIN")
    yield Check(
        "data_gaps.gap_id counts 1, 2, 3 without hole or double",
        "SELECT count(*) FROM data_gaps",
        """
        SELECT gap_id AS key, 'follows ' || before AS fault
        FROM (SELECT gap_id, lag(gap_id, 1, 0) OVER (ORDER BY gap_id) AS before FROM data_gaps)
        WHERE gap_id <> before + 1
        """,
        key_is_time=False,
    )


def flow() -> Iterator[Check]:
    """Compare all minutes but the newest, which may be open and not announced yet, with their events."""
    yield announced_as_stored("order_flow", "ORDER_FLOW", join="RIGHT JOIN")
    yield Check(
        "ORDER_FLOW came for every minute of order_flow that is over",
        "SELECT greatest(count(*) - 1, 0) FROM order_flow",
        """
        SELECT epoch_ns(timestamp) AS key, 'never announced' AS fault FROM order_flow
        WHERE timestamp < (SELECT max(timestamp) FROM order_flow) AND epoch_ns(timestamp) NOT IN (
            SELECT epoch_ns((data->>'timestamp')::TIMESTAMP_NS) FROM events WHERE event = 'ORDER_FLOW'
        )
        """,
    )


def living(since_ns: int, timeframe_s: int) -> Iterator[Check]:
    for table, event in _LIVING:
        yield _living(table, event, since_ns, timeframe_s)


def _living(table: str, event: str, since_ns: int, timeframe_s: int) -> Check:
    """Expect what was announced, but for what bars made or restated later may have taken back.

    The rows of a timeframe's past from before it was configured are history, as its bars are.
    """
    name, key = timeframe_text(timeframe_s), key_of(table)
    return Check(
        f"{table} of {name} are those that were announced",
        f"SELECT count(*) FROM {table} WHERE timeframe = '{name}'",
        f"""
        WITH bars AS (
            SELECT seq, epoch_ns((data->>'timestamp')::TIMESTAMP_NS) AS ns FROM events
            WHERE event IN ('CANDLE_CLOSED', 'CANDLE_RESTATED') AND data->>'timeframe' = '{name}'
        ), said AS (
            SELECT data->>'{key}' AS id, max(seq) AS seq,
                max(epoch_ns((data->>'created_at')::TIMESTAMP_NS)) AS created
            FROM events WHERE starts_with(event, '{event}') AND data->>'timeframe' = '{name}' GROUP BY id
        ), stored AS (
            SELECT {key} AS id, epoch_ns(created_at) AS created FROM {table} WHERE timeframe = '{name}'
        ), lost AS (
            FROM said ANTI JOIN stored USING (id)
        ), untold AS (
            FROM stored ANTI JOIN said USING (id)
        )
        SELECT id AS key, 'not stored' AS fault FROM lost WHERE created > {since_ns}
            AND NOT EXISTS (FROM bars WHERE bars.seq > lost.seq AND bars.ns < lost.created)
        UNION ALL
        SELECT id, 'never announced' FROM untold
        WHERE created > {since_ns} AND created - {timeframe_s * NS_PER_S} IN (SELECT ns FROM bars)
        """,
        key_is_time=False,
    )


def parameters(*, known: bool) -> Check:
    """Without them nothing of this can be made again: then there must be nothing of it."""
    rows = " + ".join(f"(SELECT count(*) FROM {table})" for table in _FOUND)
    found = f"{rows} + (SELECT count(*) FROM events WHERE {_EVENTS})"
    return Check(
        "meta says how profiles, gaps, zones, states and flags were made",
        f"SELECT {rows}",
        f"SELECT 'analytics' AS key, 'meta does not say it' AS fault WHERE {not known} AND {found} > 0",
        key_is_time=False,
    )
