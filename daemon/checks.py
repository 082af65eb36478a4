"""What `marketd check` finds out before `marketd run` would."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from urllib.parse import urlsplit

from daemon import lock
from daemon.ray_head import reach, temp_dir
from daemon.settings import (
    EMBEDDED,
    EmbeddingsSettings,
    PairSettings,
    QuestDBSettings,
    RedisSettings,
    Settings,
)
from feeds import rest
from feeds.venues import VENUES
from market.errors import BadFrame, MarketdError, Retryable, Unreachable, UsageError
from market.pairs import Pair
from storage.bus import Bus
from storage.embedded_redis import EmbeddedRedis
from storage.minilm import require_libraries
from storage.questdb_jar import SERVER, default_cache, obtain
from storage.questdb_sql import Sql
from storage.questdb_url import parse

LOW_SPACE_BYTES = 5 << 30
MAX_SKEW_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer; a fatal one means that the daemon would not start, or would record nothing."""

    ok: bool
    fatal: bool
    text: str


def check(settings: Settings) -> list[Finding]:
    """Look at everything the daemon needs, without changing anything."""
    followed = ", ".join(one.pair.key for one in settings.pairs)
    return [
        _good(f"configuration: {len(settings.pairs)} pairs: {followed}"),
        *_data_dir(settings.data_dir),
        *_venues(settings),
        *_redis(settings.redis),
        *_questdb(settings.questdb),
        *_embeddings(settings.embeddings),
        *_ray(settings),
    ]


def _good(text: str) -> Finding:
    return Finding(ok=True, fatal=False, text=text)


def _odd(text: str) -> Finding:
    return Finding(ok=False, fatal=False, text=text)


def _bad(text: str) -> Finding:
    return Finding(ok=False, fatal=True, text=text)


def _data_dir(folder: Path) -> Iterable[Finding]:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with TemporaryFile(dir=there) as probe:
            probe.write(b"marketd")
            probe.flush()
    except OSError as error:
        yield _bad(f"data_dir {folder}: {(error.strerror or str(error)).lower()}")
        return
    free = shutil.disk_usage(there).free
    found = _odd if free < LOW_SPACE_BYTES else _good
    yield found(f"data_dir {folder}: writable, {free / 1e9:.1f} GB free")
    holder = lock.holder(folder)
    if holder is None:
        yield _good("lock: free")
    else:
        yield _bad(f"lock: another marketd (pid {holder}) is running on {folder}")


def _venues(settings: Settings) -> Iterable[Finding]:
    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(lambda one: _pair(settings, one), settings.pairs)


def _pair(settings: Settings, one: PairSettings) -> Finding:
    if one.push:  # whatever its exchange is called, no venue is asked for it
        return _good(f"{one.pair.exchange} {one.pair.market}: {one.pair.symbol}: pushed, has no venue")
    return _symbol(settings, one.pair)


def _symbol(settings: Settings, pair: Pair) -> Finding:
    """Ask the venue what the symbol is, and what time it has there (in whole seconds)."""
    venue, rest_url = (
        VENUES[pair.exchange, pair.market],
        settings.exchanges[pair.exchange, pair.market].rest_url,
    )
    name, url = f"{pair.exchange} {pair.market}: {pair.symbol}", rest_url + venue.listing(pair.symbol).path
    try:
        before_s, answer = time.time(), rest.answer_now(url, too_many=venue.rules.too_many)
        listing = venue.parse_listing(answer.body, pair.symbol)
    except (Retryable, BadFrame) as error:
        return _bad(f"{name}: {rest_url}: {error}")
    skew_s = _skew_s(before_s, answer.server_s)
    told = f"{name}: {listing.status}"
    if skew_s > MAX_SKEW_S:
        return _odd(f"{told}; this host's clock is {skew_s:.0f} s off the venue's")
    return (_good if listing.trading else _odd)(told)


def _skew_s(before_s: float, server_s: int | None) -> float:
    """Say how far the venue's clock is outside of the time its answer took."""
    return 0.0 if server_s is None else max(before_s - server_s - 1, server_s - time.time(), 0.0)


def _redis(settings: RedisSettings) -> Iterable[Finding]:
    if not settings.enabled:
        yield _good("redis: disabled")
    elif settings.url == EMBEDDED:
        yield _embedded()
    else:
        yield asyncio.run(_server(settings.url))


def _embedded() -> Finding:
    with TemporaryDirectory() as folder:
        server = EmbeddedRedis(Path(folder))
        try:
            server.start()
        except Unreachable as error:
            return _bad(f"redis: {error}")
        finally:
            server.stop()
    return _good("redis: the embedded server starts")


async def _server(url: str) -> Finding:
    parts = urlsplit(url)  # of which the password may be in two places
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    bus = Bus(url)
    try:
        await bus.ping()
        warning = await bus.policy_warning()
    except (Retryable, UsageError) as error:
        return _bad(f"redis: {shown}: {error}")
    finally:
        await bus.close()
    return _odd(f"redis: {shown}: {warning}") if warning else _good(f"redis: {shown} answers")


def _questdb(settings: QuestDBSettings) -> Iterable[Finding]:
    """Look at a server of the user's; one of our own needs its jar, which may have to be fetched first."""
    if not settings.enabled:
        yield _good("questdb: disabled")
    elif settings.url == EMBEDDED:
        try:
            obtain(SERVER, default_cache())
        except Unreachable as error:
            yield _odd(f"questdb: {error}; everything else runs without it")
        else:
            yield _good("questdb: the embedded server's jar is there")
    else:
        server = Sql(parse(settings.url), 5.0)
        try:
            server.rows("SELECT 1")
        except MarketdError as error:
            yield _odd(f"questdb: {error}; its rows wait with the pairs")
        else:
            yield _good("questdb: answers")


def _embeddings(settings: EmbeddingsSettings) -> Iterable[Finding]:
    if not settings.enabled:
        yield _good("embeddings: disabled")
        return
    try:
        require_libraries()
    except UsageError as error:
        yield _odd(str(error))
    else:
        yield _good("embeddings: their libraries are installed")


def _ray(settings: Settings) -> Iterable[Finding]:
    address = settings.ray.address
    try:
        if address:
            reach(address)
        else:
            temp_dir(settings.run_dir, settings.ray.temp_dir)
    except (Unreachable, UsageError) as error:
        yield _bad(str(error))
    else:
        yield _good(f"Ray at {address}: answers" if address else "ray: a head of its own")
