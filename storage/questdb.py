"""The one door to QuestDB: trades and candles in, each acknowledged by the server before a call returns.

Foreign errors are translated here: whatever waiting may cure is `Retryable`. Everything blocks, for at most
a few times `timeout_s`: call it from a thread, one at a time.
"""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from storage import questdb_schema as schema
from storage.questdb_daily import refresh_daily
from storage.questdb_frames import (
    CandleRows,
    TradeRows,
    before_1970,
    candles_frame,
    dead_letters_frame,
    trades_frame,
)
from storage.questdb_lines import Lines, Refusal
from storage.questdb_sql import Sql
from storage.questdb_url import parse

if TYPE_CHECKING:
    import pandas as pd

log = structlog.get_logger(__name__)


class Written(NamedTuple):
    """What one call did."""

    stored: int  # rows that the server acknowledged, those it had already included
    rejected: int  # rows that are in dead_letters instead


class Health(NamedTuple):
    """How the server stands."""

    rows: dict[str, int]  # by table, as SQL sees them
    lag: dict[str, int]  # by table: transactions acknowledged and not yet seen by SQL
    suspended: tuple[str, ...]  # tables whose writing stopped; prepare() has them go on
    view: str  # valid, or what else the server calls it


class QuestDB:
    """A writer of what the contract promises; every write may be repeated, and is then stored once.

    Raises UsageError for a URL that is none. `prepare` comes first, and again after a loss.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        address = parse(url)
        self._timeout_s = timeout_s
        self._sql = Sql(address, timeout_s)
        self._lines = Lines(address, timeout_s)

    def prepare(self) -> None:
        """Make the tables and the view, and have go on what stands still; harmless if all is there.

        Raises Fatal for a server that is too old or refuses the credentials, and for a table of another
        shape; Retryable for one that does not answer.
        """
        self._lines.close()  # the server remembers on a connection what the tables were
        schema.prepare(self._sql)

    def write_trades(self, batch: Sequence[TradeRows]) -> Written:
        """Store trades; returns when the server has committed them."""
        return self._write(schema.TRADES, trades_frame(batch))[0]

    def write_candles(self, batch: Sequence[CandleRows]) -> Written:
        """Store complete one-minute bars, and the daily bars of the days that these complete or restate."""
        written, stored = self._write(schema.OHLCV_1M, candles_frame(batch))
        times_ns = stored["timestamp"].to_numpy().view("i8") * 1_000
        bars = zip(stored["symbol"].astype(str), times_ns.tolist(), strict=True)
        refresh_daily(self._sql, bars, self._timeout_s)
        return written

    def go_on(self) -> None:
        """Have tables go on whose writing stopped: the server takes rows for them, and shows none of them."""
        schema.resume(self._sql)

    def ping(self) -> None:
        """Raise Retryable unless the server answers SQL, Fatal if it refuses the credentials."""
        self._sql.rows("SELECT 1")

    def health(self) -> Health:
        """Ask how much is stored and what lags; the tables must be there."""
        names = [*(table.name for table in schema.TABLES), schema.VIEW]
        counts = " UNION ALL ".join(f"SELECT '{name}', count() FROM {name}" for name in names)
        wal = self._sql.rows("SELECT name, sequencerTxn - writerTxn, suspended FROM wal_tables()")
        ask = f"SELECT view_status FROM materialized_views() WHERE view_name = '{schema.VIEW}'"
        views = self._sql.rows(ask)
        return Health(
            rows=dict(map(tuple, self._sql.rows(counts))),
            lag={name: lag for name, lag, _ in wal if name in names},
            suspended=tuple(sorted(name for name, _, suspended in wal if suspended and name in names)),
            view=str(views[0][0]) if views else "missing",
        )

    def close(self) -> None:
        self._lines.close()

    def _write(self, table: schema.Table, frame: pd.DataFrame) -> tuple[Written, pd.DataFrame]:
        """Send what can be sent; return the counts and the rows that are stored."""
        early = [Refusal(int(index), "its time is before 1970") for index in before_1970(frame)]
        sent = frame.drop(index=[refusal.row for refusal in early]) if early else frame
        refusals = self._lines.send(table.name, sent, lambda: schema.check(self._sql, table))
        stored = sent.drop(index=sent.index[[refusal.row for refusal in refusals]]) if refusals else sent
        refused: list[tuple[Any, str]] = [(frame.index[index], reason) for index, reason in early]
        refused += [(sent.index[index], reason) for index, reason in refusals]
        if refused:
            self._bury(table.name, frame.loc[[label for label, _ in refused]], [why for _, why in refused])
        return Written(len(stored), len(refused)), stored

    def _bury(self, table: str, rows: pd.DataFrame, reasons: Sequence[str]) -> None:
        """Keep refused rows where they can be looked at; the pair's own record has them anyway."""
        log.warning("questdb_rows_rejected", table=table, rows=len(rows), first=reasons[0])
        letters = dead_letters_frame(table, rows, reasons)
        refusals = self._lines.send(
            schema.DEAD_LETTERS.name, letters, lambda: schema.check(self._sql, schema.DEAD_LETTERS)
        )
        for index, reason in refusals:
            log.error("questdb_dead_letter_refused", row=letters["row"].iloc[index], reason=reason)
