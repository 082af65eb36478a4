"""Daily bars, computed inside QuestDB from the minute bars of whole UTC days."""

# ruff: noqa: S608 - names are those of our own schema, symbols are quoted

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from market.errors import Retryable
from market.times import DAY_NS, NS_PER_S, floor_ns
from storage.questdb_sql import Sql, literal

Bars: TypeAlias = Iterable[tuple[str, int]]
"""Symbol and open time in ns of minute bars."""

_T = TypeVar("_T")
_POLL_S = 0.01
_LAST_MINUTE_NS = DAY_NS - 60 * NS_PER_S
_SYMBOLS_A_QUERY, _DAYS_A_QUERY = 100, 100  # a query travels in a URL
# Flat bars repeat an old price: they count only where the whole day has no trade.
_TRADED = "CASE WHEN trade_count > 0 THEN {} END"
_DAILY = f"""\
INSERT INTO ohlcv_1d (symbol, open, high, low, close, volume, vwap, trade_count, timestamp)
SELECT symbol,
 coalesce(first_not_null({_TRADED.format("open")}), first(open)),
 coalesce(max({_TRADED.format("high")}), max(high)),
 coalesce(min({_TRADED.format("low")}), min(low)),
 coalesce(last_not_null({_TRADED.format("close")}), last(close)),
 sum(volume), coalesce(sum(vwap * volume) / sum(volume), last(close)), sum(trade_count),
 cast({{microseconds}} AS TIMESTAMP)
FROM ohlcv_1m WHERE timestamp IN '{{day}}' AND symbol IN ({{symbols}})"""


def refresh_daily(sql: Sql, bars: Bars, timeout_s: float) -> int:
    """Compute the days, of those that the bars fall in, whose last minute is stored; return their number.

    Waits until the server has applied the bars, for at most `timeout_s`; raises Retryable.
    """
    days = _closed(sql, list(bars))
    if days:
        await_applied(sql, "ohlcv_1m", timeout_s)
    for day_ns, symbols in days.items():
        for some in _chunks(sorted(symbols), _SYMBOLS_A_QUERY):
            sql.rows(_DAILY.format(microseconds=day_ns // 1_000, day=_text(day_ns)[:10], symbols=_list(some)))
    return sum(map(len, days.values()))


def await_applied(sql: Sql, table: str, timeout_s: float) -> None:
    """Wait until SQL sees everything that was acknowledged before."""
    deadline = time.monotonic() + timeout_s
    ask = f"SELECT writerTxn, sequencerTxn, suspended FROM wal_tables() WHERE name = {literal(table)}"
    target: int | None = None
    while True:
        written, accepted, suspended = sql.rows(ask)[0]
        target = accepted if target is None else target
        if written >= target:
            return
        if suspended or time.monotonic() > deadline:
            why = "its writing is suspended" if suspended else "it lags behind its log"
            raise Retryable(f"QuestDB's table {table}: {why}, {target - written} transactions to go")
        time.sleep(_POLL_S)


def _closed(sql: Sql, bars: Sequence[tuple[str, int]]) -> dict[int, set[str]]:
    """Find the days whose last minute is among the bars, or was stored before."""
    touched: dict[int, set[str]] = defaultdict(set)
    closed: dict[int, set[str]] = defaultdict(set)
    for symbol, ts_ns in bars:
        day_ns = floor_ns(ts_ns, DAY_NS)
        touched[day_ns].add(symbol)
        if ts_ns - day_ns == _LAST_MINUTE_NS:
            closed[day_ns].add(symbol)
    asked = {day_ns: symbols - closed.get(day_ns, set()) for day_ns, symbols in touched.items()}
    for symbol, day_ns in _stored_ends(sql, asked):
        if symbol in asked[day_ns]:
            closed[day_ns].add(symbol)
    return closed


def _stored_ends(sql: Sql, asked: dict[int, set[str]]) -> Iterator[tuple[str, int]]:
    """Ask for the days' last minutes; those of earlier calls were applied before these returned."""
    days = [day_ns for day_ns, symbols in asked.items() if symbols]
    names = sorted(set().union(*asked.values()))
    for some_days in _chunks(days, _DAYS_A_QUERY):
        ends = ", ".join(literal(_text(day_ns + _LAST_MINUTE_NS)) for day_ns in some_days)
        for some in _chunks(names, _SYMBOLS_A_QUERY):
            ask = f"SELECT symbol, cast(timestamp AS LONG) FROM ohlcv_1m WHERE timestamp IN ({ends})"
            for symbol, end_us in sql.rows(f"{ask} AND symbol IN ({_list(some)})"):
                yield symbol, floor_ns(end_us * 1_000, DAY_NS)


def _list(symbols: Iterable[str]) -> str:
    return ", ".join(map(literal, symbols))


def _text(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
