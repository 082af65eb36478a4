"""When did the market last look like this: the states of a pair's past that are nearest to one of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from daemon import offline
from daemon.control import NoDaemon, call
from daemon.settings import Settings
from market.errors import MarketdError, UsageError
from market.pairs import Pair
from market.times import NS_PER_S, rfc3339
from storage.vectors import StateRow, Vectors

COLUMNS = ("timestamp", "distance", "move_bps", "range_bps", "volume", "trades", "regime", "sentiment")
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


@dataclass(frozen=True, slots=True)
class Match:
    """A state; the one that was asked about has the distance 0. The record may no longer hold its candle."""

    ts_ns: int
    distance: float
    metadata: Mapping[str, Any]
    bar: Bar | None


def similar(settings: Settings, pair: Pair, at_ns: int | None, k: int) -> list[Match]:
    """Find the pair's state at or before a time (default: its last), then the k nearest earlier ones.

    Raises UsageError where there is none or LanceDB is not installed.
    """
    table = Vectors(settings.data_dir / "lancedb", settings.embeddings.index, create=False)
    symbol = _alias(settings, pair)
    state = table.get(symbol, at_ns)
    if state is None:
        when = f" at or before {rfc3339(at_ns)}" if at_ns is not None else " yet"
        raise UsageError(f"{settings.data_dir / 'lancedb'}: holds no market state of {symbol}{when}")
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
    """Lay the states out as lines of a table, the one that was asked about first."""
    cells = [COLUMNS, *(_cells(one) for one in matches)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.rjust, row, widths)).rstrip() for row in cells]


def _alias(settings: Settings, pair: Pair) -> str:
    return next((one.alias for one in settings.pairs if one.pair == pair), pair.key)


def _with_bars(settings: Settings, pair: Pair, state: StateRow, table: Vectors, k: int) -> list[Match]:
    near = table.search(state.vector, k, symbol=state.symbol, before_ns=state.ts_ns, version=state.version)
    found = [(state.ts_ns, 0.0, state.metadata), *((one.ts_ns, one.distance, one.metadata) for one in near)]
    bars = _bars(settings, pair, [ts_ns for ts_ns, *_ in found])
    return [Match(*one, bars.get(one[0])) for one in found]


def _bars(settings: Settings, pair: Pair, times_ns: Sequence[int]) -> dict[int, Bar]:
    """Look the candles up in the pair's record; without them the states are still an answer."""
    times = ", ".join(map(str, times_ns))
    sql = (
        "SELECT epoch_ns(timestamp) AS ts_ns, open, high, low, close, volume, trade_count "  # noqa: S608
        f"FROM candles_{settings.embeddings.timeframe} WHERE epoch_ns(timestamp) IN ({times})"
    )
    try:
        bars = msgspec.json.decode(_query(settings, pair, sql), type=list[Bar])
    except MarketdError as error:
        log.warning("similar_without_candles", pair=pair.key, reason=str(error))
        return {}
    return {bar.ts_ns: bar for bar in bars}


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
    return rfc3339(one.ts_ns), f"{one.distance:.4f}", *known, regime or NOTHING, label or NOTHING
