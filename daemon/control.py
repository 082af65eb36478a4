"""How other shells speak to a running daemon: one request, one reply over a Unix socket.

A frame is a 4-byte big-endian length and that much msgpack. A request is {"method", "params"}, a reply either
{"result"} or {"error": class name, "message"}. This end, the client, imports no asyncio: it answers at once.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec

from market import errors
from market.errors import Fatal, MarketdError, Retryable, Unreachable
from storage.unix_path import short_path


class NoDaemon(Unreachable):
    """Nobody listens on this data folder."""


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
        with short_path(path) as name:
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


def _error(name: str, message: str) -> MarketdError:
    """Make the error again; one that is made of more than a message becomes its nearest plain kind."""
    kind = getattr(errors, name, Fatal)
    if issubclass(kind, Retryable):
        return Retryable(message)
    return kind(message) if issubclass(kind, Fatal) else MarketdError(message)
