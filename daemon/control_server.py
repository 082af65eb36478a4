"""The daemon's end of its control socket; the frames are told of in `control`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from market.errors import Fatal, MarketdError, UsageError
from storage.unix_path import short_path

log = structlog.get_logger()
MAX_REQUEST = 1 << 20
MAX_REPLY = 256 << 20

Handler = Callable[..., Awaitable[Mapping[str, Any]]]


class ControlServer:
    """Answer requests by the handlers, each called with the request's params as keywords.

    An error of the project's travels to the client by its class; any other one as Fatal.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, in the place of the socket of a dead daemon (who calls this holds the folder's lock)."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with short_path(self._path) as name:
            self._server = await asyncio.start_unix_server(self._accept, name)

    async def stop(self) -> None:
        """Stop listening and drop the connections that are open, with what they wait for."""
        if self._server is None:
            return
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._reply(reader)
            writer.write(len(reply).to_bytes(4, "big") + reply)
            await writer.drain()
        except (OSError, EOFError):
            return  # a client that went away wants no answer
        finally:
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        """Read a request and answer it; give it up, raising EOFError, when the client goes away first."""
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > MAX_REQUEST:
            return _refusal(Fatal(f"a request of {length} bytes"))
        answer = asyncio.create_task(self._answer(await reader.readexactly(length)))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise EOFError
        finally:
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _answer(self, request: bytes) -> bytes:
        try:
            asked = msgspec.msgpack.decode(request)
            handler = self._handlers.get(asked["method"])
            if handler is None:
                return _refusal(Fatal(f"the running daemon does not know {asked['method']!r}"))
            reply = msgspec.msgpack.encode({"result": await handler(**asked["params"])})
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told and the daemon goes on
            return _refusal(error)
        if len(reply) > MAX_REPLY:
            return _refusal(UsageError(f"the answer is larger than {MAX_REPLY >> 20} MiB"))
        return reply


def _refusal(error: Exception) -> bytes:
    ours = isinstance(error, MarketdError)
    if not ours:
        log.error("control_failed", exc_info=error)
    name = type(error).__name__ if ours else Fatal.__name__
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return msgspec.msgpack.encode({"error": name, "message": text})
