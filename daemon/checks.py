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

import msgspec

from actors.spec import LiveSource
from daemon import lock
from daemon.ray_head import reach, temp_dir
from daemon.settings import EMBEDDED, EmbeddingsSettings, QuestDBSettings, RedisSettings, Settings
from feeds import binance_spot, rest
from market.errors import BadFrame, MarketdError, Retryable, Unreachable, UsageError
from storage.bus import Bus
from storage.embedded_redis import EmbeddedRedis
from storage.minilm import require_libraries
from storage.questdb_jar import SERVER, default_cache, obtain
from storage.questdb_sql import Sql
from storage.questdb_url import parse

LOW_SPACE_BYTES = 5 << 30
MAX_SKEW_MS = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer; a fatal one means that the daemon would not start, or would record nothing."""

    ok: bool
    fatal: bool
    text: str


class _VenueTime(msgspec.Struct):
    serverTime: int  # noqa: N815  the venue's name


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
    for venue, addresses in settings.exchanges.items():
        symbols = [one.pair.symbol for one in settings.pairs if (one.pair.exchange, one.pair.market) == venue]
        if symbols:
            yield from _venue(" ".join(venue), addresses, symbols)


def _venue(name: str, addresses: LiveSource, symbols: list[str]) -> Iterable[Finding]:
    try:
        skew_ms = _skew_ms(f"{addresses.rest_url}/api/v3/time")
    except (Retryable, msgspec.MsgspecError) as error:
        yield _bad(f"{name}: {addresses.rest_url}: {error}")
        return
    found = _odd if skew_ms > MAX_SKEW_MS else _good
    yield found(f"{name}: {addresses.rest_url} answers; this host's clock is {skew_ms} ms off")
    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(lambda symbol: _symbol(name, addresses.rest_url, symbol), symbols)


def _skew_ms(url: str) -> int:
    """Say how far the venue's clock is outside of the time its answer took."""
    before_ms = time.time_ns() // 1_000_000
    venue_ms = msgspec.json.decode(rest.get_now(url), type=_VenueTime).serverTime
    return max(before_ms - venue_ms, venue_ms - time.time_ns() // 1_000_000, 0)


def _symbol(name: str, rest_url: str, symbol: str) -> Finding:
    try:
        status = binance_spot.parse_symbol(
            rest.get_now(rest_url + binance_spot.symbol_request(symbol))
        ).status
    except (Retryable, BadFrame) as error:
        return _bad(f"{name}: {symbol}: {error}")
    return (_good if status == "TRADING" else _odd)(f"{name}: {symbol}: {status}")


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
