"""Prove what is found in trades and bars, by other means: profile, gaps, zones, market state and flags.

It is proven since the parameters are as they are, and since nothing came late from before the journal's
beginning: that makes bars again, but not what remembers more. Where a formula has a memory without end, or
costs too much for every row, the last rows are recomputed.
"""

# ruff: noqa: S608 - every name and number put into SQL here is one of our own

from __future__ import annotations

from collections.abc import Iterator, Sequence

from market.times import DAY_NS, NS_PER_S
from storage import proof_shapes, proof_told
from storage.proof_made import Made
from storage.proof_sql import Check, Ids, announced_as_stored, differences

FLAGGED = 2_000
"""So many of the last ticks are judged anew."""

_MINUTE_NS = 60 * NS_PER_S


def checks(how: Made, timeframes_s: Sequence[int], ids: Ids) -> Iterator[Check]:
    yield _profile_totals(how)
    yield _profile_areas(how)
    yield announced_as_stored("market_profile", "PROFILE_UPDATE", join="FULL JOIN")
    for timeframe_s in timeframes_s:
        if not how.gaps.min_gap_ticks and not how.gaps.min_gap_atr:
            yield proof_shapes.gaps(how, timeframe_s)
        yield proof_shapes.zones(how, timeframe_s)
        yield from proof_told.living(how.since_ns, timeframe_s)
    opened = ("gap_type", "top", "bottom", "created_at")
    yield announced_as_stored("fair_value_gaps", "FVG_OPENED", compared=opened)
    filled = "fair_value_gaps WHERE status = 'FILLED'"
    yield announced_as_stored(filled, "FVG_FILLED", compared=("status", "filled_at"))
    yield announced_as_stored("supply_demand_zones", "ZONE_")
    yield _steps(how)
    yield _labels(how)
    yield _latest_state(how)
    yield announced_as_stored("market_state", "PHYSICS_UPDATE", join="FULL JOIN")
    yield _flags(how, ids)


def _profile_totals(how: Made) -> Check:
    """Expect a row at the end of each minute with trades that is over."""
    return Check(
        "market_profile has a row for every minute with trades, with the volume of its session up to then",
        "SELECT count(*) FROM market_profile",
        f"""
        WITH minutes AS (
            SELECT epoch_ns(timestamp) // {_MINUTE_NS} * {_MINUTE_NS} AS minute, sum(volume) AS volume
            FROM ticks GROUP BY minute
        ), expected AS (
            SELECT minute + {_MINUTE_NS} AS bar, make_timestamp_ns(minute // {DAY_NS} * {
            DAY_NS
        }) AS session_start,
                sum(volume) OVER (PARTITION BY minute // {DAY_NS} ORDER BY minute) AS total_volume
            FROM minutes
            WHERE minute < (SELECT max(epoch_ns(timestamp)) FROM order_flow)
                AND minute // {DAY_NS} * {DAY_NS} >= {how.since_ns}
                AND EXISTS (FROM meta WHERE key = 'tick_size')
        )
        {
            differences(
                f"market_profile WHERE epoch_ns(session_start) >= {how.since_ns}",
                {"session_start": None, "total_volume": "e.total_volume"},
                "ticks give",
            )
        }
        """,
    )


