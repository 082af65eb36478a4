"""How other shells speak to a running daemon: one request, one reply over a Unix socket.

A frame is a 4-byte big-endian length and that much msgpack. A request is {"method", "params"}, a reply either
{"result"} or {"error": class name, "message"}. The client imports no asyncio, so that it answers at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from market import errors
from market.errors import Fatal, MarketdError, Retryable, Unreachable

if TYPE_CHECKING:
    import asyncio

MAX_REQUEST = 1 << 20
MAX_REPLY = 256 << 20

Handler = Callable[..., Awaitable[Mapping[str, Any]]]


class NoDaemon(Unreachable):
    """Nobody listens on this data folder."""


class ControlServer:
    """Answer requests by the handlers, each called with the request's params as keywords.

    An error of the project's travels to the client by its class; any other one as Fatal.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen, in the place of the socket of a dead daemon (who calls this holds the folder's lock)."""
        import asyncio  # noqa: PLC0415  the client lives without it

        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _short(self._path) as name:
            self._server = await asyncio.start_unix_server(self._serve, name)

    async def stop(self) -> None:
        """Stop listening and drop the connections that are open."""
        if self._server is not None:
            self._server.close()
            for client in self._clients:
                client.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        with suppress(OSError, EOFError):  # a client that went away wants no answer
            length = int.from_bytes(await reader.readexactly(4), "big")
            if length <= MAX_REQUEST:
                reply = await self._answer(await reader.readexactly(length))
            else:
                reply = _refusal(Fatal(f"a request of {length} bytes"))
            writer.write(len(reply).to_bytes(4, "big") + reply)
            await writer.drain()
        writer.close()
        self._clients.discard(writer)

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
            return _refusal(errors.UsageError(f"the answer is larger than {MAX_REPLY >> 20} MiB"))
        return reply


def call(path: Path, method: str, timeout_s: float = 30.0, **params: Any) -> dict[str, Any]:
    """Ask the daemon that listens on `path`.

    Raises NoDaemon, the daemon's own error by its class, or Unreachable when it does not answer in time.
    """
    request = msgspec.msgpack.encode({"method": method, "params": params})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        _connect(sock, path)
        try:
            sock.sendall(len(request).to_bytes(4, "big") + request)
            reply = _receive(sock, int.from_bytes(_receive(sock, 4), "big"))
        except OSError as error:
            raise Unreachable(f"the daemon on {path.parent.parent} does not answer: {error}") from error
    answer = msgspec.msgpack.decode(reply)
    if "error" in answer:
        raise _error(answer["error"], answer["message"])
    result: dict[str, Any] = answer["result"]
    return result


def _connect(sock: socket.socket, path: Path) -> None:
    try:
        with _short(path) as name:
            sock.connect(name)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NoDaemon(f"no daemon is running on {path.parent.parent}") from error
    except OSError as error:
        raise Unreachable(f"the daemon on {path.parent.parent}: {error.strerror or error}") from error


def _receive(sock: socket.socket, length: int) -> bytes:
    reply = bytearray()
    while len(reply) < length:
        chunk = sock.recv(min(length - len(reply), 1 << 20))
        if not chunk:
            raise ConnectionResetError("it closed the connection")
        reply += chunk
    return bytes(reply)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Name a socket through its opened folder: the kernel takes at most 107 bytes of a path."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _refusal(error: Exception) -> bytes:
    ours = isinstance(error, MarketdError)
    name = type(error).__name__ if ours else Fatal.__name__
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return msgspec.msgpack.encode({"error": name, "message": text})


def _error(name: str, message: str) -> MarketdError:
    """Make the error again; one that is made of more than a message becomes its nearest plain kind."""
    kind = getattr(errors, name, Fatal)
    if issubclass(kind, Retryable):
        return Retryable(message)
    return kind(message) if issubclass(kind, Fatal) else MarketdError(message)
