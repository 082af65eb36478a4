"""What the processes say of themselves, as figures with names, units and labels. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from market.times import NS_PER_S

Report = Mapping[str, Any]


class Metric(NamedTuple):
    """A name of the contract: its kind, its labels, and what it tells."""

    name: str
    kind: str  # counter, gauge or histogram
    labels: tuple[str, ...]
    told: str


class Sample(NamedTuple):
    """A counter's total so far, a gauge's value, or one observation of a histogram."""

    name: str
    labels: dict[str, str]
    value: float


METRICS = (
    Metric("marketd_ticks_total", "counter", ("pair",), "Trades in the pair's record"),
    Metric("marketd_tick_lag_seconds", "gauge", ("pair",), "Receive minus exchange time of the last trade"),
    Metric("marketd_journal_sync_seconds", "histogram", ("pair",), "From a batch to its sync on the disk"),
    Metric("marketd_flush_seconds", "histogram", ("pair",), "One transaction of the pair's DuckDB file"),
    Metric("marketd_publish_latency_seconds", "histogram", (), "From a frame's arrival to Redis's answer"),
    Metric(
        "marketd_sink_lag_rows", "gauge", ("sink",), "Rows of all pairs that the store has not acknowledged"
    ),
    Metric("marketd_sink_lag_seconds", "gauge", ("sink",), "Age of the oldest of them"),
    Metric("marketd_gaps_total", "gauge", ("pair", "status"), "Holes found since the record began"),
    Metric("marketd_reconnects_total", "counter", ("pair",), "Connections to the venue after the first"),
    Metric("marketd_rejected_total", "counter", ("pair",), "Frames and trades that were refused"),
    Metric("marketd_pair_restarts_total", "counter", ("pair",), "Times that the pair's process came back"),
    Metric("marketd_rss_bytes", "gauge", ("process",), "Resident memory of each process of ours"),
    Metric("marketd_streaming", "gauge", ("pair",), "1 while the pair's feed is connected and complete"),
    Metric("marketd_archived_rows_total", "counter", (), "Rows moved into the archive"),
    Metric("marketd_sweep_failures_total", "counter", (), "Sweeps that a disk or a pair refused"),
)

_COUNTED = {
    "ticks": "marketd_ticks_total",
    "reconnects": "marketd_reconnects_total",
    "rejected": "marketd_rejected_total",
    "restarts": "marketd_pair_restarts_total",
}


def samples(pairs: Sequence[Report], supervisors: Mapping[str, Report]) -> Iterator[Sample]:
    """Read every figure but the histograms out of the reports; what a report does not say is left out."""
    for report in pairs:
        yield from _pair(report)
    yield from _lags(pairs)
    for name, report in supervisors.items():
        if "rss_bytes" in report:
            yield Sample("marketd_rss_bytes", {"process": f"supervisor:{name}"}, report["rss_bytes"])
    if retention := supervisors.get("retention"):
        yield Sample("marketd_archived_rows_total", {}, retention.get("rows", 0))
        yield Sample("marketd_sweep_failures_total", {}, retention.get("failures", 0))


def observations(
    report: Report, seen: int, series: str, metric: str, labels: dict[str, str]
) -> tuple[int, list[Sample]]:
    """Read what is new in a report's series of durations since its `seen`-th; return the new count too.

    A series is (count so far, the newest durations in seconds); one that begins anew counts less than before.
    """
    count, newest = report.get(series) or (0, ())
    fresh = count - (seen if seen <= count else 0)
    new = newest[max(0, len(newest) - fresh) :] if fresh else ()
    return count, [Sample(metric, labels, value) for value in new]


def _pair(report: Report) -> Iterator[Sample]:
    pair = {"pair": report["pair"]}
    for key, name in _COUNTED.items():
        if key in report:
            yield Sample(name, pair, report[key])
    if "gaps" in report:
        unfilled = report["gaps_open"], report.get("gaps_unfillable", 0)
        for status, value in zip(
            ("OPEN", "UNFILLABLE", "FILLED"), (*unfilled, report["gaps"] - sum(unfilled)), strict=True
        ):
            yield Sample("marketd_gaps_total", pair | {"status": status}, value)
    if report.get("tick_lag_ns") is not None:
        yield Sample("marketd_tick_lag_seconds", pair, report["tick_lag_ns"] / NS_PER_S)
    if "rss_bytes" in report:
        yield Sample("marketd_rss_bytes", {"process": f"pair:{report['pair']}"}, report["rss_bytes"])
    yield Sample("marketd_streaming", pair, float(report.get("state") == "streaming"))


def _lags(pairs: Sequence[Report]) -> Iterator[Sample]:
    """Add up what each store lacks, and take the longest it lacks anything."""
    rows: dict[str, float] = {}
    ages_s: dict[str, float] = {}
    for report in pairs:
        for sink, lag in report.get("sinks", {}).items():
            rows[sink] = rows.get(sink, 0) + lag["lag"]
            ages_s[sink] = max(ages_s.get(sink, 0.0), lag["lag_s"])
    for sink, value in rows.items():
        yield Sample("marketd_sink_lag_rows", {"sink": sink}, value)
        yield Sample("marketd_sink_lag_seconds", {"sink": sink}, ages_s[sink])
