from __future__ import annotations

from typing import Any

from daemon.stores import lines


def _lag(rows: int, age_s: float) -> dict[str, Any]:
    return {"lag": rows, "lag_s": age_s}


STATUS: dict[str, Any] = {
    "pairs": [
        {"pair": "a", "sinks": {"redis": _lag(1, 0.2), "questdb.trades": _lag(700, 2.5)}},
        {
            "pair": "b",
            "sinks": {
                "redis": _lag(0, 0.0),
                "questdb.trades": _lag(800, 61.0),
                "questdb.ohlcv": _lag(3, 0.1) | {"error": "x.parquet is damaged"},
            },
        },
        {"pair": "c", "state": "recovering"},
    ],
    "supervisors": {
        "signal": {"reached": True, "refused": {"a": "OOM"}},
        "questdb": {"reached": False, "error": "connection refused", "rows": 12_345, "rejected": 2},
        "retention": {"rows": 7_000, "bytes": 35_000, "failures": 1, "troubles": {"pair:a": "no space left"}},
    },
    "servers": {"redis": {"restarts": 0, "error": ""}, "questdb": {"restarts": 2, "error": "no Java"}},
    "data_dir": "/data",
    "dashboard": "http://127.0.0.1:8265",
    "questdb_console": "",
}


def test_every_store_has_its_line_with_what_is_wrong() -> None:
    assert lines(STATUS) == [
        "redis: 1 behind; a: OOM",
        (
            "questdb: trades 1,500 behind for 61.0 s, ohlcv 3 behind (x.parquet is damaged)"
            ", 12,345 rows written, 2 rejected; connection refused"
        ),
        "archive: 7,000 rows moved, 0.0 MB, 1 failures; pair:a: no space left",
        "questdb server: no Java, started again 2 times",
        "Ray dashboard: http://127.0.0.1:8265",
        "its token: /data/run/ray-token",
    ]


def test_nothing_known_yet_is_nothing_said() -> None:
    assert lines({"pairs": [{"pair": "a", "state": "starting"}], "supervisors": {}, "servers": {}}) == []
