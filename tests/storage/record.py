"""A pair's whole record made the slow, plain way: one trade at a time, sums as fractions."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import orjson

from market.rows import Candle, EventRow, GapRow, OrderFlow, Row, Rows, TickRows, timeframe_text
from market.ticks import Ticks
from market.times import DAY_NS, NS_PER_S, rfc3339

Trade = tuple[int, int, float, float, int, int]  # id, time, price, size, received, side
Opened = dict[str, list[Row]]


def record(ticks: Ticks, timeframes_s: tuple[int, ...]) -> tuple[Rows, Opened]:
    """Make every row of ticks in the order of their seq; the last bar of each table stays open."""
    rows, opened = Rows(ticks=[TickRows(1, ticks)]), Opened()
    trades = sorted(ticks.tolist(), key=lambda trade: (trade[1], trade[0]))
    tables = {f"candles_{timeframe_text(tf)}": candles(trades, tf * NS_PER_S) for tf in timeframes_s}
    for table, bars in tables.items():
        keep(rows, opened, table, [*bars])
        for bar in bars[:-1]:
            seq = len(rows.inserted.get("events", ())) + 1
            rows.insert(
                "events", announcement(seq, "CANDLE_CLOSED", bar, timeframe=table.removeprefix("candles_"))
            )
    flow = order_flow(trades)
    keep(rows, opened, "order_flow", [*flow])
    for minute in flow[:-1]:
        rows.insert("events", announcement(len(rows.inserted["events"]) + 1, "ORDER_FLOW", minute))
    return rows, opened


def keep(rows: Rows, opened: Opened, table: str, bars: list[Row]) -> None:
    rows.inserted[table] = bars[:-1]
    last = bars[-1]
    opened[table] = [last._replace(is_complete=False) if isinstance(last, Candle) else last]


def announcement(seq: int, event: str, row: Candle | OrderFlow, **more: str) -> EventRow:
    fields = row._asdict()
    data = orjson.dumps({"timestamp": rfc3339(fields.pop("ts_ns"))} | fields | more)
    return EventRow(seq, row.ts_ns, event, data)


def keep_gap(rows: Rows, gap: GapRow) -> None:
    """Add a gap, and the event that told of it as it is."""
    fields = gap._asdict()
    for name, column in (
        ("from_ns", "from_time"),
        ("to_ns", "to_time"),
        ("detected_ns", "detected_at"),
        ("filled_ns", "filled_at"),
    ):
        ts_ns = fields.pop(name)
        fields[column] = None if ts_ns is None else rfc3339(ts_ns)
    name = "DATA_GAP_FILLED" if gap.status == "FILLED" else "DATA_GAP"
    rows.insert("data_gaps", gap)
    rows.insert(
        "events", EventRow(len(rows.inserted["events"]) + 1, gap.detected_ns, name, orjson.dumps(fields))
    )


def by_bar(trades: list[Trade], width_ns: int) -> dict[int, list[Trade]]:
    """Group trades by the bar they fall into, the bars without trades among them."""
    bars: defaultdict[int, list[Trade]] = defaultdict(list)
    for trade in trades:
        bars[trade[1] - trade[1] % width_ns].append(trade)
    for a, b in pairwise(sorted(bars)):
        for between in range(a + width_ns, b, width_ns):
            bars[between] = []
    return dict(sorted(bars.items()))


def total(trades: list[Trade], side: int | None = None) -> float:
    return float(sum(Fraction(trade[3]) for trade in trades if side is None or trade[5] == side))


def candles(trades: list[Trade], width_ns: int) -> list[Candle]:
    made: list[Candle] = []
    for start_ns, part in by_bar(trades, width_ns).items():
        if not part:
            close = made[-1].close
            made.append(Candle(start_ns, close, close, close, close, 0.0, 0.0, 0.0, close, 0, True, 0))
            continue
        prices = [trade[2] for trade in part]
        worth = sum(Fraction(trade[2]) * Fraction(trade[3]) for trade in part)
        vwap = float(worth / sum(Fraction(trade[3]) for trade in part))
        made.append(
            Candle(
                start_ns,
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
                total(part),
                total(part, 1),
                total(part, -1),
                vwap,
                len(part),
                is_complete=True,
                revision=0,
            ),
        )
    return made


def order_flow(trades: list[Trade]) -> list[OrderFlow]:
    made: list[OrderFlow] = []
    cvd, day = Fraction(0), -1
    for start_ns, part in by_bar(trades, 60 * NS_PER_S).items():
        if start_ns // DAY_NS != day:
            cvd, day = Fraction(0), start_ns // DAY_NS
        delta = sum((Fraction(trade[3]) * trade[5] for trade in part), Fraction(0))
        cvd += delta
        buy, sell = total(part, 1), total(part, -1)
        ratio = buy / sell if sell else None
        made.append(OrderFlow(start_ns, buy, sell, float(delta), float(cvd), ratio, len(part)))
    return made