def _profile_areas(how: Made) -> Check:
    """Recompute the last row of each session; sums in whole units decide which rows are equal."""
    share = how.profile.va_share
    return Check(
        "the last market_profile of each session has its poc and value area where ticks say",
        "SELECT count(*) FROM market_profile",
        f"""
        WITH last AS (
            SELECT session_start, arg_max(market_profile, timestamp) AS row FROM market_profile
            WHERE epoch_ns(session_start) >= {how.since_ns} GROUP BY session_start
        ), rows AS (
            SELECT l.row, floor(t.price / l.row.bin_size + 1e-6)::BIGINT AS j, sum(t.volume) AS v
            FROM last l JOIN ticks t
                ON t.timestamp >= l.row.session_start AND t.timestamp < l.row.timestamp
            GROUP BY ALL
        ), scaled AS (
            SELECT *, pow(10, least(greatest(8, 12 - digits), 15 - digits)) AS scale,
                min(j) OVER session AS low, max(j) OVER session AS high, max(v) OVER session AS most
            FROM (SELECT *, ceil(log10(sum(v) OVER (PARTITION BY row))) AS digits FROM rows)
            WINDOW session AS (PARTITION BY row)
        ), found AS (
            SELECT row, arg_min(j, (abs(2 * j - low - high), j)) FILTER (v > most - 0.5 / scale) AS poc,
                coalesce(sum(v) FILTER (j BETWEEN round(row.value_area_low / row.bin_size)
                    AND round(row.value_area_high / row.bin_size)), 0) / sum(v) AS share
            FROM scaled GROUP BY row
        )
        SELECT epoch_ns(row.timestamp) AS key, CASE
            WHEN round(row.poc / row.bin_size) <> poc
                THEN concat('poc is ', row.poc, ', ticks give row ', poc)
            WHEN share < {share} - 1e-9 THEN concat('the value area holds ', share) END AS fault
        FROM found WHERE fault IS NOT NULL
        UNION ALL
        SELECT epoch_ns(timestamp), 'value_area_low, poc, value_area_high are not in order'
        FROM market_profile WHERE (value_area_low <= poc AND poc <= value_area_high) IS NOT TRUE
        """,
    )


def _steps(how: Made) -> Check:
    """Expect the first after the first trade, and the last at what was announced or the last trade's step."""
    step_ns, since_ns = how.state.step_ns, how.since_ns
    return Check(
        "market_state has a row at the end of every step, none missing",
        "SELECT count(*) FROM market_state",
        f"""
        WITH rows AS (
            SELECT epoch_ns(timestamp) AS key, lag(key) OVER (ORDER BY key) AS before FROM market_state
            WHERE epoch_ns(timestamp) > {since_ns}
        ), traded AS (
            SELECT (min(epoch_ns(timestamp)) // {step_ns} + 1) * {step_ns} AS first,
                max(epoch_ns(timestamp)) // {step_ns} * {step_ns} AS last
            FROM ticks
        ), ends AS (
            SELECT last AS key FROM traded WHERE last >= first
            UNION ALL
            SELECT epoch_ns(timestamp) FROM events WHERE event = 'PHYSICS_UPDATE'
        )
        SELECT key, concat('follows ', coalesce(make_timestamp_ns(before)::VARCHAR, 'nothing')) AS fault
        FROM rows, traded
        WHERE key - before <> {step_ns} OR key % {step_ns} <> 0
            OR (before IS NULL AND {since_ns} = 0 AND key <> first)
        UNION ALL
        SELECT max(key), 'the last is missing' FROM ends
        HAVING max(key) > greatest({since_ns}, (SELECT coalesce(max(key), 0) FROM rows))
        """,
    )


def _labels(how: Made) -> Check:
    state = how.state
    regime = "CASE WHEN alpha IS NULL THEN 'Unknown' WHEN alpha < 2 THEN 'Levy' ELSE 'Gaussian' END"
    label = (
        f"CASE WHEN sentiment_score >= {state.bullish} THEN 'Bullish' "
        f"WHEN sentiment_score <= {state.bearish} THEN 'Bearish' ELSE 'Neutral' END"
    )
    return Check(
        "market_state is within its bounds, regime and label are what alpha and score say",
        "SELECT count(*) FROM market_state",
        f"""
        SELECT epoch_ns(timestamp) AS key, CASE
            WHEN regime <> {regime} THEN concat('regime is ', regime, ' with alpha ', alpha)
            WHEN sentiment_label <> {label} THEN concat('label is ', sentiment_label, ' at ', sentiment_score)
            WHEN (sentiment_score BETWEEN 0 AND 1) IS NOT TRUE THEN concat('score is ', sentiment_score)
            WHEN (mass > 0) IS NOT TRUE THEN concat('mass is ', mass)
            WHEN NOT (coalesce(entropy, 0) BETWEEN 0 AND 1 AND coalesce(friction, 1) >= 0
                AND coalesce(nash_dist, 0) >= 0 AND coalesce(alpha, 1) > 0) THEN 'out of bounds' END AS fault
        FROM market_state WHERE epoch_ns(timestamp) > {how.since_ns} AND fault IS NOT NULL
        """,
    )


