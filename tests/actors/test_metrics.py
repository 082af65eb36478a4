from __future__ import annotations

from typing import Any

from actors.health import HealthService
from actors.metrics import METRICS, observations, samples

PAIR = {
    "pair": "binance:spot:BTCUSDT",
    "state": "streaming",
    "ticks": 70,
    "reconnects": 1,
    "rejected": 2,
    "restarts": 3,
    "gaps": 5,
    "gaps_open": 1,
    "gaps_unfillable": 2,
    "tick_lag_ns": 1_500_000,
    "rss_bytes": 9,
    "sinks": {"redis": {"lag": 4, "lag_s": 0.5}, "lancedb": {"lag": 0, "lag_s": 0.0}},
}
OTHER = {"pair": "binance:spot:ETHUSDT", "state": "recovering", "sinks": {"redis": {"lag": 6, "lag_s": 0.25}}}


def values(name: str, *reports: dict[str, Any], **supervisors: dict[str, Any]) -> dict[str, float]:
    found = [one for one in samples(reports, supervisors) if one.name == name]
    return {",".join(one.labels.values()): one.value for one in found}


def test_every_name_of_the_contract_is_there() -> None:
    assert {one.name for one in METRICS} >= {
        "marketd_ticks_total",
        "marketd_tick_lag_seconds",
        "marketd_journal_sync_seconds",
        "marketd_flush_seconds",
        "marketd_publish_latency_seconds",
        "marketd_sink_lag_rows",
        "marketd_sink_lag_seconds",
        "marketd_gaps_total",
        "marketd_reconnects_total",
        "marketd_rejected_total",
        "marketd_pair_restarts_total",
    }


def test_what_a_pair_says_becomes_figures() -> None:
    btc, eth = str(PAIR["pair"]), str(OTHER["pair"])
    assert values("marketd_ticks_total", PAIR, OTHER) == {btc: 70}
    assert values("marketd_tick_lag_seconds", PAIR, OTHER) == {btc: 0.0015}
    assert values("marketd_gaps_total", PAIR) == {
        f"{btc},OPEN": 1,
        f"{btc},UNFILLABLE": 2,
        f"{btc},FILLED": 2,
    }
    assert values("marketd_streaming", PAIR, OTHER) == {btc: 1.0, eth: 0.0}
    assert values("marketd_sink_lag_rows", PAIR, OTHER) == {"redis": 10, "lancedb": 0}
    assert values("marketd_sink_lag_seconds", PAIR, OTHER) == {"redis": 0.5, "lancedb": 0.0}
    assert values("marketd_rss_bytes", PAIR, health={"rss_bytes": 7}) == {
        f"pair:{btc}": 9,
        "supervisor:health": 7,
    }


def test_a_series_is_observed_once_and_begins_anew_with_its_process() -> None:
    def new(count: int, newest: list[float], seen: int) -> tuple[int, list[float]]:
        told, found = observations({"s": (count, newest)}, seen, "s", "m", {})
        return told, [one.value for one in found]

    assert new(3, [0.1, 0.2, 0.3], 0) == (3, [0.1, 0.2, 0.3])
    assert new(4, [0.2, 0.3, 0.4], 3) == (4, [0.4])
    assert new(4, [0.2, 0.3, 0.4], 4) == (4, [])
    assert new(900, [0.8, 0.9], 4) == (900, [0.8, 0.9])  # what fell out between is not made up
    assert new(1, [0.5], 900) == (1, [0.5])  # another process
    assert observations({}, 7, "s", "m", {}) == (0, [])


class Meter:
    """One metric that writes down what it is told."""

    def __init__(self, kind: str, name: str, *_: object) -> None:
        self.kind, self.name = kind, name
        self.told: list[float] = []

    def take(self, value: float, tags: dict[str, str]) -> None:
        assert all(isinstance(text, str) for text in tags.values())
        self.told.append(value)

    inc = set = observe = take


def test_a_total_is_added_up_from_what_it_rose() -> None:
    made: dict[str, Meter] = {}

    def create(kind: str, name: str, told: str, labels: tuple[str, ...]) -> Meter:
        made[name] = Meter(kind, name, told, labels)
        return made[name]

    service = HealthService(create)
    for ticks in (70, 70, 90, 5):  # 5: another life of the record
        service.observe([PAIR | {"ticks": ticks, "flush_s": (2, [0.1, 0.2])}], {"retention": {"rows": 3}})
    assert made["marketd_ticks_total"].told == [70, 20, 5]
    assert made["marketd_flush_seconds"].told == [0.1, 0.2]
    assert made["marketd_archived_rows_total"].told == [3]
    assert made["marketd_sink_lag_rows"].told == [4, 0] * 4
