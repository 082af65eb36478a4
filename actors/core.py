"""The pair's engine, pure: journal inputs in; rows, events and state out. No clock, no disk, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from actors import holes
from actors.cutting import cut, parted, silence_ns, spread
from actors.effects import Effects
from actors.facts import Fact
from actors.folds import Folds, Living
from actors.history import History, Numbered, first_key, key_of, numbered, order_of, replayed, together
from actors.past import Past
from actors.restate import Run, changes, forget_equals, moved
from actors.state import (
    DECIDING_TRADES,
    MAX_REVISIONS,
    CoreState,
    dump,
    remember,
    schedule,
)
from analytics.params import AnalyticsParams
from analytics.profile_rows import tick_size_of
from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Instrument,
    Position,
    Quote,
    Rejected,
    TickBatch,
)
from market.rows import Candle, Flags, OrderFlow, QuoteRow, RejectedRow, Row, TickRows
from market.ticks import EMPTY, Ticks
from market.times import DAY_NS, rfc3339

WARM_UP_NS = 2 * DAY_NS


class PairCore:
    """Fold one pair's journal; `contiguous` says whether the venue's ids are."""

    def __init__(self, state: CoreState, history: History, *, contiguous: bool = True) -> None:
        self._state, self._past, self._contiguous = state, Past(state, history), contiguous
        self._out = Effects()
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            TickBatch: self._ticks,
            Quote: self._quote,
            Clock: self._clock,
            Began: self._began,
            GapOpened: lambda hole: holes.opened(self._state.ledger, self._out, hole),
            GapClosed: lambda end: holes.closed(self._state.ledger, self._out, end),
            Rejected: self._rejected,
            FeedStale: self._stale,
            FeedRecovered: self._recovered,
            Instrument: self._instrument,
            Position: self._position,
        }

    @property
    def state(self) -> CoreState:
        return self._state

    def records(self, inputs: Sequence[Input]) -> Iterator[list[Input]]:
        """Cut inputs into journal records; each must be handled before the next is asked for.

        None moves the clock before its own ticks are judged late, none closes more bars or steps than
        memory should hold (a longer silence is crossed by clocks), and one ends with the trade that decides
        the tick size.
        """
        longest_ns = silence_ns(self.timeframes_s, self._state.params.state.step_ns)
        for record in cut(inputs, longest_ns):
            if isinstance(last := record[-1], TickBatch):
                for part in spread(record[:-1], parted(last, self._undecided())):
                    yield from self._with_ticks(part, longest_ns)
                continue
            if isinstance(last, Clock):
                yield from self._crossing(last.ts_ns, longest_ns)
            yield record

    def _with_ticks(self, record: list[Input], longest_ns: int) -> Iterator[list[Input]]:
        """Cross the silence before a record's ticks, and say whether they are late."""
        batch = record[-1]
        assert isinstance(batch, TickBatch)  # noqa: S101 - see records
        yield from self._crossing(int(batch.ticks["ts_ns"].min()), longest_ns)
        ticks, ids = self._numbered(batch)
        yield [*record[:-1], TickBatch(ticks, first_key(ticks) < self._state.edge, ids)]

    def _undecided(self) -> int:
        """Count the trades after which the tick size will be known; 0: it is."""
        ledger = self._state.ledger
        return 0 if ledger.tick_sizes else DECIDING_TRADES - len(ledger.first_prices)

    def _numbered(self, batch: TickBatch) -> tuple[Ticks, tuple[str, ...]]:
        """Let text ids, all ids from the first such on, stand beside the order of arrival, which is seq."""
        ledger, ids = self._state.ledger, batch.ids
        if not ids and not ledger.texts_from:
            return batch.ticks, ()
        ticks = batch.ticks.copy()
        ticks["trade_id"] = np.arange(ledger.next_seq, ledger.next_seq + len(ticks))
        return ticks, ids or tuple(map(str, batch.ticks["trade_id"].tolist()))

    def _crossing(self, end_ns: int, longest_ns: int) -> Iterator[list[Input]]:
        if self._state.folds.closed_ns >= 0:
            for ts_ns in range(self._state.ledger.watermark_ns + longest_ns, end_ns, longest_ns):
                yield [Clock(ts_ns)]

    def handle(self, number: int, inputs: Sequence[Input]) -> Effects:
        """Fold journal record `number`; the numbers must rise by one."""
        self._out = Effects()
        for item in inputs:
            self._handlers[type(item)](item)
        self._state.ledger.position = number
        return self._out

    @property
    def next_close_ns(self) -> int | None:
        return self._state.folds.next_close_ns

    def open_rows(self) -> dict[str, list[Row]]:
        """Show the open bars, for queries."""
        return {table: [row] for table, row in self._state.folds.open_rows().items()}

    def market(self) -> dict[str, str | int | float] | None:
        """Show the pair now: the last trade, best bid and ask, and the UTC day so far."""
        ledger, day = self._state.ledger, self._state.folds.day
        flow = self._state.folds.open_rows().get("order_flow")
        if day is None or not isinstance(flow, OrderFlow):
            return None
        return {
            "price": ledger.last_price,
            "volume": day.volume,
            "bid": ledger.bid,
            "ask": ledger.ask,
            "timestamp": rfc3339(ledger.last_ts_ns),
            "open": day.open,
            "high": day.high,
            "low": day.low,
            "vwap": day.quote_volume / day.volume,
            "cvd": flow.cvd,
        }

    def snapshot(self) -> tuple[int, bytes]:
        """Return the time that was reached, and the whole state."""
        return self._state.edge[0], dump(self._state)

    def living(self) -> Living:
        """Show the gaps and zones that may still change, by table and key."""
        return self._state.folds.living()

    def meta(self) -> dict[str, str]:
        """Say what somebody who proves the record needs to know of how it was made."""
        state = self._state
        told = {"since_ns": state.ledger.since_ns, **msgspec.to_builtins(state.params)}
        out = {"analytics": orjson.dumps(told).decode()}
        if state.ledger.tick_size:
            out["tick_size"] = repr(state.ledger.tick_size)
        if state.ledger.inferred:
            out["sides_inferred"] = str(state.ledger.inferred)
        return out

    @property
    def guess(self) -> Instrument | None:
        """Tell the tick size that the trades so far suggest, while none is known."""
        prices = self._state.ledger.first_prices
        return Instrument(tick_size_of(prices)) if prices and not self._state.ledger.tick_sizes else None

    @property
    def timeframes_s(self) -> tuple[int, ...]:
        return self._state.folds.timeframes_s

    def set_timeframes(self, timeframes_s: tuple[int, ...]) -> Effects:
        """Change the candles that are kept; bars of a new timeframe are computed from the whole journal.

        Their rows are history, so they are written (in place of any of the same time) and not announced.
        """
        folds, out = self._state.folds, Effects()
        if added := folds.set_timeframes(timeframes_s):
            run = self._past.since(Folds.framed(added, self._state.params), 0)
            for fact in run.facts:
                if isinstance(fact.row, Candle):
                    revision = self._state.ledger.revisions.get(_name(fact), 0)  # of a timeframe kept before
                    out.rows.replace(fact.table, fact.row._replace(revision=revision))
            out.keep(run.living)
            folds.adopt(run.folds)
        return out

    def set_params(self, params: AnalyticsParams) -> Effects:
        """Change the parameters; what has others begins anew, from the ticks of the last two days.

        Its old rows stay, the gaps and zones there are now among them; nothing is announced.
        """
        state, out = self._state, Effects()
        state.params = params
        if foreign := state.folds.foreign(params):
            since_ns = max(0, state.ledger.watermark_ns - WARM_UP_NS)
            run = self._past.since(Folds.new(self.timeframes_s, params), since_ns)
            state.folds.drop(foreign)
            state.folds.fill(run.folds)
            out.keep(state.folds.living())
            state.ledger.since_ns = state.ledger.watermark_ns
        out.rows.meta |= self.meta()
        return out

    def _ticks(self, batch: TickBatch) -> None:
        ledger, part = self._state.ledger, numbered(batch.ticks, self._state.ledger.next_seq)
        if batch.ids:
            ledger.texts_from = ledger.texts_from or ledger.next_seq
        else:
            holes.count_ids(ledger, batch.ticks["trade_id"])
        if batch.ids or not self._contiguous:
            ids = batch.ids or tuple(map(str, batch.ticks["trade_id"].tolist()))
            remember(ledger, ids, batch.ticks["ts_ns"].tolist())
        ledger.next_seq += len(batch.ticks)
        flags = self._restate(part) if batch.late else self._follow(part)
        self._out.rows.ticks.append(TickRows(int(part.seq[0]), batch.ticks, batch.ids, flags))
        if not ledger.tick_sizes:
            ledger.first_prices += batch.ticks["price"][: self._undecided()].tolist()
            if len(ledger.first_prices) >= DECIDING_TRADES:
                self._size(tick_size_of(ledger.first_prices))

    def _follow(self, part: Numbered) -> Flags:
        """Fold ticks that are younger than all before; return their flags."""
        order = order_of(part.ticks)
        ticks = part.ticks if order is None else part.ticks[order]
        self._reached(ticks[-1])
        made = self._state.folds.step(ticks)
        self._advance(int(ticks["ts_ns"][-1]), made.facts, ticks)
        if order is None:
            return made.flags
        flags = np.empty_like(made.flags)
        flags[order] = made.flags
        return flags

    def _reached(self, newest: Ticks) -> None:
        """Remember the trade that is the last in order."""
        ledger = self._state.ledger
        if key_of(newest) > (ledger.last_ts_ns, ledger.last_trade):
            ledger.last_ts_ns, ledger.last_trade = key_of(newest)
            ledger.last_price, ledger.last_size = float(newest["price"]), float(newest["size"])

    def _advance(self, ts_ns: int, made: list[Fact], cause: Ticks = EMPTY) -> None:
        ledger = self._state.ledger
        ledger.watermark_ns = max(ledger.watermark_ns, ts_ns)
        self._out.tell(ledger, made, cause)
        if not len(cause) or ts_ns < ledger.watermark_ns:  # else the last tick has closed all that can be
            self._out.tell(ledger, self._state.folds.advance(ledger.watermark_ns), cause)

    def _restate(self, late: Numbered) -> Flags:
        """Go back before late ticks, fold again without and with them, and write what differs."""
        ledger = self._state.ledger
        found = self._past.rewound(late.ticks)
        before, after = Run(self._past.folds_of(found)), Run(self._past.folds_of(found))
        for without, within in replayed(found.span, found.late, together([found.late, late])):
            before.step(without)
            after.step(within)
            forget_equals(before, after)
        before.advance(ledger.watermark_ns)
        order = order_of(late.ticks)
        newest = late.ticks[-1] if order is None else late.ticks[order[-1]]
        self._reached(newest)
        ledger.watermark_ns = max(ledger.watermark_ns, ledger.last_ts_ns)
        after.advance(ledger.watermark_ns)
        if not found.whole:  # bars are made again, and nothing that remembers more
            ledger.since_ns = ledger.watermark_ns
            self._out.rows.meta |= self.meta()
        after.folds.fill(self._state.folds)
        self._state.folds = after.folds
        self._tell_changes(before, after)
        mine = range(int(late.seq[0]), int(late.seq[-1]) + 1)
        changed = (before.outliers ^ after.outliers).difference(mine)
        self._out.rows.flags |= {seq: int(seq in after.outliers) for seq in changed}
        return np.isin(late.seq, list(after.outliers)).astype(np.int8)

    def _tell_changes(self, before: Run, after: Run) -> None:
        for fact, restates in changes(before, after):
            if restates:
                self._revise(fact)
            else:
                self._out.tell(self._state.ledger, [fact])
        for table, key, row in moved(before, after):
            self._out.rows.keep(table, key, row)

    def _revise(self, fact: Fact) -> None:
        if isinstance(fact.row, Candle):
            revisions, name = self._state.ledger.revisions, _name(fact)
            revision = revisions.pop(name, 0) + 1
            revisions[name] = revision
            while len(revisions) > MAX_REVISIONS:
                del revisions[next(iter(revisions))]
            fact = fact._replace(row=fact.row._replace(revision=revision))
        self._out.rows.replace(fact.table, fact.row)
        self._out.announce(self._state.ledger, fact.again, fact.end_ns, fact.payload)

    def _quote(self, quote: Quote) -> None:
        ledger = self._state.ledger
        ledger.bid, ledger.ask = quote.bid_price, quote.ask_price
        row = QuoteRow(
            quote.ts_ns or quote.received_ns,
            quote.bid_price,
            quote.bid_size,
            quote.ask_price,
            quote.ask_size,
            quote.received_ns,
        )
        self._out.rows.insert("quotes", row)

    def _clock(self, clock: Clock) -> None:
        self._advance(clock.ts_ns, [])

    def _began(self, began: Began) -> None:
        self._state.ledger.next_id = began.trade_id

    def _rejected(self, rejected: Rejected) -> None:
        row = RejectedRow(rejected.received_ns, rejected.reason, rejected.raw)
        self._out.rows.insert("rejected", row)

    def _instrument(self, instrument: Instrument) -> None:
        if instrument.tick_size > 0:
            self._size(instrument.tick_size)

    def _size(self, tick_size: float) -> None:
        """Learn the tick size; another one than before counts from the next session on."""
        ledger = self._state.ledger
        if tick_size != ledger.tick_size:
            ledger.tick_size = tick_size
            self._out.rows.meta |= self.meta()
        schedule(ledger, tick_size)
        self._out.tell(ledger, self._state.folds.know(ledger.tick_sizes, ledger.watermark_ns))

    def _position(self, position: Position) -> None:
        ledger = self._state.ledger
        ledger.source = position.text
        if position.inferred != ledger.inferred:
            ledger.inferred = position.inferred
            self._out.rows.meta |= self.meta()

    def _stale(self, stale: FeedStale) -> None:
        self._state.ledger.stale = True
        data = orjson.dumps({"reason": stale.reason, "silent_s": stale.silent_s})
        self._out.announce(self._state.ledger, "FEED_STALE", stale.at_ns, data)

    def _recovered(self, recovered: FeedRecovered) -> None:
        self._state.ledger.stale = False
        self._out.announce(self._state.ledger, "FEED_RECOVERED", recovered.at_ns, b"{}")


def _name(fact: Fact) -> str:
    return f"{fact.table}:{fact.row.ts_ns}"
