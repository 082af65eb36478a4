from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from daemon.table import LastCandle, PairRow, line, render, row

BTC = PairRow(
    pair="binance:spot:BTCUSDT",
    price=97_123.45,
    ticks_per_s=33.24,
    venue_ms=0.66,
    journal_p50_ms=1.234,
    journal_p99_ms=3.4,
    subscriber_p50_ms=2.2,
    subscriber_p99_ms=9.0,
    cvd=-12.34567,
    candle=LastCandle(1_760_000_000_000_000_000, 97_000.0, 97_200.5, 96_999.0, 97_100.1, 1_234.567),
    gaps=1,
    restarts=2,
    sink_lag={"redis": 7},
    rss_bytes=84_000_000,
)
NEW = PairRow(pair="binance:spot:SHIBUSDT", price=0.00001234, note="recovering")


def drawn(rows: list[PairRow], width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(render(rows, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_one_line_per_pair_with_nothing_cut_off(width: int) -> None:
    text = drawn([BTC, NEW], width)
    assert "…" not in text.replace("rec…", "")  # a note may be cut, a number never
    assert all(len(one) <= width for one in text.splitlines())
    (btc,) = [one for one in text.splitlines() if one.startswith("BTCUSDT")]
    for value in ("97123.45", "33.2", "1.2/3.4", "2.2/9.0", "-12.346", "08:53", "97100.1"):
        assert value in btc.split()
    assert btc.split()[-2:] == ["1", "2"]
    assert ("97200.5" in btc) == (width >= 120)  # the whole candle where there is room


def test_what_all_pairs_share_stands_in_the_heading() -> None:
    assert "binance:spot" in drawn([BTC, NEW], 100).split()
    mixed = drawn([BTC, replace(NEW, pair="other:spot:X")], 200)
    assert "binance:spot:BTCUSDT" in mixed
    assert "other:spot:X" in mixed


def test_no_pairs_are_an_empty_table() -> None:
    assert "pair" in drawn([], 80)


def test_a_line_has_everything_and_no_blank_within_a_value() -> None:
    assert line(BTC).split(" ") == [
        "binance:spot:BTCUSDT",
        "last=97123.45",
        "ticks/s=33.2",
        "venue=0.7",
        "journal=1.2/3.4",
        "subscriber=2.2/9.0",
        "cvd=-12.346",
        "1m=08:53",
        "open=97000",
        "high=97200.5",
        "low=96999",
        "close=97100.1",
        "volume=1234.6",
        "gaps=1",
        "restarts=2",
        "lag.redis=7",
        "rss_mb=84",
    ]
    assert line(NEW) == "binance:spot:SHIBUSDT last=0.00001234 gaps=0 restarts=0 note=recovering"


def test_a_row_is_read_from_what_an_actor_reports() -> None:
    report = {
        "pair": "binance:spot:BTCUSDT",
        "last_price": 97_123.45,
        "latency_ms": [1.0, 2.0],
        "cvd": None,
        "last_candle": BTC.candle._asdict() | {"vwap": 1.0} if BTC.candle else None,
        "gaps": 3,
        "restarts": 1,
        "sinks": {"redis": {"connected": True, "acked": 5, "lag": 9}},
        "rss_bytes": 1,
    }
    read = row(report)
    assert (read.price, read.journal_p50_ms, read.journal_p99_ms) == (97_123.45, 1.0, 2.0)
    assert (read.candle, read.gaps, read.restarts, read.sink_lag) == (BTC.candle, 3, 1, {"redis": 9})
    assert row({"pair": "a:spot:B", "state": "failed", "error": "disk"}).note == "failed: disk"
