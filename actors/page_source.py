"""A pair's file as its lanes of pages read it."""

from __future__ import annotations

from collections.abc import Callable

from actors.hot_writer import HotWriter
from actors.lane_frames import PageHello
from actors.outlets import Outlet, Paged
from actors.page_client import PageClient
from actors.spec import PairSpec, SinkSpec
from market.streams import CANDLES, TICKS
from storage.hot import HotFile
from storage.pages import PAGE_EVENTS, PAGE_TICKS, encode_candles, encode_ticks

Read = Callable[[int], tuple[int, bytes]]


def outlet(spec: PairSpec, sink: SinkSpec, hot: HotFile, writer: HotWriter) -> Paged:
    """Connect one store of history to the pair's file; everything it is told is committed there."""
    newest = {TICKS: hot.last_tick_seq, CANDLES: hot.last_event_seq}[sink.stream]
    read = _ticks(hot) if sink.stream == TICKS else _candles(hot, sink.timeframe)

    def hello(acked: int) -> PageHello:
        return PageHello(spec.pair.key, spec.alias, sink.stream, newest(), acked)

    async def read_page(after: int) -> tuple[int, bytes]:
        return await writer.run(lambda: read(after))

    cursor = hot.cursor(sink.name)
    client = PageClient(sink.lane, hello, cursor, read_page, lambda seq: writer.set_cursor(sink.name, seq))
    table = {TICKS: "ticks", CANDLES: "events"}[sink.stream]
    return Paged(Outlet(sink.name, table, client, newest, client.grown), sink.stream, client.rewind)


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
