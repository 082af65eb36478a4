"""The way back: a state before some ticks, and how all that followed is folded anew. Pure."""

from __future__ import annotations

from typing import NamedTuple

from actors.folds import Folds
from actors.history import History, Key, Numbered, Span, first_key, key_of, late_since, replayed
from actors.restate import Run
from actors.state import CoreState, load
from market.ticks import Ticks

MAX_STEPS = 21_600
"""Of the market state, folded anew in one go: each is a row and an event, without and with what came late."""

LONG_MEMORIES = {"state", "outliers", "gaps", "zones"}


class Rewound(NamedTuple):
    """Where to begin anew, and what came late after that, in order.

    Without `whole` bars, flow and profile are folded anew; what remembers more goes on from the present, as
    if nothing had come late.
    """

    span: Span
    late: Numbered
    whole: bool


class Past:
    """What came before a pair's present state."""

    def __init__(self, state: CoreState, history: History) -> None:
        self._state, self._history = state, history

    def since(self, folds: Folds, ts_ns: int) -> Run:
        """Fold the past anew, as far back as is needed to begin at `ts_ns` or before."""
        span, run = self._span(ts_ns), Run(folds)
        folds.know(self._state.ledger.tick_sizes, 0)
        for (part,) in replayed(span, late_since(span)):
            run.step(part)
        run.advance(self._state.ledger.watermark_ns)
        return run

    def _span(self, ts_ns: int) -> Span:
        rewind = self._history.before(self._state.ledger.position + 1, ts_ns)
        if not rewind.state:
            return Span(rewind, (-1, -1), 0)
        state = load(rewind.state)
        return Span(rewind, state.edge, state.ledger.next_seq)

    def rewound(self, ticks: Ticks) -> Rewound:
        """Find a state from which all since `ticks` can be folded anew."""
        ts_ns, first = int(ticks["ts_ns"].min()), first_key(ticks)
        while True:
            span = self._span(ts_ns)
            if span.edge[0] >= 0 and self._lacks_timeframes(span):
                ts_ns = 0  # one was added later: only the beginning has it
                continue
            late = late_since(span)
            least = min(first, key_of(late.ticks[0])) if len(late.ticks) else first
            if least > span.edge:
                return Rewound(span, late, self._is_whole(span, least, int(ticks["ts_ns"].max())))
            ts_ns = min(least[0], span.edge[0] - 1)

    def folds_of(self, found: Rewound) -> Folds:
        """Load what is to be folded anew, as it was, of today's kind."""
        state, timeframes_s = self._state, self._state.folds.timeframes_s
        if found.span.edge[0] < 0:
            begin = Folds.new if found.whole else Folds.plain
            folds = begin(timeframes_s, state.params)
        else:
            folds = load(found.span.rewind.state).folds
            folds.set_timeframes(timeframes_s)
            folds.drop(folds.foreign(state.params) | (set() if found.whole else LONG_MEMORIES))
        folds.know(state.ledger.tick_sizes, 0)
        return folds

    def _is_whole(self, span: Span, least: Key, newest_ns: int) -> bool:
        """Say whether all is to be folded anew; the archive alone gives no state to begin with."""
        if not span.rewind.state:
            return False
        since_ns, until_ns = span.edge[0], max(self._state.ledger.watermark_ns, newest_ns)
        if since_ns < 0:
            oldest = (int(batch.ticks["ts_ns"].min()) for batch in span.rewind.batches())
            since_ns = min(least[0], next(oldest, least[0]))
        return until_ns - since_ns <= MAX_STEPS * self._state.params.state.step_ns

    def _lacks_timeframes(self, span: Span) -> bool:
        return bool(load(span.rewind.state).folds.set_timeframes(self._state.folds.timeframes_s))
