"""Ray's head as a child process of our own: placement and restart for the actors of one daemon."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from actors import priority
from daemon import orphans, ray_hook
from daemon.kept_head import TOKEN, KeptHead
from daemon.ports import Claim
from daemon.settings import RaySettings
from market.errors import Unreachable, UsageError
from storage.children import die_with_parent, end

NAMESPACE = "marketd"
PAIR_RESOURCE = "marketd_pair"
"""A custom resource: every pair's actor takes one of its node's `max_pairs_per_node`."""

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 6.0
REACH_TIMEOUT_S = 5.0
MAX_TEMP_DIR_BYTES = 34
"""With ours ("/r") and Ray's (session, sockets, the longest name: 71) a socket's path may reach 107."""

_MARK = "MARKETD_RAY_DIR"
_OBJECT_STORE_BYTES = 80_000_000
_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the switch that keeps a node on loopback
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # we drain; Ray would wait 30 s for living actors
    "RAY_ROTATION_BACKUP_COUNT": "2",
    "RAY_ROTATION_MAX_BYTES": "10000000",
    "RAY_START_HOOK": ray_hook.PATH,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_debug_dump_period_milliseconds": "0",
    "RAY_enable_metrics_collection": "1",
    "RAY_event_stats": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    "RAY_global_gc_min_interval_s": "3600",  # else every worker collects, for 0.1 s, when one is started
    "RAY_local_gc_min_interval_s": "3600",
    "RAY_memory_monitor_refresh_ms": "0",  # it kills the newest workers, whatever their size
    "RAY_preload_python_modules": "daemon.ray_worker",
    "RAY_worker_maximum_startup_concurrency": str(os.cpu_count() or 1),  # num_cpus (0) says one
    "RAY_worker_niceness": "0",  # else every other process goes before the pairs; each finds its place
    "RAY_task_events_report_interval_ms": "0",  # else leaving a head that died takes 5 s more
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
_DRIVER = {
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a call to an actor of a head that died starts a Ray of its own
    "RAY_enable_metrics_collection": "0",  # else leaving a head that died takes 10 s
    "RAY_gcs_rpc_server_reconnect_timeout_s": "60",  # then Ray ends the process: we have left long before
}


class RayHead:
    """Run `ray start --head` as a child; it and all its workers die with this process.

    Its sockets and logs are in `{run_dir}/ray` (or where that links to), what it says itself in
    `{run_dir}/ray-head.log`. The caller holds the data folder's lock, so an earlier head's are left-overs.
    Where `marketd ray-head` keeps a head for this run folder, that one is used and none started.
    """

    def __init__(self, run_dir: Path, settings: RaySettings, max_pairs: int, token: str = "") -> None:
        self._run_dir = run_dir.absolute()
        self._settings = settings
        self._max_pairs = max_pairs
        self._temp_dir = Path()
        self._temp_lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._kept: KeptHead | None = None
        self._address = ""
        self._claims: tuple[Claim, ...] = ()
        self.dashboard_port, self.metrics_port = settings.dashboard_port, settings.metrics_port
        self._token = token or secrets.token_hex(32)  # one for life: a process that attached remembers it

    @property
    def address(self) -> str:
        """Where the head answers (host:port); empty before `start`."""
        return self._address

    @property
    def environment(self) -> dict[str, str]:
        """Give what a process needs in its environment to attach; little where it is a cluster of others'."""
        mark = orphans.environment(self._run_dir)
        return mark | self._own if self._child or self._kept else mark

    @property
    def marked(self) -> Path:
        """Name the run folder whose mark the head's workers carry (orphans): ours, or its keeper's."""
        return self._kept.run_dir if self._kept else self._run_dir

    @property
    def _own(self) -> dict[str, str]:
        return _SETTINGS | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.marked / TOKEN)}

    def start(self) -> str:
        """Start the head and return its address, after about 3 s; raise Unreachable with its last words.

        The thread that calls this must live as long as the head should: the kernel ends it with that thread.
        """
        if self._kept is None and KeptHead(self._run_dir).is_held():
            self._kept = KeptHead(self._run_dir)
        if self._kept is not None:  # once a keeper's, always the keeper's: it is brought back, not replaced
            self._address = self._kept.wait()
            return self._address
        try:
            self._temp_dir = temp_dir(self._run_dir, self._settings.temp_dir)
            self._temp_lock = _prepare(self._temp_dir)
            _link(self._run_dir / "ray", self._temp_dir)
            _write_token(self._run_dir / TOKEN, self._token)
        except OSError as error:
            raise UsageError(f"ray.temp_dir {self._temp_dir}: {error.strerror or error}") from error
        self._child = self._spawn()
        self._address = self._wait()
        return self._address

    def poll(self) -> int | None:
        """Give None while the head lives; it ends by itself within 2 s of any of its own processes."""
        if self._kept is not None:
            return None if self._kept.address() else 1
        return None if self._child is None else self._child.poll()

    def stop(self) -> None:
        """End the head and everything it started, by force after 6 s; harmless if it is gone."""
        if self._child is None:
            return
        end(self._child, STOP_TIMEOUT_S)
        orphans.kill(self._run_dir, _MARK, timeout_s=3.0)
        if self._temp_lock is not None:
            os.close(self._temp_lock)
            if self._run_dir not in self._temp_dir.parents:  # nobody would ever remove it
                shutil.rmtree(self._temp_dir, ignore_errors=True)
        self._child, self._temp_lock = None, None
        self._release_ports()

    def _spawn(self) -> subprocess.Popen[bytes]:
        marks = orphans.environment(self._run_dir) | orphans.environment(self._run_dir, _MARK)
        environment = os.environ | self._own | marks | priority.environment()
        environment.pop("RAY_ADDRESS", None)
        with self._log_path.open("wb") as log:
            child = subprocess.Popen(  # noqa: S603  our own interpreter, arguments from a checked configuration
                [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", *self._arguments()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we drain before it ends
                preexec_fn=die_with_parent,  # noqa: PLW1509  it makes one system call, nothing that locks
            )
        priority.put_first(child.pid)  # else an actor that starts among a hundred others waits minutes
        return child

    def _arguments(self) -> list[str]:
        self._choose_ports()
        return [
            "--head",
            "--block",
            "--port=0",
            "--node-ip-address=127.0.0.1",
            "--dashboard-agent-listen-port=0",
            "--include-log-monitor=false",
            "--no-monitor",
            "--num-cpus=0",
            f"--resources={json.dumps({PAIR_RESOURCE: self._max_pairs})}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            f"--temp-dir={self._temp_dir / 'r'}",
            f"--metrics-export-port={self.metrics_port}",
            f"--include-dashboard={str(self._settings.dashboard).lower()}",
            f"--dashboard-port={self.dashboard_port}",
        ]

    def _choose_ports(self) -> None:
        """Take the ports of the settings, or others where somebody has them."""
        self._release_ports()
        metrics, dashboard = Claim.of(self._settings.metrics_port), Claim.of(self._settings.dashboard_port)
        self._claims = (metrics, dashboard)
        self.metrics_port, self.dashboard_port = metrics.port, dashboard.port

    def _release_ports(self) -> None:
        for claim in self._claims:
            claim.release()

    def _wait(self) -> str:
        written = self._temp_dir / "r" / "ray_current_cluster"  # when all of the head is up
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.poll() is None and time.monotonic() < deadline:
            if written.exists() and (address := written.read_text(encoding="utf-8").strip()):
                return address
            time.sleep(0.02)
        self.stop()
        raise Unreachable(f"Ray's head did not start: {self._last_words()} (all of it: {self._log_path})")

    @property
    def _log_path(self) -> Path:
        return self._run_dir / "ray-head.log"

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join([line.strip() for line in lines if line.strip()][-3:]) or "it said nothing"


def temp_dir(run_dir: Path, wanted: str = "") -> Path:
    """Choose Ray's folder: in the run folder if its path is short enough, else one of its own in /var/tmp.

    Raises UsageError for a wanted folder that is too long; in it each data folder has one of its own.
    """
    own = run_dir / "ray"
    if not wanted and len(bytes(own)) <= MAX_TEMP_DIR_BYTES:
        return own
    base = Path(wanted or f"/var/tmp/marketd-{os.getuid()}")  # noqa: S108  private, or refused, by _prepare
    chosen = base / hashlib.sha256(bytes(run_dir)).hexdigest()[:6]
    if len(bytes(chosen)) > MAX_TEMP_DIR_BYTES:
        raise UsageError(
            f"ray.temp_dir {wanted}: longer than the {MAX_TEMP_DIR_BYTES - 7} bytes that Ray can use"
        )
    return chosen


def attach(address: str, environment: Mapping[str, str]) -> None:
    """Join this process to the Ray at `address`; raise Unreachable if it does not answer.

    Call it from the main thread, before anything imports ray, which reads its environment then. Ray puts its
    driver's working folder first on its workers' path, and takes SIGTERM: both stay ours.
    """
    reach(address)
    os.environ.update({**environment, **_DRIVER})
    import ray  # noqa: PLC0415  half a second, and it must see the environment

    # What Ray's listener tells of dead processes goes to stdout, amid our own output; its logs have it too.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001  there is no public switch
    try:
        with _sigterm_stays_ours(), contextlib.chdir(Path(__file__).parents[1]):
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise Unreachable(f"Ray at {address}: {_one_line(error)}") from error


def reach(address: str) -> None:
    """Raise Unreachable unless somebody listens there: ray.init would try for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_S).close()
    except OSError as error:
        raise Unreachable(f"Ray at {address}: {(error.strerror or str(error)).lower()}") from error


def detach() -> None:
    """Leave the cluster; what was started there by name, or detached, lives on."""
    import ray  # noqa: PLC0415  as in attach

    with _sigterm_stays_ours():
        ray.shutdown()


@contextlib.contextmanager
def _sigterm_stays_ours() -> Iterator[None]:
    """Give SIGTERM its handler back: Ray takes it when it comes, and the default takes it when Ray goes."""
    handler = signal.getsignal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _prepare(folder: Path) -> int:
    """Make the folder, empty and private (Ray opens its own, inside, to everybody), and lock it.

    Cleaners of /var/tmp leave locked folders alone.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.parent.lstat().st_uid not in {0, os.getuid()}:
        raise UsageError(f"ray.temp_dir {folder.parent}: belongs to another user")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _link(place: Path, folder: Path) -> None:
    """Have Ray's folder found in the run folder, wherever it is."""
    if place == folder:
        return
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)  # of a time when the settings put it there
    place.unlink(missing_ok=True)
    place.symlink_to(folder)


def _write_token(path: Path, token: str) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(token)
