"""A pair's push feed, set to go on where its record stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TypeAlias

from duckdb import DuckDBPyConnection

from actors.engine import Feed
from actors.recovery import PairFiles
from actors.spec import PairSpec, PushSource
from feeds.frames import Trade
from feeds.push_order import Counted, Hole, Order, Texts
from market.errors import Fatal, Retryable, UsageError
from market.rows import Row
from storage import known_ids
from storage.reads import begin

Read: TypeAlias = Callable[[DuckDBPyConnection, dict[str, list[Row]]], set[str]]
Ask: TypeAlias = Callable[[Read], Awaitable[set[str]]]
"""Run a reader on the pair's record, up to date with everything journaled."""


def push_feed(spec: PairSpec, source: PushSource, files: PairFiles, ask: Ask) -> Feed:
    """Make the feed; raises UsageError where the record has ids of another kind."""
    from feeds.push import PushFeed, PushRules, Start  # noqa: PLC0415 - redis, which other pairs live without
    from feeds.push_stream import PushStream  # noqa: PLC0415 - the same

    engine, ledger = spec.engine, files.core.state.ledger
    rules = PushRules(spec.contiguous, source.trim, engine.stale_after_s, engine.quotes_interval_ms)
    order, known = _order(spec, files), partial(_known, ask)
    stream = PushStream(source.url, source.stream)
    return PushFeed(stream, order, known, rules, Start(ledger.source, ledger.stale))


def _order(spec: PairSpec, files: PairFiles) -> Order:
    """Go on with a record where it stands; its ids stay of the kind with which it began."""
    ledger = files.core.state.ledger
    if ledger.next_seq > 1 and spec.contiguous == bool(ledger.texts_from):
        was, wanted = (False, True) if spec.contiguous else (True, False)
        raise UsageError(
            f"{spec.pair}: contiguous_ids = {str(wanted).lower()}, but its record began with "
            f"{str(was).lower()}; change it back, or move {spec.folder} away to begin anew"
        )
    if not spec.contiguous:
        return Texts(ledger.next_seq, ledger.recent_ids, ledger.last_ts_ns)
    gaps = [(gap.first_id, gap.last_id) for gap in ledger.gaps if gap.counted]
    missing = map(Hole._make, _holes(files, gaps))
    return Counted(ledger.next_id, [first for first, _ in gaps], missing, ledger.last_ts_ns)


def _holes(files: PairFiles, gaps: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    if not gaps:
        return []
    with closing(begin(files.hot.connection)) as cursor:
        return known_ids.holes(cursor, {}, gaps)


async def _known(ask: Ask, trades: Sequence[Trade]) -> set[str]:
    """Say which ids of these trades the record has; raises Retryable while it cannot be read."""
    ids, times = [str(trade.id) for trade in trades], [trade.ts_ns for trade in trades]
    since_ns, until_ns = min(times), max(times)
    try:
        return await ask(lambda cursor, _: known_ids.known(cursor, {}, ids, since_ns, until_ns))
    except Fatal as error:
        raise Retryable(str(error)) from error
