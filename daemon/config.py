from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from actors.spec import LiveSource
from daemon.analytics import AnalyticsSettings
from daemon.document import Document
from daemon.settings import (
    EMBEDDED,
    MAX_REDIS_SOCKET_BYTES,
    VENUES,
    EmbeddingsSettings,
    EngineSettings,
    LogSettings,
    PairSettings,
    PushSettings,
    QuestDBSettings,
    RaySettings,
    RedisSettings,
    RetentionSettings,
    Settings,
    timeframe_s,
)
from market.errors import UsageError
from market.pairs import Pair
from storage.questdb_url import parse

SECTIONS = (
    "data_dir", "pairs", "exchanges", "engine", "analytics", "redis", "questdb", "embeddings", "retention",
    "ray", "log",
)  # fmt: skip
LATER = ("archive", "object_store")
ABSENT = dict.fromkeys(LATER, "unknown section: this version of marketd has no such part")
PUSH_KEYS = ("contiguous_ids", "trim")
RAYS_PORTS = range(10_001, 20_000)  # of `ray start` for clients and workers, unless it is told others
SUPPORTED = ", ".join(" ".join(venue) for venue in VENUES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PairBlock:
    exchange: str
    market: str
    symbols: Annotated[tuple[str, ...], Meta(min_length=1)]
    alias: str | None = None
    state_step_s: Annotated[int, Meta(ge=1, le=3_600)] = 1
    tick_size: Annotated[float, Meta(gt=0, le=1e9)] = 0.0
    analytics: dict[str, Any] = field(default_factory=dict)
    feed: Literal["live", "push"] = "live"
    contiguous_ids: bool | None = None
    trim: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Addresses:
    ws_url: str | None = None
    rest_url: str | None = None


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Read the configuration: `path`, else MARKETD_CONFIG, else config.toml in the working folder.

    Raises UsageError with everything that is wrong, each by file (or variable), key and reason.
    """
    document = Document.read(_find(path, env), env)
    root = document.root
    document.known("", root, SECTIONS, ABSENT)
    analytics = _analytics(document, "analytics", root.get("analytics", {}))
    settings = Settings(
        data_dir=_data_dir(document, root.get("data_dir", "data")),
        pairs=_pairs(document, root.get("pairs", []), analytics),
        exchanges=_exchanges(document, root.get("exchanges", {})),
        engine=_engine(document, root.get("engine", {})),
        redis=_redis(document, root.get("redis", {})),
        questdb=_questdb(document, root.get("questdb", {})),
        embeddings=_embeddings(document, root.get("embeddings", {})),
        retention=document.section("retention", root.get("retention", {}), RetentionSettings)
        or RetentionSettings(),
        ray=_ray(document, root.get("ray", {})),
        log=document.section("log", root.get("log", {}), LogSettings) or LogSettings(),
    )
    document.raise_problems()
    _together(document, settings)
    document.raise_problems()
    return settings


def _find(path: Path | None, env: Mapping[str, str]) -> Path:
    if path is not None:
        return path
    if named := env.get("MARKETD_CONFIG"):
        return Path(named)
    usual = Path("config.toml")
    if not usual.exists():
        raise UsageError(
            "no config.toml in this folder: copy it from the marketd project, or name one by --config",
        )
    return usual


def _data_dir(document: Document, value: object) -> Path:
    text = document.convert("data_dir", value, str, ".")
    if not text or not text.isprintable():
        document.refuse("data_dir", "expected the path of a folder")
        return Path()
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # whose home is not known
        document.refuse("data_dir", str(error).lower())
        return Path()


def _analytics(
    document: Document, key: str, value: object, usual: AnalyticsSettings | None = None
) -> AnalyticsSettings:
    """Read a table of parameters; those that it does not name are as `usual`."""
    usual = usual or AnalyticsSettings()
    own = document.section(key, value, AnalyticsSettings)
    if own is None:
        return usual
    found = replace(usual, **{name: getattr(own, name) for name in document.table(key, value)})
    for name, reason in found.impossible():
        document.refuse(f"{key}.{name}", reason)
        found = usual
    return found


def _pairs(document: Document, value: object, analytics: AnalyticsSettings) -> tuple[PairSettings, ...]:
    blocks = document.convert("pairs", value, list[object], None)
    if blocks == []:
        document.refuse("pairs", "expected at least one [[pairs]] block")
    pairs: list[PairSettings] = []
    for i, raw in enumerate(blocks or []):
        if block := document.section(f"pairs[{i}]", raw, _PairBlock):
            own = _analytics(document, f"pairs[{i}].analytics", block.analytics, analytics)
            pairs += [replace(one, analytics=own) for one in _block(document, f"pairs[{i}]", block)]
    _no_doubles(document, pairs)
    return tuple(pairs)


def _block(document: Document, key: str, block: _PairBlock) -> list[PairSettings]:
    if block.feed == "live" and (block.exchange, block.market) not in VENUES:
        document.refuse(key, f"{block.exchange} {block.market} is not supported (supported: {SUPPORTED})")
        return []
    if 86_400 % block.state_step_s:
        document.refuse(f"{key}.state_step_s", "does not divide a day")
    push, alias = _push(document, key, block), block.alias
    if alias is not None and (reason := _alias_refusal(block)):
        document.refuse(f"{key}.alias", reason)
        alias = None
    pairs = []
    for symbol in block.symbols:
        try:
            pair = Pair(block.exchange, block.market, symbol)
        except UsageError as error:
            document.refuse(f"{key}.symbols", str(error))
            continue
        pairs.append(
            PairSettings(
                pair=pair,
                alias=alias or pair.key,
                state_step_s=block.state_step_s,
                tick_size=block.tick_size,
                push=push,
            ),
        )
    return pairs


def _push(document: Document, key: str, block: _PairBlock) -> PushSettings | None:
    own = {name: value for name in PUSH_KEYS if (value := getattr(block, name)) is not None}
    if block.feed == "push":
        return PushSettings(**own)
    for name in own:
        document.refuse(f"{key}.{name}", 'is for feed = "push"')
    return None


def _alias_refusal(block: _PairBlock) -> str | None:
    if len(block.symbols) > 1:
        return "names one pair, but the block has several symbols"
    alias = block.alias or ""
    if not alias or not alias.isprintable() or any(c.isspace() for c in alias):
        return "expected printable text without blanks"
    return None


def _no_doubles(document: Document, pairs: list[PairSettings]) -> None:
    seen: set[Pair] = set()
    names: set[str] = set()
    for one in pairs:
        if one.pair in seen:
            document.refuse("pairs", f"{one.pair} is there twice")
        elif one.alias in names:
            document.refuse("pairs", f"alias {one.alias!r} is there twice")
        seen.add(one.pair)
        names.add(one.alias)


def _exchanges(document: Document, value: object) -> dict[tuple[str, str], LiveSource]:
    """Read [exchanges.NAME], which is for all its markets, and [exchanges.NAME.MARKET], which goes before."""
    tables = document.table("exchanges", value)
    document.known("exchanges", tables, tuple(sorted({exchange for exchange, _ in VENUES})), {})
    found = {}
    for (exchange, market), usual in VENUES.items():
        key = f"exchanges.{exchange}"
        table = document.table(key, tables.get(exchange, {}))
        mine = _venue(document, key, exchange, table)
        own = document.section(f"{key}.{market}", table.get(market, {}), _Addresses) or _Addresses()
        ws_key = f"{key}.{market}.ws_url" if own.ws_url else f"{key}.ws_url"
        rest_key = f"{key}.{market}.rest_url" if own.rest_url else f"{key}.rest_url"
        found[exchange, market] = LiveSource(
            ws_url=_address(document, ws_key, own.ws_url or mine.ws_url, usual.ws_url),
            rest_url=_address(document, rest_key, own.rest_url or mine.rest_url, usual.rest_url),
        )
    return found


def _venue(document: Document, key: str, exchange: str, table: Mapping[str, Any]) -> _Addresses:
    """Read what is for all markets of an exchange; a table of any other name is refused."""
    names, markets = ("ws_url", "rest_url"), tuple(m for e, m in VENUES if e == exchange)
    document.known(key, dict(table), (*names, *markets), {})
    everywhere = {name: table[name] for name in names if name in table}
    return document.section(key, everywhere, _Addresses) or _Addresses()


def _address(document: Document, key: str, url: str | None, usual: str) -> str:
    """Take an address of the same kind as the usual one, encrypted or not."""
    if url is None:
        return usual
    secure = usual.partition(":")[0]
    schemes = (secure.removesuffix("s"), secure)
    parts = _split(url)
    if parts is None or parts.scheme not in schemes or not parts.hostname:
        document.refuse(key, f"expected {' or '.join(s + '://host' for s in schemes)}")
    return url.rstrip("/")


def _split(url: str) -> SplitResult | None:
    """Split a URL; None for one that no client could use (urlsplit finds a bad port only when asked)."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  asking is the check
    except ValueError:
        return None
    return parts if url.isprintable() and " " not in url else None


def _engine(document: Document, value: object) -> EngineSettings:
    engine = document.section("engine", value, EngineSettings) or EngineSettings()
    seconds: list[int] = []
    for text in engine.timeframes:
        try:
            seconds.append(timeframe_s(text))
        except ValueError as error:
            document.refuse("engine.timeframes", str(error))
    if len(seconds) == len(engine.timeframes):
        if 60 not in seconds:
            document.refuse("engine.timeframes", "1m must be among them")
        if len(set(seconds)) < len(seconds):
            document.refuse("engine.timeframes", "one is there twice")
    return engine


def _redis(document: Document, value: object) -> RedisSettings:
    redis = document.section("redis", value, RedisSettings) or RedisSettings()
    if redis.url == EMBEDDED:
        return redis
    parts = _split(redis.url)
    if parts is None or not _names_a_server(parts):
        document.refuse(
            "redis.url", 'expected "embedded", redis://host[:port][/number], rediss://... or unix:///path'
        )
    elif (parts.password or "password=" in parts.query) and document.from_file("redis.url"):
        document.refuse("redis.url", "holds a password: give it by the variable MARKETD__REDIS__URL")
    return redis


def _names_a_server(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return parts.path not in {"", "/"}
    database = parts.path.removeprefix("/")
    numbered = not database or (database.isascii() and database.isdigit())
    return parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and numbered


def _questdb(document: Document, value: object) -> QuestDBSettings:
    questdb = document.section("questdb", value, QuestDBSettings) or QuestDBSettings()
    if questdb.url == EMBEDDED:
        return questdb
    try:
        address = parse(questdb.url)
    except UsageError as error:
        document.refuse("questdb.url", str(error).removeprefix("questdb.url: "))
        return questdb
    if {"password", "token"} & address.options.keys() and document.from_file("questdb.url"):
        document.refuse("questdb.url", "holds a secret: give it by the variable MARKETD__QUESTDB__URL")
    return questdb


def _embeddings(document: Document, value: object) -> EmbeddingsSettings:
    return document.section("embeddings", value, EmbeddingsSettings) or EmbeddingsSettings()


def _ray(document: Document, value: object) -> RaySettings:
    ray = document.section("ray", value, RaySettings) or RaySettings()
    parts = _split(f"//{ray.address}")
    if ray.address and (parts is None or parts.netloc != ray.address or not parts.port or not parts.hostname):
        document.refuse("ray.address", "expected host:port, or nothing for a head of its own")
    if ray.temp_dir and not Path(ray.temp_dir).is_absolute():
        document.refuse("ray.temp_dir", "expected an absolute path")
    if not ray.address:
        _ports(document, ray)
    return ray


def _ports(document: Document, ray: RaySettings) -> None:
    """Refuse ports that a head does not begin with, free or not."""
    if ray.dashboard_port == ray.metrics_port:
        document.refuse("ray.metrics_port", "is ray.dashboard_port too")
    for key, port in (("dashboard_port", ray.dashboard_port), ("metrics_port", ray.metrics_port)):
        if port in RAYS_PORTS:
            document.refuse(f"ray.{key}", f"Ray keeps {RAYS_PORTS[0]} to {RAYS_PORTS[-1]} for itself")


def _together(document: Document, settings: Settings) -> None:
    """Refuse values that are each possible, but not beside one another."""
    engine, pairs, most = settings.engine, len(settings.pairs), settings.engine.max_pairs_per_node
    if engine.flush_interval_ms < engine.gather_ms:
        document.refuse("engine.flush_interval_ms", f"is less than engine.gather_ms ({engine.gather_ms})")
    if engine.close_grace_ms >= engine.stale_after_s * 1_000:
        document.refuse("engine.close_grace_ms", f"reaches engine.stale_after_s ({engine.stale_after_s:g} s)")
    if settings.embeddings.timeframe not in engine.timeframes:
        document.refuse("embeddings.timeframe", "is none of engine.timeframes")
    if pairs > most and not settings.ray.address:
        document.refuse("pairs", f"{pairs} pairs, but engine.max_pairs_per_node is {most}")
    if any(one.push for one in settings.pairs):
        _redis_for_pushing(document, settings)


def _redis_for_pushing(document: Document, settings: Settings) -> None:
    """Refuse a Redis that no collector could find."""
    if not settings.redis.enabled:
        document.refuse("redis.enabled", 'a pair with feed = "push" needs it')
    elif settings.redis.url == EMBEDDED and len(bytes(settings.redis_socket)) > MAX_REDIS_SOCKET_BYTES:
        document.refuse(
            "data_dir", f"its path is too long for {settings.redis_socket}, where collectors push"
        )
