"""Bring a core to where the hot file stands when the journal cannot: its tables say what it came to."""

# ruff: noqa: S608 - every name put into SQL here is one of our own schema

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from actors.core import PairCore
from actors.state import Gap, Ledger
from market.errors import Fatal
from market.inputs import Clock, Instrument, TickBatch
from market.rows import TickRows, timeframe_text
from market.ticks import Ticks, joined
from market.times import NS_PER_S
from storage.hot import HotFile
from storage.hot_meta import meta

MAX_TICKS = 4_000_000  # held in memory at once
PAGE_TICKS = 65_536
_FLOW_S = 60
_GAPS = """
    SELECT gap_id, first_missing_id, last_missing_id, epoch_ns(from_time), epoch_ns(to_time),
        epoch_ns(detected_at), status, rows_filled, reason
    FROM data_gaps ORDER BY gap_id
"""
_QUOTE = "SELECT bid_price, ask_price FROM quotes ORDER BY received_at DESC LIMIT 1"
_FEED = "SELECT event FROM events WHERE starts_with(event, 'FEED_') ORDER BY seq DESC LIMIT 1"


def salvaged(core: PairCore, hot: HotFile) -> None:
    """Fold what the hot file and the archive have beyond the core; raises Fatal if the core is beyond them.

    What the core makes of it is what the hot file holds already, so nobody is told.
    """
    ledger = core.state.ledger
    if ledger.next_seq - 1 > hot.last_tick_seq() or ledger.next_event - 1 > hot.last_event_seq():
        raise Fatal(
            f"{core.state.pair}: the hot file stands for record {hot.position}, with less than the journal; "
            "restore the journal, or move the pair's folder away to begin anew"
        )
    parts = _ticks_beyond(ledger, hot)
    ticks = joined(part.ticks for part in parts)
    tick_size = float(meta(hot.connection).get("tick_size", 0))
    if tick_size not in {0.0, ledger.tick_size}:
        core.handle(hot.position, [Instrument(tick_size)])
    _fold(core, hot.position, ticks, tuple(name for part in parts for name in part.ids))
    _pass_time(core, hot)
    _count(ledger, hot, ticks)


def _ticks_beyond(ledger: Ledger, hot: HotFile) -> list[TickRows]:
    first, last = ledger.next_seq, hot.last_tick_seq()
    if last - first >= MAX_TICKS:
        count = last - first + 1
        raise Fatal(f"the journal is damaged before {count} ticks, too many to fold again; restore it")
    return [hot.tick_rows_after(seq - 1, PAGE_TICKS) for seq in range(first, last + 1, PAGE_TICKS)]


def _fold(core: PairCore, number: int, ticks: Ticks, ids: tuple[str, ...]) -> None:
    """Fold ticks in the order of time, those first that belong before what was folded."""
    ledger = core.state.ledger
    order = np.lexsort((ticks["trade_id"], ticks["ts_ns"]))
    edge_ns = max(ledger.last_ts_ns, core.state.folds.closed_ns)
    late = int(np.searchsorted(ticks["ts_ns"][order], edge_ns, side="right"))
    bounds = [0, *range(late, len(ticks), PAGE_TICKS), len(ticks)]
    for start, stop in pairwise(bounds):
        picked = order[start:stop]
        if len(picked):
            names = tuple(ids[i] for i in picked.tolist()) if ids else ()
            core.handle(number, [TickBatch(ticks[picked], late=stop <= late, ids=names)])


def _pass_time(core: PairCore, hot: HotFile) -> None:
    """Close the bars that clocks had closed."""
    ends = [_newest(hot, "order_flow") + _FLOW_S * NS_PER_S, _newest(hot, "market_state")]
    ends += [_newest(hot, f"candles_{timeframe_text(s)}") + s * NS_PER_S for s in core.timeframes_s]
    if (end_ns := max(ends)) > core.state.ledger.watermark_ns and core.state.folds.closed_ns >= 0:
        for record in core.records([Clock(end_ns)]):
            core.handle(hot.position, record)


def _newest(hot: HotFile, table: str) -> int:
    if table not in hot.tables():
        return 0
    ((ts_ns,),) = hot.connection.execute(f"SELECT max(epoch_ns(timestamp)) FROM {table}").fetchall()
    return int(ts_ns or 0)


def _count(ledger: Ledger, hot: HotFile, ticks: Ticks) -> None:
    """Go on with the numbers of the hot file."""
    con = hot.connection
    ledger.position, ledger.next_event = hot.position, hot.last_event_seq() + 1
    rows = con.execute(_GAPS).fetchall()
    known = {gap.gap_id: gap for gap in ledger.gaps}
    opened = [row for row in rows if row[6] == "OPEN"]
    ledger.gaps = [known.get(row[0]) or _gap(row, ledger.next_seq, ticks) for row in opened]
    ledger.next_gap = max([ledger.next_gap, *(row[0] + 1 for row in rows)])
    ledger.gaps_unfillable = sum(row[6] == "UNFILLABLE" for row in rows)
    closed = [row[2] + 1 for row in rows if row[6] != "OPEN" and row[2] is not None]
    if ledger.next_id is not None:
        ledger.next_id = max([ledger.next_id, *closed])
    for bid, ask in con.execute(_QUOTE).fetchall():
        ledger.bid, ledger.ask = bid, ask
    for (event,) in con.execute(_FEED).fetchall():
        ledger.stale = event == "FEED_STALE"
    for table in sorted(table for table in hot.tables() if table.startswith("candles_")):
        sql = f"SELECT epoch_ns(timestamp), revision FROM {table} WHERE revision > 0 ORDER BY 1"
        ledger.revisions |= {f"{table}:{ts_ns}": revision for ts_ns, revision in con.execute(sql).fetchall()}


def _gap(row: tuple[Any, ...], key: int, ticks: Ticks) -> Gap:
    """Make an open gap of its row, and of the trades that came for it; without ids any number names it."""
    gap_id, first_id, last_id, from_ns, to_ns, detected_ns, _, filled, reason = row
    if first_id is None:
        return Gap(gap_id, key, key, key, from_ns, to_ns, detected_ns, reason, counted=False)
    inside = ticks["trade_id"][(ticks["trade_id"] >= first_id) & (ticks["trade_id"] <= last_id)]
    next_id = int(inside.max()) + 1 if len(inside) else first_id
    filled = max(filled, len(inside))
    return Gap(gap_id, first_id, last_id, next_id, from_ns, to_ns, detected_ns, reason, filled)
