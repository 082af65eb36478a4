"""What a person sees of the stores: one line each, below the table of the pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]


def lines(status: Report) -> list[str]:
    """Say of every store how far it is behind, and what is wrong with it, by a daemon's status."""
    supervisors, servers = status["supervisors"], status["servers"]
    out = [
        f"{store}: {', '.join(lags)}{_state(supervisors.get(_SERVED_BY.get(store, '')))}"
        for store, lags in _lags(status["pairs"]).items()
    ]
    if questdb := supervisors.get("questdb"):
        out += _tables(questdb)
    if retention := supervisors.get("retention"):
        out.append(f"archive: {_archive(retention)}{_troubles(retention.get('troubles', {}))}")
    for name, server in servers.items():
        if server["error"] or server["restarts"]:
            state = server["error"] or "runs"
            out.append(f"{name} server: {state}, started again {server['restarts']} times")
    out += [f"{what}: {status[key]}" for what, key in _PLACES.items() if status.get(key)]
    if status.get("dashboard"):
        out.append(f"its token: {status['data_dir']}/run/ray-token")
    return out


_SERVED_BY = {"redis": "signal", "questdb": "questdb", "lancedb": "embeddings"}
_PLACES = {"QuestDB console": "questdb_console", "metrics": "metrics", "Ray dashboard": "dashboard"}


def _lags(pairs: Sequence[Report]) -> dict[str, list[str]]:
    """Say by store how far each of its streams is behind, over all pairs."""
    sinks: dict[str, list[Report]] = {}
    for pair in pairs:
        for sink, lag in pair.get("sinks", {}).items():
            sinks.setdefault(sink, []).append(lag)
    out: dict[str, list[str]] = {}
    for sink, lags in sinks.items():
        store, _, stream = sink.partition(".")
        out.setdefault(store, []).append(f"{stream} {_lag(lags)}".lstrip())
    return out


def _lag(lags: Iterable[Report]) -> str:
    behind, age_s, errors = 0, 0.0, dict[str, None]()
    for lag in lags:
        behind, age_s = behind + lag["lag"], max(age_s, lag.get("lag_s", 0.0))
        if lag.get("error"):
            errors[lag["error"]] = None
    age = f" for {age_s:.1f} s" if age_s >= 1 else ""
    return f"{behind:,} behind{age}" + "".join(f" ({error})" for error in errors)


def _state(supervisor: Report | None) -> str:
    if supervisor is None:
        return ""
    refused = "; ".join(f"{symbol}: {why}" for symbol, why in supervisor.get("refused", {}).items())
    wrong = supervisor.get("error") or refused or ("" if supervisor.get("reached", True) else "not reached")
    rows = f", {supervisor['rows']:,} rows written" if supervisor.get("rows") else ""
    rejected = f", {supervisor['rejected']:,} rejected" if supervisor.get("rejected") else ""
    return f"{rows}{rejected}" + (f"; {wrong}" if wrong else "")


def _tables(questdb: Report) -> list[str]:
    """Say how QuestDB's tables are: rows that can be read, and what keeps others from it."""
    tables = questdb.get("tables", {})
    if not tables:
        return []
    said = []
    for name, rows in sorted(tables["rows"].items()):
        lag = tables["lag"].get(name, 0)
        stopped = ", suspended" if name in tables["suspended"] else ""
        said.append(f"{name} {rows:,}{f' ({lag} transactions behind)' if lag else ''}{stopped}")
    view = "" if tables["view"] in {"valid", "refreshing"} else f"; its view is {tables['view']}"
    archived = f"; {questdb['archived']:,} rows archived" if questdb.get("archived") else ""
    trouble = f"; not archived: {questdb['trouble']}" if questdb.get("trouble") else ""
    return [f"questdb tables: {', '.join(said)}{view}{archived}{trouble}"]


def _archive(retention: Report) -> str:
    moved = f"{retention.get('rows', 0):,} rows moved, {retention.get('bytes', 0) / 1e6:.1f} MB"
    return moved + (f", {retention['failures']} failures" if retention.get("failures") else "")


def _troubles(troubles: Mapping[str, str]) -> str:
    return "".join(f"; {what}: {why}" for what, why in troubles.items())
