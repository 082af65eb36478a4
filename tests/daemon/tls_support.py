"""Encryption in front of real servers, as a company's own proxy gives it, with a certificate made here."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_READ_BYTES = 65_536


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make an authority of our own and a certificate of it for localhost; return both, authority first."""
    root, cert, key = folder / "root.pem", folder / "cert.pem", folder / "key.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    leaf = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    signed = ["-CA", str(root), "-CAkey", f"{root}.key"]
    for command in (
        [*new, "-subj", "/CN=marketd's tests", "-keyout", f"{root}.key", "-out", str(root)],
        [*new, "-subj", "/CN=localhost", *leaf, *signed, "-keyout", str(key), "-out", str(cert)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return root, cert


@contextmanager
def encrypted(target: int, cert: Path) -> Iterator[int]:
    """Relay TLS on a loopback port, which is given, to a plain one."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), list[int]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, cert.with_name("key.pem"))

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _relay(reader, writer, target)
        except (OSError, asyncio.CancelledError):  # a peer that is gone; the end of this test
            writer.transport.abort()
        writer.close()

    def run() -> None:
        server = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0, ssl=context))
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", target)
    ways = {asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        back.close()
        await _end(ways)


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    await asyncio.sleep(0)  # transports that were closed let go of their sockets in the next turn


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(_READ_BYTES):
            sink.write(chunk)
            await sink.drain()
