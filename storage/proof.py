"""Prove a pair's record in SQL: an oracle that shares nothing with the folds that made it.

Sources: definitions of candles and order flow; sums agree within 1e-9 of what was summed, all else exactly.
"""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import duckdb

from market.rows import Row, timeframe_text
from market.times import DAY_NS, NS_PER_S
from storage import proof_found, proof_journal, proof_told
from storage.proof_made import made
from storage.proof_sql import Check, Ids, announced_as_stored, differences
from storage.reads import seen
from storage.schema import candles_table

_EXACT = None
_CANDLE: dict[str, str | None] = {
    "open": _EXACT,
    "high": _EXACT,
    "low": _EXACT,
    "close": _EXACT,
    "trade_count": _EXACT,
    "volume": "e.volume",
    "buy_volume": "e.buy_volume",
    "sell_volume": "e.sell_volume",
    "vwap": "e.vwap",
}
_FLOW: dict[str, str | None] = {
    "trade_count": _EXACT,
    "buy_volume": "e.buy_volume",
    "sell_volume": "e.sell_volume",
    "delta": "e.buy_volume + e.sell_volume",
    "cvd": "e.traded",
    "imbalance_ratio": "e.imbalance_ratio",
}
_COMPLETE = "WHEN e.is_complete > s.is_complete THEN 'not complete'"
_MINUTE_NS = 60 * NS_PER_S


class Claim(NamedTuple):
    """What was to be shown, whether it holds, and the numbers: rows compared, the first that differs."""

    text: str
    ok: bool
    detail: str = ""


def prove(
    cursor: duckdb.DuckDBPyConnection,
    open_rows: Mapping[str, Sequence[Row]],
    timeframes_s: Sequence[int],
    *,
    contiguous: bool = True,
) -> list[Claim]:
    """Check every claim on what a cursor of `reads.begin` sees, the open bars among the rows.

    Ids that are text, or of a venue whose ids are not `contiguous`, cannot show what is missing: then no gap
    may be open. Raises Damaged when the file turns out unreadable, ArchiveDamaged when its archive does.
    """

    def claims() -> list[Claim]:
        ids = Ids(contiguous, _texts_from(cursor))
        every = [*_checks(sorted(timeframes_s), ids)]
        every.append(proof_journal.check(cursor))
        how = made(cursor)
        every.append(proof_told.parameters(known=how is not None))
        if how:
            every += proof_found.checks(how, sorted(timeframes_s), ids)
        return [_claim(cursor, check) for check in every]

    return seen(cursor, open_rows, claims, "verify")


def _claim(cursor: duckdb.DuckDBPyConnection, check: Check) -> Claim:
    at = "replace(make_timestamp_ns(key)::VARCHAR, ' ', 'T') || 'Z'" if check.key_is_time else "key::VARCHAR"
    found = cursor.execute(
        f"SELECT ({check.compared}), count(*), min_by({at} || ': ' || fault, key) FROM ({check.faults})"
    ).fetchall()
    ((compared, wrong, first),) = found
    detail = f"{wrong:,} faults in {compared:,} rows; the first at {first}" if wrong else f"{compared:,} rows"
    return Claim(check.text, not wrong, detail)


def _texts_from(cursor: duckdb.DuckDBPyConnection) -> int:
    sql = "SELECT coalesce((value->>'$.texts_from')::BIGINT, 0) FROM meta WHERE key = 'position'"
    ((first,),) = cursor.execute(sql).fetchall()
    return int(first)


def _checks(timeframes_s: Sequence[int], ids: Ids) -> Iterator[Check]:
    yield _sequence("ticks")
    yield _sequence("events")
    yield _ids_once()
    if ids.contiguous and not ids.texts_from:
        yield _holes_recorded()
        yield _gaps_true()
    else:
        yield _gaps_closed()
    yield from proof_told.gaps()
    for timeframe_s in timeframes_s:
        yield _candles(timeframe_s, ids)
    for timeframe_s in timeframes_s[1:]:
        if timeframe_s % timeframes_s[0] == 0:
            yield _merged(timeframe_s, timeframes_s[0])
    yield _flow(ids)
    for timeframe_s in timeframes_s:
        yield _announced_once(timeframe_s)
        yield announced_as_stored(
            candles_table(timeframe_s), "CANDLE", f"AND data->>'timeframe' = '{timeframe_text(timeframe_s)}'"
        )
    yield from proof_told.flow()


