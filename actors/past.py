"""The way back: a state before some ticks, and how all that followed is folded anew. Pure."""

from __future__ import annotations

from actors.folds import Folds
from actors.history import History, Numbered, Span, first_key, key_of, late_since, replayed
from actors.restate import Run
from actors.state import CoreState, load
from market.ticks import Ticks


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

    def rewound(self, ticks: Ticks) -> tuple[Span, Numbered]:
        """Find a state from which all since `ticks` can be folded anew, and what came late after it."""
        ts_ns, first = int(ticks["ts_ns"].min()), first_key(ticks)
        while True:
            span = self._span(ts_ns)
            if span.edge[0] >= 0 and self._lacks_timeframes(span):
                ts_ns = 0  # one was added later: only the beginning has it
                continue
            late = late_since(span)
            least = min(first, key_of(late.ticks[0])) if len(late.ticks) else first
            if least > span.edge:
                return span, late
            ts_ns = min(least[0], span.edge[0] - 1)

    def folds_of(self, span: Span) -> Folds:
        """Load what of a rewound state is of today's kind; from the archive only plain folds can begin."""
        state, timeframes_s = self._state, self._state.folds.timeframes_s
        if not span.rewind.state:
            folds = Folds.plain(timeframes_s, state.params)
        elif span.edge[0] < 0:
            folds = Folds.new(timeframes_s, state.params)
        else:
            folds = load(span.rewind.state).folds
            folds.set_timeframes(timeframes_s)
            folds.drop(folds.foreign(state.params))
        folds.know(state.ledger.tick_sizes, 0)
        return folds

    def _lacks_timeframes(self, span: Span) -> bool:
        return bool(load(span.rewind.state).folds.set_timeframes(self._state.folds.timeframes_s))
