"""A pair's file as its lanes of pages read it."""

from __future__ import annotations

from collections.abc import Callable

from actors.hot_writer import HotWriter
from actors.lane_frames import PageHello
from actors.outlets import Outlet, Paged
from actors.page_client import PageClient
from actors.spec import PairSpec, SinkSpec
from analytics.params import AnalyticsParams
from market.rows import timeframe_text
from market.streams import CANDLES, TICKS
from market.times import NS_PER_S
from storage.hot import HotFile
from storage.pages import (
    PAGE_EVENTS,
    PAGE_TICKS,
    encode_candles,
    encode_states,
    encode_ticks,
    told_candles,
    told_states,
)
from storage.states import bars_at, states_at

STATED = "lancedb"
"""The sink of candles whose pages hold market states too."""

Read = Callable[[int], tuple[int, bytes]]


def outlet(spec: PairSpec, sink: SinkSpec, hot: HotFile, writer: HotWriter) -> Paged:
    """Connect one store of history to the pair's file; everything it is told is committed there."""
    newest = {TICKS: hot.last_tick_seq, CANDLES: hot.last_event_seq}[sink.stream]
    read = reader(spec, sink, hot)

    def hello(acked: int) -> PageHello:
        return PageHello(spec.pair.key, spec.alias, sink.stream, newest(), acked)

    async def read_page(after: int) -> tuple[int, bytes]:
        return await writer.run(lambda: read(after))

    cursor = hot.cursor(sink.name)
    client = PageClient(sink.lane, hello, cursor, read_page, lambda seq: writer.set_cursor(sink.name, seq))
    table = {TICKS: "ticks", CANDLES: "events"}[sink.stream]
    return Paged(Outlet(sink.name, table, client, newest, client.grown), sink.stream, client.rewind)


def reader(spec: PairSpec, sink: SinkSpec, hot: HotFile) -> Read:
    """Say how the pages of a store are read: what follows a number, and the number up to which it goes."""
    if sink.stream == TICKS:
        return _ticks(hot)
    if sink.name != STATED:
        return _candles(hot, sink.timeframe)
    width_s = next(s for s in spec.engine.timeframes_s if timeframe_text(s) == sink.timeframe)
    return _states(hot, sink.timeframe, width_s * NS_PER_S, (spec.params or AnalyticsParams()).state.step_ns)


def _ticks(hot: HotFile) -> Read:
    def read(after: int) -> tuple[int, bytes]:
        rows = hot.tick_rows_after(after, PAGE_TICKS)
        return after + len(rows), encode_ticks(rows)

    return read


def _candles(hot: HotFile, timeframe: str) -> Read:
    def read(after: int) -> tuple[int, bytes]:
        events = hot.events_after(after, PAGE_EVENTS)
        return after + len(events), encode_candles(events, timeframe)

    return read


def _states(hot: HotFile, timeframe: str, width_ns: int, step_ns: int) -> Read:
    """Read bars with the market state at the end of each.

    A state that a page tells without its bar was restated alone, or a page ended between the two: the bar is
    read again. Where it is the state that a page lacks, the tables know it.
    """

    def read(after: int) -> tuple[int, bytes]:
        events = hot.events_after(after, PAGE_EVENTS)
        bars, known = told_candles(events, timeframe), told_states(events)
        ends = {end for ts_ns in known for end in _ends(ts_ns, step_ns, width_ns)}
        untold = ends.difference(bar.ts_ns + width_ns for bar in bars)
        bars += bars_at(hot.connection, timeframe, [end - width_ns for end in untold])
        states = {end: known.get(end - end % step_ns) for end in (bar.ts_ns + width_ns for bar in bars)}
        lacking = [end for end, state in states.items() if state is None]
        found = states | states_at(hot.connection, lacking)
        return after + len(events), encode_states([(bar, found[bar.ts_ns + width_ns]) for bar in bars])

    return read


def _ends(ts_ns: int, step_ns: int, width_ns: int) -> range:
    """Give the ends of bars for which a state is the last at or before them."""
    return range(-(-ts_ns // width_ns) * width_ns, ts_ns + step_ns, width_ns)
