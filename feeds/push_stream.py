"""The one door to a push stream: Redis's answers as pages, its faults as Retryable."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError, ResponseError

from feeds.push_fields import Entry
from market.errors import Retryable, UsageError

COUNT = 1_000
BEGINNING = "0-0"
TIMEOUT_S = 3.0
BLOCK_MS = 1_000

# An id says nothing of a stream that was begun anew meanwhile: the entry itself must be there.
_TRIM = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[1])
"""

Word: TypeAlias = str | bytes | int


class Page(NamedTuple):
    """The entries after an id, at most COUNT, and what the stream was at that moment.

    `added` counts all that ever were in it, `length` those that are; -1: there is no stream.
    """

    entries: list[Entry]
    added: int = -1
    length: int = 0
    last_id: str = BEGINNING

    @property
    def exists(self) -> bool:
        return self.added >= 0

    @property
    def is_last(self) -> bool:
        """Whether nothing stood behind these entries."""
        return len(self.entries) < COUNT


class PushStream:
    """Read and trim one stream on a connection of its own, which is made anew when it is lost."""

    def __init__(self, url: str, name: str) -> None:
        self.name, self.server = name, _shown(url)
        self._connection = _connection(url)

    async def page(self, after: str) -> Page:
        """Read what follows an id; both answers are of one moment."""
        read = ("XREAD", "COUNT", COUNT, "STREAMS", self.name, after)
        *refused, answers = await self._ask(("MULTI",), read, ("XINFO", "STREAM", self.name), ("EXEC",))
        if isinstance(answers, ResponseError):
            raise self._refusal(next((x for x in refused if isinstance(x, ResponseError)), answers))
        found, info = answers
        if isinstance(info, ResponseError) and "no such key" in str(info):
            return Page([])
        for answer in (found, info):
            if isinstance(answer, ResponseError):
                raise self._refusal(answer)
        return _page(found, dict(zip(info[::2], info[1::2], strict=True)))

    async def wait(self, after: str) -> None:
        """Return when something follows an id, or after BLOCK_MS."""
        await self._ask(("XREAD", "COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS", self.name, after))

    async def trim(self, upto: str) -> bool:
        """Let entries before an id go, whole blocks of them; tell whether there may be more."""
        (removed,) = await self._ask(("EVAL", _TRIM, 1, self.name, upto))
        if isinstance(removed, ResponseError):
            raise self._refusal(removed)
        return bool(removed)  # the server ends a long work early

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    async def _ask(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send the commands and read an answer to each: an error of the server's is an answer."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._connection.connect()
                await self._connection.send_packed_command(_packed(commands), check_health=False)
                return [await self._reply() for _ in commands]
        except BaseException as error:
            # Whatever happened, cancelling included, answers may be outstanding on this connection.
            await self.close()
            if isinstance(error, (RedisError, OSError)):  # TimeoutError is an OSError
                raise Retryable(f"Redis: {str(error) or 'no answer in time'}") from error
            raise

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    def _refusal(self, error: ResponseError) -> Retryable:
        return Retryable(f"Redis: {self.name}: {error}")


def place_of(entry_id: str) -> tuple[int, int]:
    """Make stream ids comparable."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def _page(found: Any, info: dict[bytes, Any]) -> Page:
    if b"entries-added" not in info:
        raise Retryable("Redis 7, or Valkey, is needed: an older one does not tell what was deleted")
    rows = found[0][1] if found else []
    entries: list[Entry] = [(name, dict(zip(row[::2], row[1::2], strict=True))) for name, row in rows]
    return Page(entries, info[b"entries-added"], info[b"length"], info[b"last-generated-id"].decode())


def _connection(url: str) -> Any:
    """Prepare (not open) a connection without retries of its own: a loss must be seen."""
    try:
        pool = ConnectionPool.from_url(url, protocol=2, socket_timeout=None, socket_connect_timeout=TIMEOUT_S)
        connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has none here
    except (ValueError, TypeError, RedisError) as error:
        raise UsageError(f"redis.url: {error}") from error
    return connection


def _packed(commands: tuple[tuple[Word, ...], ...]) -> list[bytes]:
    return [pack_command(command) for command in commands]  # type: ignore[arg-type]  # its stub allows one word


def _shown(url: str) -> str:
    """Say where a server is, without the password that may be in two places."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