def _sequence(table: str) -> Check:
    return Check(
        f"{table}.seq counts 1, 2, 3 without hole or double",
        f"SELECT count(*) FROM {table}",
        f"""
        SELECT seq AS key, 'follows ' || before AS fault
        FROM (SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS before FROM {table}) WHERE seq <> before + 1
        """,
        key_is_time=False,
    )


def _ids_once() -> Check:
    return Check(
        "every trade id is stored once",
        "SELECT count(*) FROM ticks",
        """
        SELECT min(seq) AS key, 'its id, ' || trade_id || ', is stored ' || count(*) || ' times' AS fault
        FROM ticks GROUP BY trade_id HAVING count(*) > 1
        """,
        key_is_time=False,
    )


def _holes_recorded() -> Check:
    """Unite the recorded gaps that touch, so that each hole has to lie inside a single one."""
    return Check(
        "trade ids are contiguous, or data_gaps says which are missing",
        "SELECT coalesce(max(trade_id::BIGINT) - min(trade_id::BIGINT) + 1, 0) FROM ticks",
        """
        WITH gaps AS (
            SELECT first_missing_id AS a, last_missing_id AS b,
                max(b) OVER (ORDER BY a, b ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reach
            FROM data_gaps WHERE status IN ('OPEN', 'UNFILLABLE')
        ), numbered AS (
            SELECT a, b, count(*) FILTER (reach IS NULL OR reach < a - 1) OVER (ORDER BY a, b) AS island
            FROM gaps
        ), islands AS (
            SELECT min(a) AS a, max(b) AS b FROM numbered GROUP BY island
        ), ids AS (
            SELECT trade_id::BIGINT AS id, lag(id) OVER (ORDER BY id) AS before FROM ticks
        ), holes AS (
            SELECT before + 1 AS a, id - 1 AS b FROM ids WHERE id > before + 1
        )
        SELECT h.a AS key, 'missing up to ' || h.b || ', and not recorded' AS fault
        FROM holes h WHERE NOT EXISTS (FROM islands i WHERE i.a <= h.a AND h.b <= i.b)
        """,
        key_is_time=False,
    )


def _gaps_true() -> Check:
    return Check(
        "every FILLED gap has all its trades, and no OPEN one",
        "SELECT count(*) FROM data_gaps",
        """
        WITH held AS (
            SELECT g.gap_id, g.status, any_value(g.last_missing_id - g.first_missing_id + 1) AS missing,
                count(DISTINCT t.trade_id) AS here
            FROM data_gaps g LEFT JOIN ticks t
                ON t.trade_id::BIGINT BETWEEN g.first_missing_id AND g.last_missing_id
            GROUP BY ALL
        )
        SELECT gap_id AS key, status || ' with ' || here || ' of ' || missing || ' trades here' AS fault
        FROM held WHERE (status = 'FILLED' AND here < missing) OR (status = 'OPEN' AND here = missing)
        """,
        key_is_time=False,
    )


def _gaps_closed() -> Check:
    return Check(
        "every hole that was noticed is in data_gaps, and none is OPEN",
        "SELECT count(*) FROM data_gaps",
        "SELECT gap_id AS key, 'is OPEN: ' || reason AS fault FROM data_gaps WHERE status = 'OPEN'",
        key_is_time=False,
    )


def _bars(table: str, width_ns: int, ids: Ids) -> str:
    """Fold ticks into bars of a width: `traded` holds those with trades, `grid` every start."""
    return f"""
    trades AS (
        SELECT epoch_ns(timestamp) AS ns, {ids.order} AS id, price, volume, side,
            ns // {width_ns} * {width_ns} AS bar
        FROM ticks
    ), traded AS (
        SELECT bar, arg_min(price, (ns, id)) AS open, max(price) AS high, min(price) AS low,
            arg_max(price, (ns, id)) AS close, sum(volume) AS volume,
            coalesce(sum(volume) FILTER (side = 'BUY'), 0) AS buy_volume,
            coalesce(sum(volume) FILTER (side = 'SELL'), 0) AS sell_volume,
            sum(price * volume) / sum(volume) AS vwap, count(*) AS trade_count
        FROM trades GROUP BY bar
    ), ends AS (
        SELECT min(bar) AS a, greatest(max(bar), (SELECT max(epoch_ns(timestamp)) FROM {table})) AS b
        FROM traded
    ), grid AS (
        SELECT unnest(range(a, b + {width_ns}, {width_ns})) AS bar FROM ends
    )"""


