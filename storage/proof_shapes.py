"""Prove fair value gaps and zones from the bars that they were found in."""

# ruff: noqa: S608 - every name and number put into SQL here is one of our own

from __future__ import annotations

from market.rows import timeframe_text
from market.times import DAY_NS, NS_PER_S
from storage.proof_made import Made
from storage.proof_sql import Check, differences
from storage.schema import candles_table


def gaps(how: Made, timeframe_s: int) -> Check:
    """Find the gaps in the complete bars, and how far these reached into each within 24 h."""
    table, width_ns, name = candles_table(timeframe_s), timeframe_s * NS_PER_S, timeframe_text(timeframe_s)
    begin_ns = how.since_ns and how.since_ns + 3 * width_ns
    which = f"timeframe = '{name}' AND epoch_ns(created_at) > {begin_ns}"
    compared = ("gap_type", "top", "bottom", "created_at", "filled_pct", "status", "filled_at")
    return Check(
        f"fair_value_gaps of {name} are those of {table}, filled as far as its bars came",
        f"SELECT count(*) FROM fair_value_gaps WHERE {which}",
        f"""
        {_gaps_reached(how, timeframe_s, begin_ns)}
        ), ended AS (
            SELECT middle, sign, created, top, bottom, min(price) AS lowest, max(price) AS highest,
                min(reached_ns) FILTER (
                    CASE WHEN sign > 0 THEN price <= bottom ELSE price >= top END
                ) AS filled
            FROM reached GROUP BY ALL
        ), expected AS (
            SELECT concat('{name}:', replace(strftime(middle, '%Y-%m-%d %H:%M:%S'), ' ', 'T'), 'Z') AS bar,
                CASE WHEN sign > 0 THEN 'BULLISH' ELSE 'BEARISH' END AS gap_type, top, bottom,
                make_timestamp_ns(created) AS created_at,
                CASE WHEN sign > 0 THEN top - lowest ELSE highest - bottom END AS depth,
                CASE WHEN filled IS NOT NULL THEN 100.0
                    ELSE 100.0 * greatest(0, coalesce(depth, 0)) / (top - bottom) END AS filled_pct,
                CASE WHEN filled IS NOT NULL THEN 'FILLED'
                    WHEN created + {DAY_NS} <= (SELECT max(ns) + {width_ns} FROM bars) THEN 'EXPIRED'
                    WHEN depth > 0 THEN 'PARTIAL' ELSE 'OPEN' END AS status,
                make_timestamp_ns(filled) AS filled_at
            FROM ended
        )
        {
            differences(
                f"fair_value_gaps WHERE {which}",
                {n: "1e-9 * 100" if n == "filled_pct" else None for n in compared},
                f"{table} gives",
            )
        }
        """,
        key_is_time=False,
    )


def _gaps_reached(how: Made, timeframe_s: int, begin_ns: int) -> str:
    """Write the bars of a timeframe, the gaps in them, and the prices that came within 24 h of each."""
    table, width_ns = candles_table(timeframe_s), timeframe_s * NS_PER_S
    towards = "(closes > opens) = (sign > 0) AND closes <> opens"
    return f"""
    WITH bars AS (
        SELECT *, epoch_ns(timestamp) AS ns FROM {table} WHERE is_complete
    ), three AS (
        SELECT ns, low, high, lag(low, 2) OVER w AS first_low, lag(high, 2) OVER w AS first_high,
            lag(timestamp) OVER w AS middle, lag(open) OVER w AS opens, lag(close) OVER w AS closes,
            CASE WHEN low > first_high THEN 1 WHEN high < first_low THEN -1 END AS sign
        FROM bars WINDOW w AS (ORDER BY ns)
    ), opened AS (
        SELECT middle, sign, ns + {width_ns} AS created,
            CASE WHEN sign > 0 THEN low ELSE first_low END AS top,
            CASE WHEN sign > 0 THEN first_high ELSE high END AS bottom
        FROM three
        WHERE sign IS NOT NULL AND created > {begin_ns}
            AND ({towards if how.gaps.require_middle_direction else "true"})
    ), reached AS (
        SELECT o.*, b.ns + {width_ns} AS reached_ns,
            CASE WHEN sign > 0 THEN b.low ELSE b.high END AS price
        FROM opened o LEFT JOIN bars b ON b.ns >= o.created AND b.ns <= o.created + {DAY_NS - width_ns}
    """


def zones(how: Made, timeframe_s: int) -> Check:
    """See that zones were left by bars in their direction, and broken by the first close beyond."""
    table, width_ns, name = candles_table(timeframe_s), timeframe_s * NS_PER_S, timeframe_text(timeframe_s)
    return Check(
        f"supply_demand_zones of {name} were left by a bar, and broken by the first that closed beyond",
        f"SELECT count(*) FROM supply_demand_zones WHERE timeframe = '{name}'",
        f"""
        WITH bars AS (
            SELECT *, epoch_ns(timestamp) AS ns FROM {table} WHERE is_complete
        ), zones AS (
            SELECT *, epoch_ns(created_at) AS created, zone_type = 'DEMAND' AS demand FROM supply_demand_zones
            WHERE timeframe = '{name}' AND created > {how.since_ns}
        ), judged AS (
            SELECT z.*, any_value(i.ns) AS impulse, any_value((i.close > i.open) = demand) AS leaves,
                any_value(CASE WHEN demand THEN i.close > price_high ELSE i.close < price_low END) AS left_it,
                min(b.ns + {width_ns}) AS beyond
            FROM zones z LEFT JOIN bars i ON i.ns = created - {width_ns}
            LEFT JOIN bars b ON b.ns >= created
                AND CASE WHEN demand THEN b.close < price_low ELSE b.close > price_high END
            GROUP BY ALL
        )
        SELECT zone_id AS key, CASE
            WHEN impulse IS NULL THEN 'no bar left it'
            WHEN NOT leaves OR NOT left_it THEN 'its bar did not leave it'
            WHEN (price_low < price_high) IS NOT TRUE THEN 'it has no height'
            WHEN (strength BETWEEN 0 AND 1) IS NOT TRUE THEN concat('strength is ', strength)
            WHEN status NOT IN ('FRESH', 'TESTED', 'BROKEN') THEN concat('status is ', status)
            WHEN (status = 'BROKEN') <> (broken_at IS NOT NULL) THEN concat('broken at no time, but ', status)
            WHEN status <> 'BROKEN' AND (touches > 0) <> (status = 'TESTED') THEN concat(touches, ' touches')
            WHEN updated_at < created_at THEN 'updated before it was created'
            WHEN broken_at IS NOT NULL AND epoch_ns(broken_at) IS DISTINCT FROM beyond
                THEN concat('broken at ', broken_at, ', bars closed beyond at ', make_timestamp_ns(beyond))
            END AS fault
        FROM judged WHERE fault IS NOT NULL
        """,
        key_is_time=False,
    )
