"""Row by row: what a store holds beside what the pairs' own records hold."""

# ruff: noqa: S608 - names of our own schema and of this bench's files

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import orjson
import redis

from benchmarks.rig import Daemon
from daemon.control import call
from market.errors import Retryable
from market.events import Event
from storage.questdb_daily import await_applied
from storage.questdb_sql import Sql
from storage.questdb_url import parse

APPLIED_S = 60.0
_TRADES = "SELECT seq, concat(trade_id, '') id, price, size, side FROM trades"
_TICKS = "SELECT seq, trade_id AS id, price, volume AS size, side[1] AS side FROM ticks"
_BARS = "open, high, low, close, volume, vwap, trade_count"
_EVENTS = "SELECT seq, epoch_ns(timestamp) AS ns, event, data::VARCHAR AS data FROM events ORDER BY seq"


@dataclass(frozen=True, slots=True)
class Differences:
    """How many rows of the records were compared, and how many are missing, too many, or others."""

    rows: int
    differ: int


def questdb_differences(daemon: Daemon, pairs: Sequence[str], url: str) -> Differences:
    """Compare every acknowledged trade, and every minute bar that is in the record now."""
    sql = Sql(parse(url), 120.0)
    acked = {one["pair"]: one["sinks"]["questdb.trades"]["acked"] for one in daemon.pairs()}
    for table in ("trades", "ohlcv_1m"):
        _await_applied(sql, table)
    return _added(
        found
        for pair in pairs
        for found in (_trades(daemon, pair, acked[pair], sql), _bars(daemon, pair, sql))
    )


def redis_differences(daemon: Daemon, pairs: Sequence[str], url: str) -> Differences:
    """Compare every acknowledged event with its entry, and look for each pair's snapshot."""
    acked = {one["pair"]: one["sinks"]["redis"]["acked"] for one in daemon.pairs()}
    with redis.Redis.from_url(url, protocol=2) as client:
        return _added(_events(daemon, pair, acked[pair], client) for pair in pairs)


def _trades(daemon: Daemon, pair: str, upto: int, sql: Sql) -> Differences:
    with TemporaryDirectory(dir=daemon.folder) as folder:
        mine, theirs = Path(folder) / "mine.parquet", Path(folder) / "theirs.parquet"
        _record(daemon, pair, f"{_TICKS} WHERE seq <= {upto}", mine)
        sql.export(f"{_TRADES} WHERE symbol = '{pair}' AND seq <= {upto}", theirs)
        with duckdb.connect() as con:
            a, b = f"(FROM read_parquet('{mine}'))", f"(FROM read_parquet('{theirs}'))"
            ask = f"SELECT (SELECT count(*) FROM {a}), (SELECT count(*) FROM ({a} EXCEPT ALL {b}))"
            ((rows, missing, extra),) = con.execute(
                f"{ask}, (SELECT count(*) FROM ({b} EXCEPT ALL {a}))"
            ).fetchall()
    return Differences(rows, missing + extra)


def _bars(daemon: Daemon, pair: str, sql: Sql) -> Differences:
    """Compare the bars up to the last but one: the last may be on its way."""
    ask = f"SELECT epoch_us(timestamp), {_BARS} FROM candles_1m WHERE is_complete ORDER BY timestamp"
    mine = [tuple(row) for row in zip(*daemon.query(pair, ask), strict=True)][:-1]
    upto = mine[-1][0] if mine else -1
    stored = sql.rows(
        f"SELECT cast(timestamp AS LONG), {_BARS} FROM ohlcv_1m WHERE symbol = '{pair}' ORDER BY timestamp"
    )
    return _compared(mine, [tuple(row) for row in stored if row[0] <= upto])


def _events(daemon: Daemon, pair: str, upto: int, client: Any) -> Differences:
    entries = client.xrange(f"stream:state_update:{pair}", "-", f"{upto}-0")
    stored = [(int(entry.partition(b"-")[0]), fields[b"m"]) for entry, fields in entries]
    first = stored[0][0] if stored else 1  # what has left the stream by its length is no difference
    rows = zip(*daemon.query(pair, _EVENTS), strict=True)
    mine = [
        (int(seq), Event(int(seq), int(ns), event, data.encode()).message(pair))
        for seq, ns, event, data in rows
        if first <= seq <= upto
    ]
    found = _compared(_parsed(mine), _parsed(stored))
    lacks = 0 if client.exists(f"market:snapshot:{pair}") else 1
    return Differences(found.rows + 1, found.differ + lacks)


def _parsed(messages: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Write JSON in one way, whatever the order of its keys."""
    return [(seq, orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)) for seq, text in messages]


def _await_applied(sql: Sql, table: str) -> None:
    """Wait until SQL sees what was acknowledged, also through a writing that is suspended for a while."""
    deadline = time.monotonic() + APPLIED_S
    while True:
        try:
            return await_applied(sql, table, APPLIED_S)
        except Retryable:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _record(daemon: Daemon, pair: str, sql: str, out: Path) -> None:
    path = daemon.folder / "run/control.sock"
    call(path, "query", timeout_s=120.0, pair=pair, sql=sql, fmt="parquet", out=str(out))


def _compared(mine: Sequence[Any], theirs: Sequence[Any]) -> Differences:
    counts, others = Counter(mine), Counter(theirs)
    return Differences(len(mine), (counts - others).total() + (others - counts).total())


def _added(found: Iterable[Differences]) -> Differences:
    parts = list(found)
    return Differences(sum(one.rows for one in parts), sum(one.differ for one in parts))
