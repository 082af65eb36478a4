"""The pair's engine, pure: journal inputs in; rows, events and state out. No clock, no disk, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isclose
from typing import Any

import numpy as np
import orjson

from actors.folds import Bar, Folds
from actors.history import History, Rewind, joined, late_since, replayed
from actors.payloads import payload
from actors.state import MAX_RECENT_IDS, MAX_REVISIONS, CoreState, Gap, dump, load
from market.events import Event
from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Instrument,
    Quote,
    Rejected,
    TickBatch,
)
from market.rows import Candle, EventRow, OrderFlow, QuoteRow, RejectedRow, Row, Rows, TickRows
from market.ticks import EMPTY, Ticks, in_order
from market.times import NS_PER_S, rfc3339

SILENCE_BARS = 1_000  # of the shortest timeframe, closed in one go


@dataclass(slots=True)
class Effects:
    """What the shell has to do: write the rows, announce the events."""

    rows: Rows = field(default_factory=Rows)
    events: list[Event] = field(default_factory=list)


class PairCore:
    """Fold one pair's journal; `contiguous` says whether the venue's ids are."""

    def __init__(self, state: CoreState, history: History, *, contiguous: bool = True) -> None:
        self._state, self._history, self._contiguous = state, history, contiguous
        self._out = Effects()
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            TickBatch: self._ticks,
            Quote: self._quote,
            Clock: self._clock,
            Began: self._began,
            GapOpened: self._gap_opened,
            GapClosed: self._gap_closed,
            Rejected: self._rejected,
            FeedStale: self._stale,
            FeedRecovered: self._recovered,
            Instrument: self._instrument,
        }

    @property
    def state(self) -> CoreState:
        return self._state

    def records(self, inputs: Sequence[Input]) -> Iterator[list[Input]]:
        """Cut inputs into journal records; each must be handled before the next is asked for.

        None moves the clock before its own ticks are judged late, and none closes more bars than
        SILENCE_BARS of the shortest timeframe: a longer silence is crossed by clocks.
        """
        silence_ns = SILENCE_BARS * min(self.timeframes_s) * NS_PER_S
        for record in _cut(inputs, silence_ns):
            if isinstance(last := record[-1], TickBatch):
                first_ns = int(last.ticks["ts_ns"].min())
                yield from self._crossing(first_ns, silence_ns)
                record[-1] = self._numbered(last, late=first_ns < self._state.folds.closed_ns)
            elif isinstance(last, Clock):
                yield from self._crossing(last.ts_ns, silence_ns)
            yield record

    def _numbered(self, batch: TickBatch, *, late: bool) -> TickBatch:
        """Let text ids, all ids from the first such on, stand beside the order of arrival, which is seq."""
        ledger, ids = self._state.ledger, batch.ids
        if not ids and not ledger.texts_from:
            return TickBatch(batch.ticks, late)
        ticks = batch.ticks.copy()
        ticks["trade_id"] = np.arange(ledger.next_seq, ledger.next_seq + len(ticks))
        return TickBatch(ticks, late, ids or tuple(map(str, batch.ticks["trade_id"].tolist())))

    def _crossing(self, end_ns: int, silence_ns: int) -> Iterator[list[Input]]:
        if self._state.folds.closed_ns >= 0:
            for ts_ns in range(self._state.ledger.watermark_ns + silence_ns, end_ns, silence_ns):
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
        """Return the time up to which bars are closed, and the whole state."""
        return self._state.folds.closed_ns, dump(self._state)

    @property
    def timeframes_s(self) -> tuple[int, ...]:
        return self._state.folds.timeframes_s

    def set_timeframes(self, timeframes_s: tuple[int, ...]) -> Effects:
        """Change the candles that are kept; bars of a new timeframe are computed from the whole journal.

        Their rows are history, so they are written (in place of any of the same time) and not announced.
        """
        folds, out = self._state.folds, Effects()
        if added := folds.set_timeframes(timeframes_s):
            new = Folds.new(added)
            rewind = self._history.before(self._state.ledger.position + 1, 0)
            bars = [bar for (ticks,) in replayed(rewind, late_since(rewind)) for bar in new.step(ticks)]
            for bar in bars + new.advance(self._state.ledger.watermark_ns):
                if isinstance(bar.row, Candle):
                    revision = self._state.ledger.revisions.get(bar.key, 0)  # of a timeframe kept before
                    out.rows.replace(bar.table, bar.revised(revision).row)
            folds.adopt(new)
        return out

    def _ticks(self, batch: TickBatch) -> None:
        ledger, ticks = self._state.ledger, batch.ticks
        self._out.rows.ticks.append(TickRows(ledger.next_seq, ticks, batch.ids))
        if batch.ids:
            ledger.texts_from = ledger.texts_from or ledger.next_seq
        else:
            self._count_ids(ticks["trade_id"])
        if batch.ids or not self._contiguous:
            ledger.recent_ids += batch.ids or map(str, ticks["trade_id"].tolist())
            del ledger.recent_ids[:-MAX_RECENT_IDS]
        ledger.next_seq += len(ticks)
        newest = in_order(ticks)[-1]
        newest_ns = int(newest["ts_ns"])
        if newest_ns >= ledger.last_ts_ns:
            ledger.last_ts_ns, ledger.last_price = newest_ns, float(newest["price"])
            ledger.last_size = float(newest["size"])
        if batch.late:
            self._restate(ticks, newest_ns)
        else:
            self._advance(newest_ns, self._state.folds.step(ticks), ticks)

    def _count_ids(self, ids: Ticks) -> None:
        ledger = self._state.ledger
        ledger.next_id = max(ledger.next_id or 0, int(ids.max()) + 1)
        for gap in [gap for gap in ledger.gaps if gap.counted]:
            inside = ids[(ids >= gap.first_id) & (ids <= gap.last_id)]
            if len(inside):
                gap.rows_filled += len(inside)
                gap.next_id = max(gap.next_id, int(inside.max()) + 1)

    def _advance(self, ts_ns: int, bars: list[Bar], cause: Ticks = EMPTY) -> None:
        ledger = self._state.ledger
        ledger.watermark_ns = max(ledger.watermark_ns, ts_ns)
        bars += self._state.folds.advance(ledger.watermark_ns)
        for bar in bars:
            self._out.rows.insert(bar.table, bar.row)
            self._announce(bar.closing, bar.end_ns, bar.payload, _received(cause, bar.end_ns))

    def _restate(self, ticks: Ticks, newest_ns: int) -> None:
        """Go back before `ticks`, fold again without and with them, and write what differs."""
        ledger = self._state.ledger
        rewind, late = self._rewound(int(ticks["ts_ns"].min()))
        old, new = self._folds_of(rewind), self._folds_of(rewind)
        before, after = list[Bar](), list[Bar]()
        for without, within in replayed(rewind, late, in_order(joined([late, ticks]))):
            before += old.step(without)
            after += new.step(within)
        before += old.advance(ledger.watermark_ns)
        ledger.watermark_ns = max(ledger.watermark_ns, newest_ns)
        after += new.advance(ledger.watermark_ns)
        self._state.folds = new
        told = {bar.key: bar for bar in before}
        for bar in after:
            if bar.key not in told:
                self._out.rows.insert(bar.table, bar.row)
                self._announce(bar.closing, bar.end_ns, bar.payload)
            elif not _same(told[bar.key].row, bar.row):
                self._revise(bar)

    def _rewound(self, ts_ns: int) -> tuple[Rewind, Ticks]:
        """Find a state from which bars since `ts_ns` can be folded anew, and what came late after it."""
        while True:
            rewind = self._history.before(self._state.ledger.position + 1, ts_ns)
            if rewind.closed_ns >= 0 and load(rewind.state).folds.set_timeframes(self.timeframes_s):
                ts_ns = 0  # a timeframe was added later: only the beginning has it
                continue
            late = late_since(rewind)
            if not len(late) or int(late["ts_ns"][0]) >= rewind.closed_ns:
                return rewind, late
            ts_ns = int(late["ts_ns"][0])

    def _folds_of(self, rewind: Rewind) -> Folds:
        if rewind.closed_ns < 0:
            return Folds.new(self.timeframes_s)
        folds = load(rewind.state).folds
        folds.set_timeframes(self.timeframes_s)
        return folds

    def _revise(self, bar: Bar) -> None:
        if isinstance(bar.row, Candle):
            revisions = self._state.ledger.revisions
            revision = revisions.pop(bar.key, 0) + 1
            revisions[bar.key] = revision
            while len(revisions) > MAX_REVISIONS:
                del revisions[next(iter(revisions))]
            bar = bar.revised(revision)
        self._out.rows.replace(bar.table, bar.row)
        self._announce(bar.changing, bar.end_ns, bar.payload)

    def _announce(self, name: str, ts_ns: int, data: bytes, received_ns: int = 0) -> None:
        ledger = self._state.ledger
        self._out.events.append(Event(ledger.next_event, ts_ns, name, data, received_ns))
        self._out.rows.insert("events", EventRow(ledger.next_event, ts_ns, name, data))
        ledger.next_event += 1

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

    def _gap_opened(self, opened: GapOpened) -> None:
        ledger = self._state.ledger
        gap = Gap(
            ledger.next_gap,
            opened.first_id,
            opened.last_id,
            opened.first_id,
            opened.from_ns,
            opened.to_ns,
            opened.detected_ns,
            opened.reason,
            counted=opened.counted,
        )
        ledger.next_gap += 1
        ledger.gaps.append(gap)
        row = gap.row("OPEN", None)
        self._out.rows.insert("data_gaps", row)
        self._announce("DATA_GAP", opened.detected_ns, payload(row))

    def _gap_closed(self, closed: GapClosed) -> None:
        """Close the gap's row: FILLED, or UNFILLABLE if the record does not have all of it."""
        ledger = self._state.ledger
        for gap in [g for g in ledger.gaps if g.first_id == closed.first_id]:
            ledger.gaps.remove(gap)
            if lost := self._lost(gap, closed):
                ledger.gaps_unfillable += 1
                why = f"{lost} missing: {closed.reason}" if gap.counted else closed.reason
                gap.reason = f"{gap.reason}; {why}"
            row = gap.row("UNFILLABLE" if lost else "FILLED", closed.closed_ns)
            self._out.rows.replace("data_gaps", row)
            self._announce("DATA_GAP" if lost else "DATA_GAP_FILLED", closed.closed_ns, payload(row))

    def _lost(self, gap: Gap, closed: GapClosed) -> int:
        """Count what of a gap is not in the record; what has no ids can only be believed."""
        if not gap.counted:
            gap.rows_filled = closed.rows
            return closed.missing
        ledger = self._state.ledger
        ledger.next_id = max(ledger.next_id or 0, gap.last_id + 1)
        return gap.last_id - gap.first_id + 1 - gap.rows_filled

    def _rejected(self, rejected: Rejected) -> None:
        row = RejectedRow(rejected.received_ns, rejected.reason, rejected.raw)
        self._out.rows.insert("rejected", row)

    def _instrument(self, instrument: Instrument) -> None:
        self._state.ledger.tick_size = instrument.tick_size

    def _stale(self, stale: FeedStale) -> None:
        self._state.ledger.stale = True
        data = orjson.dumps({"reason": stale.reason, "silent_s": stale.silent_s})
        self._announce("FEED_STALE", stale.at_ns, data)

    def _recovered(self, recovered: FeedRecovered) -> None:
        self._state.ledger.stale = False
        self._announce("FEED_RECOVERED", recovered.at_ns, b"{}")


