"""The one place that knows the websockets library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from feeds.loopback import is_loopback
from market.errors import RateLimited, Retryable

MAX_FRAME_BYTES = 4 * 1024 * 1024
OPEN_TIMEOUT_S = 10.0
TOO_MANY = {418, 429}
SHUT_OUT_S = 60.0  # where the answer names no time


class Socket:
    """An open connection to a venue; every fault of it is Retryable."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except (WebSocketException, OSError) as error:
            raise Retryable(f"connection lost: {error}") from error

    async def receive(self) -> bytes:
        """Return the next message, undecoded."""
        try:
            return await self._connection.recv(decode=False)
        except (WebSocketException, OSError) as error:
            raise Retryable(f"connection lost: {error}") from error

    async def ping(self) -> None:
        """Wait for the other end's answer to a ping of the protocol's own."""
        try:
            await (await self._connection.ping())
        except (WebSocketException, OSError) as error:
            raise Retryable(f"connection lost: {error}") from error

    def abort(self) -> None:
        """Cut the connection without a word, as for a peer that went silent."""
        self._connection.transport.abort()


@asynccontextmanager
async def open_socket(url: str) -> AsyncIterator[Socket]:
    """Connect without compression (it costs more than it saves here); close within a second at the end.

    Raises RateLimited where the venue says that there were too many connections, else Retryable.
    """
    try:
        connection = await connect(
            url,
            compression=None,
            proxy=None if is_loopback(url) else True,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1,
        )
    except InvalidStatus as error:
        if error.response.status_code in TOO_MANY:
            raise RateLimited(
                f"{url}: {error}", _wait_s(error.response.headers.get("Retry-After"))
            ) from error
        raise Retryable(f"{url}: {error}") from error
    except (WebSocketException, OSError) as error:
        raise Retryable(f"{url}: {error}") from error
    try:
        yield Socket(connection)
    finally:
        await connection.close()


def _wait_s(said: str | None) -> float:
    return float(said) if said is not None and said.isdecimal() else SHUT_OUT_S
