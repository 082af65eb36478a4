"""When did the market last look like this: the states of a pair's past that are nearest to one of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import structlog

from daemon import offline
from daemon.control import NoDaemon, call
from daemon.settings import Settings, timeframe_s
from market.errors import MarketdError, UsageError
from market.pairs import Pair
from market.times import NS_PER_S, rfc3339
from storage.vectors import StateRow, Vectors

LATER_MIN = (5, 15, 60)
"""Minutes after a candle's end at which it is asked what the market had done."""
COLUMNS = (
    "timestamp", "distance", "move_bps", "range_bps", "volume", "trades", "regime", "sentiment",
    *(f"bps_in_{minutes}m" for minutes in LATER_MIN),
)  # fmt: skip
ASK_TIMEOUT_S = 30.0
NOTHING = "-"

log = structlog.get_logger(__name__)


class Bar(msgspec.Struct, frozen=True):
    """What a state's candle was."""

    ts_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trade_count: int
    later: tuple[float | None, ...] = ()  # the prices LATER_MIN minutes after its end; None: not over yet


@dataclass(frozen=True, slots=True)
class Match:
    """A state and how far it is from the one asked about; the record may no longer hold its candle."""

    ts_ns: int
    distance: float
    metadata: Mapping[str, Any]
    bar: Bar | None


def similar(settings: Settings, pair: Pair, at_ns: int | None, k: int) -> list[Match]:
    """Find the pair's state at or before a time (default: its last), then the k nearest earlier ones.

    The first is the state itself, at distance 0. Raises UsageError where there is none or LanceDB is not
    installed.
    """
    folder = settings.data_dir / "lancedb"
    try:
        table = Vectors(folder, settings.embeddings.index, create=False)
    except UsageError as error:
        raise UsageError(f"{error}{_why_none(settings, pair)}") from None
    symbol = _alias(settings, pair)
    state = table.get(symbol, at_ns)
    if state is None:
        when = f" at or before {rfc3339(at_ns)}" if at_ns is not None else " yet"
        why = _why_none(settings, pair)
        raise UsageError(f"{folder}: holds no market state of {symbol}{when}{why}")
    return _with_bars(settings, pair, state, table, k)


def time_ns(text: str, option: str = "--at") -> int:
    """Read a time as RFC 3339; one that names no zone is UTC. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: expected a time such as 2025-12-21T12:01:00Z") from error
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000


def lines(matches: Sequence[Match]) -> list[str]:
    """Name the state that was asked about, the first, and lay the others out as lines of a table."""
    asked, *near = matches
    cells = [COLUMNS, *(_cells(one) for one in near)] if near else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in cells]
    return [f"nearest to {rfc3339(asked.ts_ns)}:", *table]


def _alias(settings: Settings, pair: Pair) -> str:
    return next((one.alias for one in settings.pairs if one.pair == pair), pair.key)


def _why_none(settings: Settings, pair: Pair) -> str:
    """Say what of the configuration is the reason, if anything is."""
    if not settings.embeddings.enabled:
        return "; they are off (embeddings.enabled)"
    followed = [one.pair.key for one in settings.pairs]
    return "" if pair.key in followed else f"; the pairs followed are: {', '.join(followed)}"


def _with_bars(settings: Settings, pair: Pair, state: StateRow, table: Vectors, k: int) -> list[Match]:
    near = table.search(state.vector, k, symbol=state.symbol, before_ns=state.ts_ns, version=state.version)
    found = [(state.ts_ns, 0.0, state.metadata), *((one.ts_ns, one.distance, one.metadata) for one in near)]
    bars = _bars(settings, pair, [ts_ns for ts_ns, *_ in found])
    return [Match(*one, bars.get(one[0])) for one in found]


def _bars(settings: Settings, pair: Pair, times_ns: Sequence[int]) -> dict[int, Bar]:
    """Look the candles up in the pair's record; without them the states are still an answer."""
    sql = _sql(settings.embeddings.timeframe, times_ns)
    try:
        bars = msgspec.json.decode(_query(settings, pair, sql), type=list[Bar])
    except MarketdError as error:
        log.warning("similar_without_candles", pair=pair.key, reason=str(error))
        return {}
    return {bar.ts_ns: bar for bar in bars}


def _sql(timeframe: str, times_ns: Sequence[int]) -> str:
    """Ask for candles by their times, each with the closes of those that end LATER_MIN later.

    Where there are none that end then, it is by minutes: those ended less than a minute before.
    """
    width_s = timeframe_s(timeframe)
    own = all(minutes * 60 % width_s == 0 for minutes in LATER_MIN)
    grid_ns, table = (width_s * NS_PER_S, f"candles_{timeframe}") if own else (60 * NS_PER_S, "candles_1m")
    ends_ns = [(width_s + minutes * 60) * NS_PER_S for minutes in LATER_MIN]
    places = {ts_ns: [_last(ts_ns + end_ns, grid_ns) for end_ns in ends_ns] for ts_ns in times_ns}
    rows = ", ".join(f"({ts_ns}, {opened})" for ts_ns, opened in places.items())
    return f"""
        WITH closes AS (
            SELECT epoch_ns(timestamp) AS opened, close FROM {table}
            WHERE is_complete AND epoch_ns(timestamp) IN ({_listed(chain.from_iterable(places.values()))})
        ),
        sought AS (
            SELECT ts_ns, unnest(places) AS opened, generate_subscripts(places, 1) AS place
            FROM (VALUES {rows}) AS sought(ts_ns, places)
        ),
        found AS (
            SELECT ts_ns, list(close ORDER BY place) AS later
            FROM sought LEFT JOIN closes USING (opened) GROUP BY ts_ns
        )
        SELECT ts_ns, open, high, low, close, volume, trade_count, later
        FROM (SELECT epoch_ns(timestamp) AS ts_ns, * FROM candles_{timeframe}) JOIN found USING (ts_ns)
        WHERE ts_ns IN ({_listed(times_ns)})
        """  # noqa: S608 - numbers, and a name that the configuration was checked for


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _last(end_ns: int, width_ns: int) -> int:
    """Give the open time of the last candle of a width that ends by a time."""
    return end_ns // width_ns * width_ns - width_ns


def _query(settings: Settings, pair: Pair, sql: str) -> bytes:
    """Ask as `marketd query` does: the running daemon, else the files."""
    with tempfile.TemporaryDirectory(prefix="marketd-") as folder:
        out = Path(folder, "answer")
        try:
            asked = {"pair": pair.key, "sql": sql, "fmt": "json", "out": str(out)}
            call(settings.control_socket, "query", ASK_TIMEOUT_S, **asked)
        except NoDaemon:
            offline.query(settings, pair, sql, "json", out)
        return out.read_bytes()


def _cells(one: Match) -> tuple[str, ...]:
    bar = one.bar
    known = (
        (
            f"{(bar.close / bar.open - 1) * 1e4:+.1f}",
            f"{(bar.high / bar.low - 1) * 1e4:.1f}",
            f"{bar.volume:.5g}",
            str(bar.trade_count),
        )
        if bar
        else (NOTHING,) * 4
    )
    regime, label = one.metadata["physics"]["regime"], one.metadata["sentiment"]["label"]
    later = bar.later if bar and bar.later else (None,) * len(LATER_MIN)
    moves = (
        NOTHING if price is None or bar is None else f"{(price / bar.close - 1) * 1e4:+.1f}"
        for price in later
    )
    return rfc3339(one.ts_ns), f"{one.distance:.4f}", *known, regime or NOTHING, label or NOTHING, *moves
