"""The reports of all processes as Prometheus metrics, at Ray's endpoint, which puts `ray_` before names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from actors.metrics import METRICS, Report, Sample, observations, samples
from actors.priority import Place, take
from actors.supervise import vitals

BUCKETS_S = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]
_PAIR_SERIES = {"journal_s": "marketd_journal_sync_seconds", "flush_s": "marketd_flush_seconds"}


class HealthService:
    """Turn reports into metrics; `create(kind, name, told, labels)` makes one of Ray's."""

    def __init__(self, create: Callable[[str, str, str, tuple[str, ...]], Any]) -> None:
        self._metrics = {one.name: create(one.kind, one.name, one.told, one.labels) for one in METRICS}
        self._kinds = {one.name: one.kind for one in METRICS}
        self._totals: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self.observed = 0

    def observe(self, pairs: Sequence[Report], supervisors: Mapping[str, Report]) -> None:
        """Take over what everybody said last."""
        for sample in samples(pairs, supervisors):
            self._take(sample)
        for report in pairs:
            for series, metric in _PAIR_SERIES.items():
                self._series(report, report["pair"], series, metric, {"pair": report["pair"]})
        if signal := supervisors.get("signal"):
            self._series(signal, "signal", "publish_s", "marketd_publish_latency_seconds", {})
        self.observed += 1

    def _series(self, report: Report, whose: str, series: str, metric: str, labels: dict[str, str]) -> None:
        key = whose, series
        self._seen[key], fresh = observations(report, self._seen.get(key, 0), series, metric, labels)
        for sample in fresh:
            self._metrics[metric].observe(sample.value, tags=labels)

    def _take(self, sample: Sample) -> None:
        metric = self._metrics[sample.name]
        if self._kinds[sample.name] == "gauge":
            metric.set(sample.value, tags=sample.labels)
        elif (grown := self._grown(sample)) > 0:
            metric.inc(grown, tags=sample.labels)

    def _grown(self, sample: Sample) -> float:
        """Say how much a total rose; one that fell began anew."""
        key = sample.name, str(sorted(sample.labels.items()))
        before = self._totals.get(key, 0.0)
        self._totals[key] = sample.value
        return sample.value - before if sample.value >= before else sample.value


class HealthSupervisor:
    """The service as an actor's class; whoever watches the processes tells it what they said."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        prepare()
        take(Place.LAST)
        self._service = HealthService(_create)

    async def observe(self, told: bytes) -> None:
        """Take `told`, the reports of the pairs and, by name, of the supervisors, as JSON."""
        self._service.observe(*orjson.loads(told))

    async def status(self) -> bytes:
        return orjson.dumps(vitals() | {"observed": self._service.observed})

    async def stop(self) -> None:
        """Do nothing: it holds nothing."""


def _create(kind: str, name: str, told: str, labels: tuple[str, ...]) -> Any:
    from ray.util import metrics  # noqa: PLC0415 - only in the actor's process

    if kind == "histogram":
        return metrics.Histogram(name, told, boundaries=BUCKETS_S, tag_keys=labels)
    return {"counter": metrics.Counter, "gauge": metrics.Gauge}[kind](name, told, tag_keys=labels)