def _cut(inputs: Sequence[Input], silence_ns: int) -> Iterator[list[Input]]:
    """Cut behind every clock and run of ticks, and where ticks are further apart than a silence."""
    record: list[Input] = []
    for item in inputs:
        for part in _runs(item, silence_ns) if isinstance(item, TickBatch) else [item]:
            record.append(part)
            if isinstance(part, TickBatch | Clock):
                yield record
                record = []
    if record:
        yield record


def _runs(batch: TickBatch, silence_ns: int) -> list[TickBatch]:
    ts_ns = batch.ticks["ts_ns"]
    if int(ts_ns[-1]) - int(ts_ns[0]) <= silence_ns:
        return [batch]
    cuts = np.flatnonzero(np.diff(ts_ns) > silence_ns) + 1
    bounds = [0, *cuts.tolist(), len(ts_ns)]
    return [TickBatch(batch.ticks[a:b], ids=batch.ids[a:b]) for a, b in pairwise(bounds)]


def _same(a: Candle | OrderFlow, b: Candle | OrderFlow) -> bool:
    """Compare counts and prices exactly, sums to 1e-9: their last bits depend on how the ticks came."""
    exact, least = (5, 0.0) if isinstance(a, Candle) else (1, 1e-9 * (a.buy_volume + a.sell_volume))
    return (
        a.trade_count == b.trade_count
        and a[:exact] == b[:exact]
        and all(isclose(x or 0.0, y or 0.0, rel_tol=1e-9, abs_tol=least) for x, y in zip(a, b, strict=True))
    )


def _received(cause: Ticks, end_ns: int) -> int:
    """Return when the first tick at or after `end_ns` was received."""
    at = int(np.searchsorted(cause["ts_ns"], end_ns))
    return int(cause["received_ns"][at]) if at < len(cause) else 0
