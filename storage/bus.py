"""The one door to Redis: state keys, pub/sub and streams, one pipeline at a time.

Foreign errors are translated here: whatever waiting may cure is `Retryable`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import structlog
from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError, ResponseError

from market.errors import Retryable, UsageError

STREAM_BUDGET_BYTES = 128 * 1024 * 1024  # half of the embedded server's memory
ENTRY_BYTES = 640  # a candle's 420-byte message takes 450; the rest is for longer ones and for MAXLEN's ~
MAX_STREAM_ENTRIES = 10_000
SNAPSHOT_TTL_S = 60
_PER_EVENT = 3  # commands
_TORN, _FOREIGN = "stream_with_hole", "stream_of_another_record"

Message: TypeAlias = tuple[int, bytes]
"""An event's seq and its JSON."""
Fields: TypeAlias = Mapping[str, str | int | float]

log = structlog.get_logger(__name__)


def stream_maxlen(pairs: int) -> int:
    """Say how long each pair's stream may be so that all fit in half of the embedded server's memory."""
    return min(MAX_STREAM_ENTRIES, STREAM_BUDGET_BYTES // (ENTRY_BYTES * max(pairs, 1)))


def check_url(url: str) -> None:
    """Raise UsageError for an address, or an option in it, that the client does not understand."""
    _connection(url, 1.0)


class Sent(NamedTuple):
    """What one pipeline did."""

    replayed: int  # events that their stream already held
    refused: dict[str, str]  # symbol: reason; none of its events may be taken as sent
    snapshots_refused: int


class Bus:
    """A writer on one connection, which it never renews behind the caller's back.

    After a loss, of the connection or of a stream, every send raises until `resume_points` was asked: the
    server may have come back empty, and a stream that went on in the middle never gets its beginning.
    """

    def __init__(self, url: str, maxlen: int = MAX_STREAM_ENTRIES, timeout_s: float = 3.0) -> None:
        self.maxlen = maxlen
        self._timeout_s = timeout_s
        self._connection = _connection(url, timeout_s)
        self._lock = asyncio.Lock()
        self._lost = False
        self._spoilt: dict[str, str] = {}  # symbol: why its stream must go
        self._ends: dict[str, int] = {}  # by symbol: the last id that is ours; 0: there is no stream yet

    async def resume_points(self, last_seqs: Mapping[str, int]) -> dict[str, int]:
        """Ask after which seq each symbol's stream wants events; 0 where there is no stream.

        `last_seqs` is the newest event of each pair's own record. A stream that is ahead of it belongs to
        another record, as does a key that is no stream, and one with a hole is of no use: these go.
        """
        commands = [_pack(b"XINFO", b"STREAM", _stream(symbol)) for symbol in last_seqs]
        replies = await self._ask(commands)
        points = {}
        for (symbol, last), reply in zip(last_seqs.items(), replies, strict=True):
            points[symbol] = _last_id(reply)
            if not 0 <= points[symbol] <= last or symbol in self._spoilt:
                fact = self._spoilt.get(symbol, _FOREIGN)
                log.warning(fact, symbol=symbol, stream=points[symbol], record=last)
                await self._ask([_pack(b"DEL", _stream(symbol))])
                self._spoilt.pop(symbol, None)
                points[symbol] = 0
        self._ends |= points
        self._lost = False
        return points

    async def send(
        self,
        events: Mapping[str, Sequence[Message]],
        snapshots: Mapping[str, Fields] | None = None,
    ) -> Sent:
        """Write events (by symbol, in order of seq) and snapshots in one pipeline."""
        if self._lost:
            raise Retryable("the connection to Redis was lost; resume_points says where to go on")
        commands = self._event_commands(events)
        for symbol, fields in (snapshots or {}).items():
            commands += _snapshot_commands(symbol, fields)
        replies = await self._ask(commands)
        if gone := self._gone(events, replies):
            self._lost = True
            raise Retryable(f"Redis: the stream of {gone} is gone")
        sent = self._judge(events, replies)
        for symbol, ahead in self._ahead(events, replies).items():
            if not await self._holds(symbol, ahead):
                self._spoilt[symbol] = _FOREIGN
                sent.refused[symbol] = "its stream holds an entry of another record"
        return sent

    async def publish(self, symbol: str, events: Sequence[Message]) -> int:
        """Write one pair's events; return how many its stream already held."""
        sent = await self.send({symbol: events})
        if sent.refused:
            raise Retryable(f"Redis refused {symbol}: {sent.refused[symbol]}")
        return sent.replayed

    async def snapshot(self, symbol: str, fields: Fields) -> None:
        """Write the pair's snapshot, which lives for 60 s."""
        if (await self.send({}, {symbol: fields})).snapshots_refused:
            raise Retryable(f"Redis refused the snapshot of {symbol}")

    async def ping(self) -> None:
        """Raise Retryable unless the server answers."""
        (reply,) = await self._ask([_pack(b"PING")])
        if isinstance(reply, ResponseError):
            raise Retryable(f"Redis: {reply}")

    async def policy_warning(self) -> str | None:
        """Warn of an eviction policy that would throw whole streams away."""
        (reply,) = await self._ask([_pack(b"INFO", b"memory")])
        if isinstance(reply, ResponseError):
            return f"Redis does not tell its eviction policy: {reply}"
        policy = _info(reply).get("maxmemory_policy", "")
        if not policy.startswith("allkeys"):
            return None
        return f"Redis has maxmemory-policy {policy}, which may throw whole streams away; use volatile-lru"

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    def _event_commands(self, events: Mapping[str, Sequence[Message]]) -> list[bytes]:
        commands = []
        for symbol, batch in events.items():
            stream, channel = _stream(symbol), f"state_update:{symbol}"
            known = [b"NOMKSTREAM"] if self._ends.get(symbol) else []  # a lost one begins where it began
            for seq, message in batch:
                commands.append(
                    _pack(b"XADD", stream, *known, b"MAXLEN", b"~", self.maxlen, f"{seq}-0", b"m", message),
                )
                commands.append(_pack(b"PUBLISH", b"state_update", message))
                commands.append(_pack(b"PUBLISH", channel, message))
        return commands

    def _gone(self, events: Mapping[str, Sequence[Message]], replies: list[Any]) -> str | None:
        """Tell whose stream somebody has deleted: nothing was added to it."""
        at = 0
        for symbol, batch in events.items():
            end = at + _PER_EVENT * len(batch)
            if None in replies[at:end:_PER_EVENT]:
                return symbol
            at = end
        return None

    def _judge(self, events: Mapping[str, Sequence[Message]], replies: list[Any]) -> Sent:
        replayed, refused, at = 0, {}, 0
        for symbol, batch in events.items():
            end = at + _PER_EVENT * len(batch)
            adds = replies[at:end:_PER_EVENT]
            replays = [_is_replay(reply) for reply in adds]
            replayed += sum(replays)
            errors = [r for r in replies[at:end] if isinstance(r, ResponseError) and not _is_replay(r)]
            if errors:
                refused[symbol] = str(errors[0])
            if _has_hole(adds, replays):
                self._spoilt[symbol] = _TORN
            at = end
        return Sent(replayed, refused, sum(isinstance(r, ResponseError) for r in replies[at:]))

    def _ahead(self, events: Mapping[str, Sequence[Message]], replies: list[Any]) -> dict[str, list[Message]]:
        """Follow the streams' ends; return the replays of what we do not know to be there."""
        ahead: dict[str, list[Message]] = {}
        adds = iter(replies[::_PER_EVENT])
        for symbol, batch in events.items():
            for (seq, message), reply in zip(batch, adds, strict=False):
                if not isinstance(reply, ResponseError):
                    self._ends[symbol] = seq
                elif _is_replay(reply) and symbol in self._ends and seq > self._ends[symbol]:
                    ahead.setdefault(symbol, []).append((seq, message))
        return ahead

    async def _holds(self, symbol: str, ahead: Sequence[Message]) -> bool:
        """Tell whether a stream has these, as when a connection that hung was heard in the end."""
        first, last = ahead[0][0], ahead[-1][0]
        (reply,) = await self._ask([_pack(b"XRANGE", _stream(symbol), f"{first}-0", f"{last}-0")])
        if isinstance(reply, ResponseError):
            raise Retryable(f"Redis: {reply}")
        found = dict(reply)
        if any(found.get(b"%d-0" % seq) != [b"m", message] for seq, message in ahead):
            return False
        self._ends[symbol] = max(last, self._ends[symbol])
        return True

    async def _ask(self, commands: Sequence[bytes]) -> list[Any]:
        """Send the commands and read an answer to each: an error of the server's is an answer."""
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._connection.connect()
                    await self._connection.send_packed_command(commands, check_health=False)
                    return [await self._reply() for _ in commands]
            except BaseException as error:
                # Whatever happened, cancelling included, answers may be outstanding on this connection.
                self._lost = True
                await self._connection.disconnect(nowait=True)
                if isinstance(error, (RedisError, OSError)):  # TimeoutError is an OSError
                    raise Retryable(f"Redis: {str(error) or 'no answer in time'}") from error
                raise

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error


def _connection(url: str, timeout_s: float) -> Any:
    """Prepare (not open) a connection; the client's own retries are off, a loss must be seen."""
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,  # one limit for a whole pipeline stands in _ask
            socket_connect_timeout=timeout_s,
        )
        connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has none here
    except (ValueError, TypeError, RedisError) as error:
        raise UsageError(f"redis.url: {error}") from error
    if getattr(connection, "path", None) == "":
        raise UsageError("redis.url: unix:// needs the path of a socket")
    return connection


