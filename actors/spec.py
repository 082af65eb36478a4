"""What a pair actor is told: plain frozen values, small enough to be shipped again at every restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from market.pairs import Pair

if TYPE_CHECKING:
    from analytics.params import AnalyticsParams  # numpy, which `marketd status` lives without


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The knobs of one pair's engine; the defaults are the product's."""

    gather_ms: int = 5
    flush_interval_ms: int = 1_000
    max_batch_ticks: int = 16_384
    journal_sync: bool = True
    segment_s: int = 300
    segment_bytes: int = 64 * 1024 * 1024
    stale_after_s: float = 30.0
    close_grace_ms: int = 2_000
    quotes_interval_ms: int = 1_000
    timeframes_s: tuple[int, ...] = (60, 300, 900)


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A venue's public sockets and REST, e.g. wss://data-stream.binance.vision.

    `shared` is the folder where all pairs of this machine share the venue's limits. A new record begins
    `back_s` before its first subscription, if the venue gives so much.
    """

    ws_url: str
    rest_url: str
    shared: Path | None = None
    back_s: int = 0


@dataclass(frozen=True, slots=True)
class PushSource:
    """A Redis stream that collectors push into; `trim` lets what is journaled go from there."""

    url: str = field(repr=False)  # it may hold a password
    stream: str
    trim: bool = True


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """Recorded files, in order; `speed` 0 means as fast as it goes, 1 the recorded pace."""

    files: tuple[Path, ...]
    speed: float = 0.0


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """A store that gets pages: its cursor's name, its supervisor's socket, and of what stream."""

    name: str
    lane: Path
    stream: str
    timeframe: str = ""  # of a stream of candles


@dataclass(frozen=True, slots=True)
class PairSpec:
    pair: Pair
    alias: str
    folder: Path  # {data_dir}/{exchange}/{market}/{symbol}
    source: LiveSource | PushSource | ReplaySource
    engine: EngineSpec = field(default_factory=EngineSpec)
    signal_lane: Path | None = None  # the SignalSupervisor's socket; None: Redis is off
    sinks: tuple[SinkSpec, ...] = ()
    hot_s: Mapping[str, int] = field(default_factory=dict)  # by table: how long its rows stay in the file
    contiguous: bool = True  # the venue's trade ids rise by one
    tick_size: float = 0.0  # 0: the venue's own
    params: AnalyticsParams | None = None  # None: those that the record has, at first the defaults
