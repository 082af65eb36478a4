"""Stores as their users have them, each behind a relay and on a disk of its own, and what befalls them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import redis

from benchmarks.proxy import Proxy
from market.errors import Unreachable
from storage import embedded_redis
from storage.children import die_with_parent
from storage.embedded_questdb import EmbeddedQuestDB

KILLED, HUNG, SLOW, FULL, EMPTY = FAULTS = ("killed", "hung", "slow", "full disk", "restarted empty")
SLOW_S = 1.0
START_TIMEOUT_S, START_TRIES = 10.0, 5
_REDIS = "port {port}\nbind 127.0.0.1\ndir {folder}\nappendonly yes\nappendfsync everysec\nsave ''\n"


class Server(Protocol):
    """A real server that keeps its data in a folder."""

    folder: Path

    @property
    def port(self) -> int: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...


class Redis:
    """A server that keeps a log of its own, as a user's does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it with what its folder holds; harmless if it runs."""
        if self._child is not None and self._child.poll() is None:
            return
        self._child = subprocess.Popen(
            [str(embedded_redis._binary()), "-"],  # noqa: SLF001 - the same server as the product's
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, nothing that locks
        )
        if self._child.stdin:
            with self._child.stdin as pipe:
                pipe.write(_REDIS.format(port=self.port, folder=self.folder).encode())
        self._wait()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with redis.Redis.from_url(self.url) as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.RedisError:  # not listening, or still loading
                    time.sleep(0.01)
                else:
                    return
        raise Unreachable(f"no Redis at {self.url}")


class QuestDB:
    """A server that has its data on the disk it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = EmbeddedQuestDB(folder)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].rstrip(";")) if self.url else 0

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        if self._server.pid is not None and self._server.alive():
            os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()


class Victim:
    """A server, the relay that leads to it, and its disk."""

    def __init__(self, server: Server, *, own_disk: bool) -> None:
        self.server, self.own_disk = server, own_disk
        self._thread = ThreadPoolExecutor(1)  # the kernel ends a server with the thread that started it
        self._thread.submit(server.start).result()
        self.proxy = Proxy(server.port)
        self.proxy.start()
        self._ballast = server.folder / "ballast"

    def suffer(self, fault: str) -> None:
        match fault:
            case "killed":
                self.server.kill()
            case "hung":
                self.proxy.hold()
            case "slow":
                self.proxy.delay_s = SLOW_S
            case "full disk":
                _fill(self._ballast)
            case "restarted empty":
                self.server.kill()
                _clear(self.server.folder)
            case _:
                raise ValueError(fault)

    def heal(self) -> Future[float]:
        """Undo whatever it was; the future tells when (monotonic, s) the server was there again.

        One that ended of it is started as its service manager would.
        """
        self._ballast.unlink(missing_ok=True)
        self.proxy.release()
        self.proxy.delay_s = 0.0
        return self._thread.submit(self._start)

    def stop(self) -> None:
        self.proxy.stop()
        self.server.kill()
        self._thread.shutdown()

    def _start(self) -> float:
        for _ in range(START_TRIES - 1):  # as a service manager does
            with suppress(Unreachable):
                self.server.start()
                break
        else:
            self.server.start()
        self.proxy.target = self.server.port
        return time.monotonic()


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small disk in a folder; give False where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(ballast: Path) -> None:
    """Take all the room there is, to the last page."""
    with ballast.open("wb", buffering=0) as file:
        room = os.statvfs(ballast)
        with suppress(OSError):  # others write meanwhile
            os.posix_fallocate(file.fileno(), 0, max(room.f_bavail * room.f_frsize - 65_536, 1))
        with suppress(OSError):
            file.seek(0, os.SEEK_END)
            while file.write(bytes(4_096)):
                pass


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port
