"""What a pair says of itself to `marketd status` and to the live table."""

from __future__ import annotations

import os
from typing import Any

import psutil

from actors.engine import Engine
from actors.spec import PairSpec
from market.rows import Candle


def report(spec: PairSpec, engine: Engine | None, failure: str) -> dict[str, Any]:
    """Describe the pair; without an engine it is recovering, or failed for the reason given."""
    process = psutil.Process()
    out: dict[str, Any] = {
        "pair": spec.pair.key,
        "alias": spec.alias,
        "pid": os.getpid(),
        "rss_bytes": process.memory_info().rss,
        "cpu_s": sum(process.cpu_times()[:2]),
        "error": failure,
    }
    if engine is None:
        return out | {"state": "failed" if failure else "recovering"}
    return out | _working(engine)


def _working(engine: Engine) -> dict[str, Any]:
    ledger = engine.core.state.ledger
    market = engine.core.market() or {}
    outliers = engine.core.state.folds.outliers
    return {
        **engine.feed_status,
        "ticks": ledger.next_seq - 1,
        "last_trade_id": ledger.recent_ids[-1] if ledger.recent_ids else (ledger.next_id or 0) - 1,
        "last_price": ledger.last_price or None,
        "last_trade_ns": ledger.last_ts_ns,
        "price_outliers": outliers.price_outliers if outliers else 0,
        "size_outliers": outliers.size_outliers if outliers else 0,
        "cvd": market.get("cvd"),
        "last_candle": _candle(engine.last_candle),
        "gaps": ledger.next_gap - 1,
        "gaps_open": len(ledger.gaps),
        "gaps_unfillable": ledger.gaps_unfillable,
        "events": engine.last_event,
        "journal_records": ledger.position,
        "latency_ms": engine.latencies.percentiles_ms(),
        "tick_lag_ns": engine.tick_lag_ns,
        "journal_s": engine.journal_s.series,
        "flush_s": engine.flush_s.series,
        "blocked": engine.blocked,
        "sinks": engine.sinks,
        "finished": engine.finished,
        "recent": list(engine.recent),
    }


def _candle(row: Candle | None) -> dict[str, Any] | None:
    return row._asdict() if row is not None else None
