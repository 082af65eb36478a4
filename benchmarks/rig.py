"""A real daemon, the simulated exchange and a Redis subscriber, each in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy.typing as npt
import psutil

from daemon.control import call
from market.errors import MarketdError
from market.pairs import Pair
from market.times import NS_PER_S
from storage.children import die_with_parent

ROOT = Path(__file__).parents[1]
TIMEFRAMES = ("1s", "1m", "5m", "15m")  # so that every pair has something to say every second
START_TIMEOUT_S = 900.0  # a hundred pairs on two cores
STOP_TIMEOUT_S = 70.0
_CONFIG = """\
data_dir = {data_dir}
[[pairs]]
exchange = "binance"
market = "spot"
symbols = {symbols}
[exchanges.binance]
ws_url = {ws_url}
rest_url = {rest_url}
[engine]
gather_ms = {gather_ms}
timeframes = {timeframes}
[ray]
dashboard = false
[log]
level = "error"
{stores}
"""
BUS_ONLY = """\
[questdb]
enabled = false
[embeddings]
enabled = false
[retention]
enabled = false
"""
ALL_STORES = """\
[retention]
sweep_s = 10
ticks_s = 20
quotes_s = 20
events_s = 20
order_flow_s = 120
candles_1m_s = 20
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: `rate` is in ticks a second, of all pairs together, since `past_s` before the start."""

    pairs: int
    rate: float
    gather_ms: int = 5
    timeframes: tuple[str, ...] = TIMEFRAMES
    past_s: int = 0
    stores: str = BUS_ONLY

    @property
    def symbols(self) -> list[str]:
        return [f"SIM{n:03}USDT" for n in range(1, self.pairs + 1)]

    @property
    def keys(self) -> list[str]:
        return [Pair("binance", "spot", symbol).key for symbol in self.symbols]


@dataclass(slots=True)
class Daemon:
    """A running daemon, and the exchange it follows."""

    folder: Path
    urls: dict[str, str]
    started_ns: int
    process: subprocess.Popen[bytes]

    @property
    def redis_url(self) -> str:
        return f"unix://{self.folder}/run/redis/redis.sock"

    def status(self) -> dict[str, Any]:
        return call(self.folder / "run/control.sock", "status", timeout_s=10.0)

    def pairs(self) -> list[dict[str, Any]]:
        """Give what every pair last said; nothing while the daemon does not answer yet."""
        try:
            return list(self.status()["pairs"])
        except MarketdError:
            return []

    def query(self, pair: str, sql: str) -> list[npt.NDArray[Any]]:
        """Ask a pair's record; give the columns."""
        out, path = self.folder / "answer.parquet", self.folder / "run/control.sock"
        call(path, "query", timeout_s=60.0, pair=pair, sql=sql, fmt="parquet", out=str(out))
        with duckdb.connect() as con:
            return list(con.execute("FROM read_parquet($file)", {"file": str(out)}).fetchnumpy().values())

    def roles(self) -> dict[str, list[psutil.Process]]:
        """Tell the daemon's processes apart."""
        status = self.status()
        pairs = {one["pid"] for one in status["pairs"]}
        supervisors = {one.get("pid"): name for name, one in status["supervisors"].items()}
        out: dict[str, list[psutil.Process]] = {"daemon": [psutil.Process(self.process.pid)]}
        for one in out["daemon"][0].children(recursive=True):
            role = "Ray's own"
            if one.pid in pairs:
                role = "pairs"
            elif one.pid in supervisors:
                role = f"{supervisors[one.pid]} supervisor"
            elif "-server" in one.name():
                role = "Redis"
            elif one.name() == "java":
                role = "QuestDB"
            out.setdefault(role, []).append(one)
        return out


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets, on a disk and not in memory."""
    with TemporaryDirectory(dir="/var/tmp", prefix="mb-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def child(
    *arguments: str, stdout: int | None = subprocess.PIPE, elsewhere: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run this Python with arguments as a child that ends with the block.

    `elsewhere`: it stands for another machine, so that no crowd on this one may hold it up (if we are root).
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_go_first if elsewhere else die_with_parent,  # noqa: PLW1509 - system calls, no locks
    )
    try:
        yield process
    finally:
        _end(process)


@contextmanager
def exchange(plan: Plan) -> Iterator[dict[str, str]]:
    """Run the simulated exchange; give its addresses."""
    rate, start_ns = plan.rate / plan.pairs, time.time_ns() - plan.past_s * NS_PER_S
    arguments = ["--symbols", ",".join(plan.symbols), f"--rate={rate}", f"--start-ns={start_ns}"]
    with child("-m", "feeds.sim", *arguments, elsewhere=True) as process:
        yield json.loads(line(process))


@contextmanager
def daemon(plan: Plan, urls: dict[str, str]) -> Iterator[Daemon]:
    """Run `marketd run` in a folder that is removed afterwards."""
    with folder() as data_dir:
        values = {"data_dir": str(data_dir), "symbols": plan.symbols, "timeframes": plan.timeframes, **urls}
        texts = {key: json.dumps(value) for key, value in values.items()}
        config = data_dir / "config.toml"
        config.write_text(_CONFIG.format(gather_ms=plan.gather_ms, stores=plan.stores, **texts))
        run = "from daemon.cli import main; main()"
        started_ns = time.time_ns()
        with child("-c", run, "run", "--config", str(config), stdout=subprocess.DEVNULL) as process:
            yield Daemon(data_dir, urls, started_ns, process)


@contextmanager
def working(plan: Plan) -> Iterator[Daemon]:
    """Run exchange and daemon; begin when every pair streams."""
    with exchange(plan) as urls, daemon(plan, urls) as one:
        wait_until(lambda: streaming(one.pairs(), plan.pairs), "every pair streams", one.process)
        yield one


def streaming(reports: Sequence[dict[str, Any]], pairs: int) -> bool:
    return len(reports) == pairs and all(report["state"] == "streaming" for report in reports)


def wait_until(
    check: Callable[[], object], what: str, process: subprocess.Popen[bytes], every_s: float = 0.1
) -> None:
    """Wait for what `check` sees; raise TimeoutError, or RuntimeError if the process ended."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not check():
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode} before {what}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{START_TIMEOUT_S:.0f} s without {what}")
        time.sleep(every_s)


def uss_mb(process: psutil.Process) -> float:
    """Tell what would be free if the process ended."""
    return float(process.memory_full_info().uss / 1e6)


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Add up what the living of these have used."""
    return sum(sum(one.cpu_times()[:2]) for one in processes if one.is_running())


def line(process: subprocess.Popen[bytes]) -> bytes:
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return line


def _go_first() -> None:
    die_with_parent()
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
