"""What a person sees of the pairs: a table on a terminal, lines anywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from market.times import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "-"


class LastCandle(NamedTuple):
    ts_ns: int  # open time
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One pair now; None is what is not known yet, latencies are of the last seconds.

    `gaps` and `restarts` count since the daemon began; `sink_lag` (events behind) and `rss_bytes` are for
    status; `note` is what else there is to say, e.g. `recovering`.
    """

    pair: str
    note: str = ""
    price: float | None = None
    ticks_per_s: float | None = None
    venue_ms: float | None = None  # of the last trade: exchange time → frame received
    journal_p50_ms: float | None = None  # frame received → on disk
    journal_p99_ms: float | None = None
    subscriber_p50_ms: float | None = None  # frame received → in a subscriber's hands
    subscriber_p99_ms: float | None = None
    cvd: float | None = None
    candle: LastCandle | None = None  # the last one closed, of 1m
    gaps: int = 0
    restarts: int = 0
    sink_lag: Mapping[str, int] = field(default_factory=dict)
    rss_bytes: int = 0


def row(report: Mapping[str, Any]) -> PairRow:
    """Read what a pair's actor says of itself, which is little while it starts or recovers."""
    state, error = report.get("state", ""), report.get("error", "")
    journal = report.get("latency_ms") or (None, None)
    candle = report.get("last_candle")
    return PairRow(
        pair=report["pair"],
        note=f"{state}: {error}" if error else state,
        price=report.get("last_price"),
        venue_ms=report["tick_lag_ns"] / NS_PER_MS if report.get("tick_lag_ns") is not None else None,
        journal_p50_ms=journal[0],
        journal_p99_ms=journal[1],
        cvd=report.get("cvd"),
        candle=LastCandle(*(candle[name] for name in LastCandle._fields)) if candle else None,
        gaps=report.get("gaps", 0),
        restarts=report.get("restarts", 0),
        sink_lag={name: sink["lag"] for name, sink in report.get("sinks", {}).items()},
        rss_bytes=report.get("rss_bytes", 0),
    )


WIDE = 120
HEADINGS = {
    "ticks/s": "ticks\n/s",
    "venue": "venue\nms",
    "journal": "journal\nms",
    "subscriber": "sub-\nscriber\nms",
    "restarts": "re-\nstarts",
}
CAPTION = "venue: ms from the last trade to its frame's arrival; journal, subscriber: from there on, p50/p99"


def render(rows: Sequence[PairRow], width: int, below: Sequence[str] = ()) -> Table:
    """Lay the rows out for a terminal, `below` them lines of text; a narrow one shows less of a candle."""
    from rich.table import Table  # noqa: PLC0415  `status` answers without it

    table = Table(
        box=None,
        pad_edge=False,
        collapse_padding=True,
        caption="\n".join([CAPTION, *below]),
        caption_justify="left",
        width=width,
    )
    wide = width >= WIDE
    venue, names = _names(rows)
    table.add_column(venue, no_wrap=True, ratio=1)
    for name in _columns(wide=wide):
        table.add_column(HEADINGS.get(name, name), justify="right", no_wrap=True)
    for row, name in zip(rows, names, strict=True):
        style = "yellow" if row.gaps or row.restarts else ""
        table.add_row(f"{name} {row.note}".rstrip(), *_cells(row, wide=wide), style=style)
    return table


def line(row: PairRow) -> str:
    """Write what is known of a row as name=value, in one line for logs, pipes and `marketd status`."""
    named = zip(_columns(wide=True), _cells(row, wide=True), strict=True)
    facts = [f"{name}={value}" for name, value in named if value != NOTHING]
    facts += [f"lag.{sink}={lag}" for sink, lag in row.sink_lag.items()]
    facts += [f"rss_mb={row.rss_bytes / 1e6:.0f}"] if row.rss_bytes else []
    facts += [f"note={row.note}"] if row.note else []
    return " ".join([row.pair, *facts])


def _names(rows: Sequence[PairRow]) -> tuple[str, list[str]]:
    """Take what all pairs share, `binance:spot`, into the heading."""
    venues = {row.pair.rpartition(":")[0] for row in rows}
    if len(venues) != 1:
        return "pair", [row.pair for row in rows]
    return venues.pop(), [row.pair.rpartition(":")[2] for row in rows]


def _columns(*, wide: bool) -> tuple[str, ...]:
    candle = ("open", "high", "low", "close", "volume") if wide else ("close",)
    venue = ("venue",) if wide else ()
    return ("last", "ticks/s", *venue, "journal", "subscriber", "cvd", "1m", *candle, "gaps", "restarts")


def _cells(row: PairRow, *, wide: bool) -> tuple[str, ...]:
    return (
        _price(row.price),
        NOTHING if row.ticks_per_s is None else f"{row.ticks_per_s:.1f}",
        *([NOTHING if row.venue_ms is None else f"{row.venue_ms:.1f}"] if wide else []),
        _spread(row.journal_p50_ms, row.journal_p99_ms),
        _spread(row.subscriber_p50_ms, row.subscriber_p99_ms),
        _amount(row.cvd),
        *_candle(row.candle, wide=wide),
        str(row.gaps),
        str(row.restarts),
    )


def _price(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.10f}".rstrip("0").rstrip(".")


def _amount(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.5g}"


def _spread(p50: float | None, p99: float | None) -> str:
    return NOTHING if p50 is None or p99 is None else f"{p50:.1f}/{p99:.1f}"


def _candle(candle: LastCandle | None, *, wide: bool) -> tuple[str, ...]:
    if candle is None:
        return (NOTHING,) * (6 if wide else 2)
    time = datetime.fromtimestamp(candle.ts_ns // NS_PER_S, UTC).strftime("%H:%M")
    if not wide:
        return (time, _price(candle.close))
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (time, *map(_price, prices), _amount(candle.volume))
