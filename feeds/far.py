"""A trade whose id is far ahead of all others is not believed alone. Pure."""

from __future__ import annotations

import numpy as np

from feeds.holes import by_id
from market.ticks import EMPTY, Ticks

FAR = 10_000_000  # ids; what a busy pair trades in days


class Far:
    """Hold what is far ahead until another trade stands by it, or the ids go on where they were.

    Believed at once, one wrong id would make an endless hole, with all that is traded from then on inside.
    """

    def __init__(self) -> None:
        self._held: Ticks = EMPTY

    def sift(self, ticks: Ticks, next_id: int | None) -> tuple[Ticks, list[int]]:
        """Return what is believed of the socket's ticks, and the ids that are refused for good."""
        if next_id is None or not len(ticks):
            return ticks, []
        far = ticks["trade_id"] > next_id + FAR
        if not len(self._held) and not far.any():
            return ticks, []
        near, held = ticks[~far], by_id(self._held, ticks[far])
        self._held = EMPTY
        if (near["trade_id"] >= next_id).any():
            return near, held["trade_id"].tolist()
        if len(held) > 1:
            return np.concatenate([near, held]), []
        self._held = held
        return near, []
