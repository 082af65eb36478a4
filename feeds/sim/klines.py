"""Candles as the venue's REST prints them, summed exactly in integers."""

from __future__ import annotations

from typing import Any

from feeds.sim.tape import E8, Columns, decimal_text
from market.times import DAY_NS, NS_PER_MS, NS_PER_S

_UNITS_NS = {"s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3_600 * NS_PER_S, "d": DAY_NS, "w": 7 * DAY_NS}
_INTERVALS = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w")
INTERVALS_NS = {text: int(text[:-1]) * _UNITS_NS[text[-1]] for text in _INTERVALS}
"""The venue's, but for the calendar month."""
_MONDAY_NS = 4 * DAY_NS  # the epoch was a Thursday


def open_ns(ts_ns: int, width_ns: int) -> int:
    """Give the start of the bar that holds the time, in UTC; weeks begin on Monday."""
    offset_ns = _MONDAY_NS if width_ns == INTERVALS_NS["1w"] else 0
    return ts_ns - (ts_ns - offset_ns) % width_ns


def kline(columns: Columns, bar_ns: int, width_ns: int, previous_close_e8: int) -> list[Any]:
    """Write one bar; without trades it is flat at the previous close."""
    price_e8, size_e8, makers = columns
    if not len(price_e8):
        return _row(bar_ns, width_ns, (previous_close_e8,) * 4, (0, 0, 0, 0, 0))
    quote = price_e8.astype(object) * size_e8  # Python integers: 1e-16 does not fit 64 bits
    bought = ~makers
    prices = (price_e8[0], price_e8.max(), price_e8.min(), price_e8[-1])
    sums = (size_e8.sum(), quote.sum() // E8, len(quote), size_e8[bought].sum(), quote[bought].sum() // E8)
    return _row(bar_ns, width_ns, tuple(map(int, prices)), tuple(map(int, sums)))


def _row(bar_ns: int, width_ns: int, prices_e8: tuple[int, ...], sums: tuple[int, ...]) -> list[Any]:
    volume, quote, count, bought, bought_quote = sums
    return [
        bar_ns // NS_PER_MS,
        *map(decimal_text, prices_e8),
        decimal_text(volume),
        (bar_ns + width_ns) // NS_PER_MS - 1,
        decimal_text(quote),
        count,
        decimal_text(bought),
        decimal_text(bought_quote),
        "0",
    ]