def _pack(*command: bytes | str | float) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub allows one word only
    return packed


def _stream(symbol: str) -> str:
    return f"stream:state_update:{symbol}"


def _snapshot_commands(symbol: str, fields: Fields) -> list[bytes]:
    key = f"market:snapshot:{symbol}"
    flat = [part for item in fields.items() for part in item]
    return [_pack(b"HSET", key, *flat), _pack(b"EXPIRE", key, SNAPSHOT_TTL_S)]


def _last_id(reply: Any) -> int:
    """Read the last id a stream gave out from XINFO STREAM; 0: there is none, -1: it is no stream of ours."""
    if isinstance(reply, ResponseError):
        text = str(reply)
        if "no such key" in text:
            return 0
        if text.startswith("WRONGTYPE"):
            return -1
        raise Retryable(f"Redis: {text}")
    info = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return int(info[b"last-generated-id"].partition(b"-")[0])


def _is_replay(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and "equal or smaller" in str(reply)


def _has_hole(adds: list[Any], replays: list[bool]) -> bool:
    """Tell whether an entry was refused and a later one taken: the refused one can never be added."""
    refused = False
    for reply, replay in zip(adds, replays, strict=True):
        failed = isinstance(reply, ResponseError)
        if refused and not failed:
            return True
        refused |= failed and not replay
    return False


def _info(reply: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, _, value in pairs}
