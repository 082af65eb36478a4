"""The streams of a pair's rows that stores of history follow, by the names on their lanes."""

from __future__ import annotations

TICKS, CANDLES = "ticks", "candles"
"""Ticks are numbered by `ticks.seq`, complete bars by the `events.seq` that announced them."""