def _candles(timeframe_s: int, ids: Ids) -> Check:
    table = candles_table(timeframe_s)
    return Check(
        f"{table} equals the ticks, flat bars between them, none missing, all complete but the last",
        f"SELECT count(*) FROM {table}",
        f"""
        WITH {_bars(table, timeframe_s * NS_PER_S, ids)}, expected AS (
            SELECT g.bar, last_value(t.close IGNORE NULLS) OVER (ORDER BY g.bar) AS carried, carried AS close,
                coalesce(t.open, carried) AS open, coalesce(t.high, carried) AS high,
                coalesce(t.low, carried) AS low, coalesce(t.vwap, carried) AS vwap,
                coalesce(t.volume, 0) AS volume, coalesce(t.buy_volume, 0) AS buy_volume,
                coalesce(t.sell_volume, 0) AS sell_volume, coalesce(t.trade_count, 0) AS trade_count,
                g.bar < max(g.bar) OVER () AS is_complete
            FROM grid g LEFT JOIN traded t USING (bar)
        )
        {differences(table, _CANDLE, "ticks give", also=_COMPLETE)}
        """,
    )


def _merged(timeframe_s: int, base_s: int) -> Check:
    table, base, width_ns = candles_table(timeframe_s), candles_table(base_s), timeframe_s * NS_PER_S
    return Check(
        f"{table} equals {base} merged",
        f"SELECT count(*) FROM {table}",
        f"""
        WITH parts AS (
            SELECT *, epoch_ns(timestamp) // {width_ns} * {width_ns} AS bar,
                trade_count > 0 OR max(trade_count) OVER (PARTITION BY bar) = 0 AS counts
            FROM {base}
        ), expected AS (
            SELECT bar, arg_min(open, timestamp) AS open, max(high) AS high, min(low) AS low,
                arg_max(close, timestamp) AS close, sum(trade_count) AS trade_count, sum(volume) AS volume,
                sum(buy_volume) AS buy_volume, sum(sell_volume) AS sell_volume,
                coalesce(sum(vwap * volume) / nullif(sum(volume), 0), any_value(vwap)) AS vwap
            FROM parts WHERE counts GROUP BY bar
        )
        {differences(table, _CANDLE, f"{base} gives")}
        """,
    )


def _flow(ids: Ids) -> Check:
    return Check(
        "order_flow equals the ticks, cvd begins at 00:00 UTC, no minute missing",
        "SELECT count(*) FROM order_flow",
        f"""
        WITH {_bars("order_flow", _MINUTE_NS, ids)}, minutes AS (
            SELECT g.bar, coalesce(t.buy_volume, 0) AS buy_volume, coalesce(t.sell_volume, 0) AS sell_volume,
                coalesce(t.trade_count, 0) AS trade_count
            FROM grid g LEFT JOIN traded t USING (bar)
        ), expected AS (
            SELECT *, buy_volume - sell_volume AS delta, sum(buy_volume - sell_volume) OVER day AS cvd,
                sum(buy_volume + sell_volume) OVER day AS traded,
                CASE WHEN sell_volume > 0 THEN buy_volume / sell_volume END AS imbalance_ratio
            FROM minutes WINDOW day AS (PARTITION BY bar // {DAY_NS} ORDER BY bar)
        )
        {differences("order_flow", _FLOW, "ticks give")}
        """,
    )


def _announced_once(timeframe_s: int) -> Check:
    """Count announcements; the bars from before a timeframe was configured are history, and have none."""
    table = candles_table(timeframe_s)
    return Check(
        f"CANDLE_CLOSED came once for every complete bar of {table}",
        f"SELECT count(*) FROM {table} WHERE is_complete",
        f"""
        WITH closed AS (
            SELECT epoch_ns((data->>'timestamp')::TIMESTAMP_NS) AS key, count(*) AS times FROM events
            WHERE event = 'CANDLE_CLOSED' AND data->>'timeframe' = '{timeframe_text(timeframe_s)}'
            GROUP BY key
        ), stored AS (
            SELECT DISTINCT epoch_ns(timestamp) AS key, 1 AS here FROM {table} WHERE is_complete
        )
        SELECT key, coalesce('announced ' || times || ' times', 'never announced')
            || CASE WHEN here IS NULL THEN ', not stored' ELSE '' END AS fault
        FROM closed FULL JOIN stored USING (key)
        WHERE times IS DISTINCT FROM here AND (times IS NOT NULL OR key > (SELECT min(key) FROM closed))
        """,
    )