def _latest_state(how: Made) -> Check:
    """Average the turnover of all trades in one sum: E is the same without any recursion."""
    step_ns, fast, slow = how.state.step_ns, how.state.fast_half_life, how.state.slow_half_life

    def mean(of: str, half_life: float) -> str:
        decay = f"pow(2, -1 / {half_life})"
        return f"sum({of} * pow(2, -age / {half_life})) / ((1 - pow({decay}, steps)) / (1 - {decay}))"

    return Check(
        "mass and sentiment_score of the last market_state are those of the ticks",
        "SELECT least(count(*), 1) FROM market_state",
        f"""
        WITH last AS (
            SELECT max(epoch_ns(timestamp)) AS bar FROM market_state
        ), trades AS (
            SELECT bar, price * volume AS paid, (bar // {step_ns} - 1 - epoch_ns(timestamp) // {
            step_ns
        }) AS age,
                CASE side WHEN 'BUY' THEN paid WHEN 'SELL' THEN -paid ELSE 0 END AS signed,
                max(age) OVER () + 1 AS steps
            FROM ticks, last WHERE epoch_ns(timestamp) < bar
        ), expected AS (
            SELECT bar, {mean("paid", fast)} / ({mean("paid", slow)}) AS mass,
                (1 + sum(signed * pow(2, -age / {fast})) / sum(paid * pow(2, -age / {fast}))) / 2
                    AS sentiment_score
            FROM trades WHERE {how.since_ns} = 0 GROUP BY bar, steps
        )
        {
            differences(
                "market_state", {"mass": "e.mass * 1e3", "sentiment_score": "1e3"}, "ticks give", join="JOIN"
            )
        }
        """,
    )


def _flags(how: Made, ids: Ids) -> Check:
    """Judge the last ticks anew, but for those that rounding, or an earlier tick size, might decide."""
    p = how.outliers.price
    size = "(SELECT coalesce(max(value::DOUBLE), 0) FROM meta WHERE key = 'tick_size')"
    before = f"ROWS BETWEEN {p.window} PRECEDING AND 1 PRECEDING"
    return Check(
        f"outlier_flag of the last {FLAGGED:,} ticks is what the prices before them say",
        f"SELECT least(count(*), {FLAGGED}) FROM ticks",
        f"""
        WITH trades AS (
            SELECT seq, price, outlier_flag, ln(price) AS log, epoch_ns(timestamp) AS ns, {ids.order} AS id,
                count(*) OVER (ORDER BY ns, id) AS number
            FROM ticks WHERE ns > {how.since_ns}
            QUALIFY row_number() OVER (ORDER BY ns DESC, id DESC)
                <= {FLAGGED + p.window + p.level}
        ), moves AS (
            SELECT *, CASE WHEN number > {p.level} THEN log - median(log) OVER (
                ORDER BY ns, id ROWS BETWEEN {p.level} PRECEDING AND 1 PRECEDING) END AS x
            FROM trades
        ), windows AS (
            SELECT *, list(x) OVER w AS known, median(x) OVER w AS m, count(x) OVER w AS n
            FROM moves WINDOW w AS (ORDER BY ns, id {before})
        ), judged AS (
            SELECT seq, outlier_flag, n, abs(x - m) AS off,
                {p.factor} * 1.4826 * list_median(list_transform(known, lambda v: abs(v - m))) AS spread,
                greatest({p.gamma_ticks} * {size} / price, {p.gamma}) AS gamma
            FROM windows QUALIFY row_number() OVER (ORDER BY ns DESC, id DESC) <= {FLAGGED}
        )
        SELECT seq AS key, concat('flag is ', outlier_flag, ', off by ', off, ' of ', spread + gamma) AS fault
        FROM judged
        WHERE n = {p.window} AND abs(off - spread - gamma) > 1e-12
            AND (off > spread + gamma) = (off > spread + {p.gamma})
            AND (off > spread + gamma) <> (outlier_flag = 1)
        """,
        key_is_time=False,
    )
