"""Recorded trades with contiguous ids: what is new, and what is missing between. Pure."""

from __future__ import annotations

import numpy as np

from market.inputs import Began, GapClosed, GapOpened, Input, TickBatch
from market.ticks import Ticks

NOBODY = "not in the files, and a replay asks nobody"


class Runs:
    """Go on with a record; `next_id` None: there is none yet."""

    def __init__(self, next_id: int | None, last_ts_ns: int) -> None:
        self.next_id, self._last_ts_ns = next_id, last_ts_ns
        self.duplicates = 0

    def cut(self, ticks: Ticks, now_ns: int) -> list[Input]:
        """Take ticks sorted by id: cut what is new at every jump, and name what is missing there."""
        ticks, out = self._fresh(ticks), list[Input]()
        cuts = np.flatnonzero(np.diff(ticks["trade_id"]) != 1) + 1
        for run in np.split(ticks, cuts):
            if len(run):
                out += self._step_to(run, now_ns)
        return out

    def _fresh(self, ticks: Ticks) -> Ticks:
        """Drop what the record already has."""
        ids = ticks["trade_id"]
        keep = np.diff(ids, prepend=-1) != 0
        if self.next_id is not None:
            keep &= ids >= self.next_id
        fresh: Ticks = ticks[keep]
        self.duplicates += len(ticks) - len(fresh)
        return fresh

    def _step_to(self, run: Ticks, now_ns: int) -> list[Input]:
        first, out = int(run["trade_id"][0]), list[Input]()
        if self.next_id is None:
            out.append(Began(first))
        elif first > self.next_id:
            gap, missing = self.next_id, first - self.next_id
            until_ns = int(run["ts_ns"][0])
            out.append(GapOpened(gap, first - 1, self._last_ts_ns, until_ns, now_ns, "ids jumped"))
            out.append(GapClosed(gap, now_ns, missing, NOBODY))
        self.next_id, self._last_ts_ns = int(run["trade_id"][-1]) + 1, int(run["ts_ns"][-1])
        return [*out, TickBatch(run)]
