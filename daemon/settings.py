"""What the configuration becomes: frozen, complete, checked; each part receives only its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import quote

from msgspec import Meta

from actors.spec import EngineSpec, LiveSource, PairSpec, PushSource, SinkSpec
from daemon.analytics import AnalyticsSettings
from market.pairs import Pair
from market.streams import CANDLES, TICKS

_BINANCE_REST = "https://api.binance.com"  # data-api.binance.vision does not serve historicalTrades
_BYBIT = LiveSource("wss://stream.bybit.com", "https://api.bybit.com")
_OKX = LiveSource("wss://ws.okx.com:8443", "https://openapi.okx.com")

VENUES: Mapping[tuple[str, str], LiveSource] = MappingProxyType(
    {
        ("binance", "spot"): LiveSource("wss://data-stream.binance.vision", _BINANCE_REST),
        ("binance", "futures"): LiveSource("wss://fstream.binance.com", "https://fapi.binance.com"),
        ("bybit", "spot"): _BYBIT,
        ("bybit", "futures"): _BYBIT,
        ("coinbase", "spot"): LiveSource(
            "wss://ws-feed.exchange.coinbase.com", "https://api.exchange.coinbase.com"
        ),
        ("coinbase_advanced", "spot"): LiveSource(
            "wss://advanced-trade-ws.coinbase.com", "https://api.coinbase.com"
        ),
        ("kraken", "spot"): LiveSource("wss://ws.kraken.com", "https://api.kraken.com"),
        ("okx", "spot"): _OKX,
        ("okx", "futures"): _OKX,
    },
)
"""The venues that are spoken, and where they answer when the configuration does not say."""

NUMBERLESS = frozenset({("bybit", "spot"), ("bybit", "futures")})
"""The venues whose trade ids do not rise by one."""

EMBEDDED = "embedded"


MAX_REDIS_SOCKET_BYTES = 100
"""Where its path is longer, the embedded server listens on a port that nobody else can find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """Trades that collectors put into Redis; `trim` lets what is journaled go from there."""

    contiguous_ids: bool = False
    trim: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """One followed pair; `tick_size` 0 means the venue's own."""

    pair: Pair
    alias: str
    state_step_s: int = 1
    tick_size: float = 0.0
    analytics: AnalyticsSettings = field(default_factory=AnalyticsSettings)
    push: PushSettings | None = None  # None: its trades come from the venue

    @property
    def contiguous(self) -> bool:
        """Tell whether the pair's trade ids rise by one."""
        return self.push.contiguous_ids if self.push else is_contiguous(self.pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The knobs of every pair's engine; `timeframes` are texts such as `5s`, `1m`, `1h`."""

    gather_ms: Annotated[int, Meta(ge=0, le=1_000)] = 5
    flush_interval_ms: Annotated[int, Meta(ge=10, le=60_000)] = 1_000
    max_batch_ticks: Annotated[int, Meta(ge=1, le=1_000_000)] = 16_384
    journal_sync: bool = True
    max_pairs_per_node: Annotated[int, Meta(ge=1, le=1_000)] = 200
    stale_after_s: Annotated[float, Meta(ge=1, le=3_600)] = 30.0
    close_grace_ms: Annotated[int, Meta(ge=0, le=60_000)] = 2_000
    quotes_interval_ms: Annotated[int, Meta(ge=10, le=60_000)] = 1_000
    backfill_s: Annotated[int, Meta(ge=0, le=86_400)] = 900  # before the first subscription of a new record
    timeframes: tuple[str, ...] = ("1m", "5m", "15m")

    def spec(self) -> EngineSpec:
        return EngineSpec(
            gather_ms=self.gather_ms,
            flush_interval_ms=self.flush_interval_ms,
            max_batch_ticks=self.max_batch_ticks,
            journal_sync=self.journal_sync,
            stale_after_s=self.stale_after_s,
            close_grace_ms=self.close_grace_ms,
            quotes_interval_ms=self.quotes_interval_ms,
            timeframes_s=tuple(sorted(timeframe_s(text) for text in self.timeframes)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """`url` may hold a password: it is never shown."""

    url: str = field(default=EMBEDDED, repr=False)
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestDBSettings:
    """`url` is a client's configuration string, which may hold a password: it is never shown.

    Trades stay `hot_days` in the server and then `archive_days` as Parquet files; 0: for ever.
    """

    url: str = field(default=EMBEDDED, repr=False)
    enabled: bool = True
    hot_days: Annotated[int, Meta(ge=0, le=36_500)] = 30
    archive_days: Annotated[int, Meta(ge=0, le=36_500)] = 730


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsSettings:
    """`timeframe` is that of the candles whose market states are embedded, `model` a name or a path."""

    enabled: bool = True
    timeframe: str = "1m"
    model: str = "all-MiniLM-L6-v2"
    index: Literal["ivf_sq", "ivf_pq"] = "ivf_sq"


Hot = Annotated[int, Meta(ge=0, le=366 * 86_400)]
"""Seconds of event time that rows stay in a pair's file; 0: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How long rows stay hot, and how often (s) what is older goes to the archive."""

    enabled: bool = True
    sweep_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    ticks_s: Hot = 900
    quotes_s: Hot = 900
    order_flow_s: Hot = 900
    market_profile_s: Hot = 900
    market_state_s: Hot = 900
    events_s: Hot = 900
    candles_1m_s: Hot = 900  # and of every shorter timeframe
    candles_s: Hot = 3_600  # of the longer ones
    ended: bool = True  # gaps that were filled or expired and zones that were broken go with the next sweep

    def hot_s(self, timeframes_s: Iterable[int]) -> dict[str, int]:
        """Say for each table how long its rows stay; what is kept for ever is not there."""
        from market.rows import timeframe_text  # noqa: PLC0415 - numpy, which `marketd status` lives without

        candles = {
            f"candles_{timeframe_text(s)}": self.candles_1m_s if s <= 60 else self.candles_s
            for s in timeframes_s
        }
        fixed = {
            "ticks": self.ticks_s,
            "quotes": self.quotes_s,
            "order_flow": self.order_flow_s,
            "market_profile": self.market_profile_s,
            "market_state": self.market_state_s,
            "fair_value_gaps": int(self.ended),
            "supply_demand_zones": int(self.ended),
            "events": self.events_s,
        }
        return {table: seconds for table, seconds in (fixed | candles).items() if seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """`address` "" means a head of our own, `temp_dir` "" a folder chosen for it.

    Ports that somebody else has are replaced by free ones.
    """

    address: str = ""
    temp_dir: str = ""
    dashboard: bool = True
    dashboard_port: Annotated[int, Meta(ge=1_024, le=65_535)] = 8_265
    metrics_port: Annotated[int, Meta(ge=0, le=65_535)] = 8_266


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`data_dir` is absolute; `exchanges` holds every known venue's addresses."""

    data_dir: Path
    pairs: tuple[PairSettings, ...]
    exchanges: Mapping[tuple[str, str], LiveSource] = field(default_factory=lambda: VENUES)
    engine: EngineSettings = EngineSettings()
    redis: RedisSettings = RedisSettings()
    questdb: QuestDBSettings = QuestDBSettings()
    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    retention: RetentionSettings = RetentionSettings()
    ray: RaySettings = RaySettings()
    log: LogSettings = LogSettings()

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def control_socket(self) -> Path:
        return self.run_dir / "control.sock"

    @property
    def questdb_url_file(self) -> Path:
        """Name the file that tells where the embedded QuestDB is now."""
        return self.run_dir / "questdb.url"

    @property
    def redis_socket(self) -> Path:
        """Name the socket of the embedded Redis."""
        return self.run_dir / "redis" / "redis.sock"

    @property
    def redis_url(self) -> str:
        """Say where collectors and their pairs meet."""
        return f"unix://{quote(str(self.redis_socket))}" if self.redis.url == EMBEDDED else self.redis.url

    def lane(self, supervisor: str) -> Path:
        """Name the socket on which a supervisor waits for pairs."""
        return self.run_dir / "lanes" / f"{supervisor}.sock"

    @property
    def sinks(self) -> tuple[SinkSpec, ...]:
        """Say which stores get pages."""
        sinks = []
        if self.questdb.enabled:
            lane = self.lane("questdb")
            sinks += [
                SinkSpec("questdb.trades", lane, TICKS),
                SinkSpec("questdb.ohlcv", lane, CANDLES, "1m"),
            ]
        if self.embeddings.enabled:
            sinks.append(SinkSpec("lancedb", self.lane("embeddings"), CANDLES, self.embeddings.timeframe))
        return tuple(sinks)

    def pair_specs(self) -> tuple[PairSpec, ...]:
        """Say what each pair's actor is told, in the order of the file."""
        lane = self.lane("signal") if self.redis.enabled else None
        engine = self.engine.spec()
        return tuple(
            PairSpec(
                pair=one.pair,
                alias=one.alias,
                folder=self.data_dir / one.pair.path,
                source=self._source(one),
                engine=engine,
                signal_lane=lane,
                sinks=self.sinks,
                hot_s=self.retention.hot_s(engine.timeframes_s) if self.retention.enabled else {},
                contiguous=one.contiguous,
                tick_size=one.tick_size,
                params=one.analytics.params(one.state_step_s),
            )
            for one in self.pairs
        )

    def _source(self, one: PairSettings) -> LiveSource | PushSource:
        if one.push:
            return PushSource(self.redis_url, f"ingest:{one.pair}", one.push.trim)
        source = self.exchanges[one.pair.exchange, one.pair.market]
        return replace(source, shared=self.run_dir / "limits", back_s=self.engine.backfill_s)


def is_contiguous(pair: Pair) -> bool:
    """Tell whether the venue's trade ids rise by one."""
    return (pair.exchange, pair.market) not in NUMBERLESS


def timeframe_s(text: str) -> int:
    """Read `5s`, `1m`, `2h` or `1d` as seconds; raise ValueError unless whole bars fill a day."""
    number, unit = text[:-1], text[-1:]
    if unit not in {"s", "m", "h", "d"} or not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r} is no timeframe (like 5s, 1m, 1h)")
    seconds = int(number) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[unit]
    if not seconds or 86_400 % seconds:
        raise ValueError(f"{text!r} does not divide a day")
    return seconds
