"""The daemon as its users have it: the command, its socket and files, and an exchange to listen to."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import redis.asyncio

from daemon.control import call
from market.errors import MarketdError
from tests.support import eventually

ROOT = Path(__file__).parents[2]
MARKETD = Path(sys.executable).with_name("marketd")
BACK_S = 30.0
STOP_S = 60.0
ASK_S = 180.0  # a replay starts a whole daemon
CONFIG = """
data_dir = "data"
[[pairs]]
exchange = "binance"
market = "spot"
symbols = {symbols}
[exchanges.binance]
ws_url = "{ws_url}"
rest_url = "{rest_url}"
[engine]
timeframes = ["1s", "5s", "1m"]
stale_after_s = 3
backfill_s = 0
[redis]
url = "{redis}"
[ray]
dashboard = false
{more}
"""
BUS_ONLY = """
[questdb]
enabled = false
[embeddings]
enabled = false
"""


def key(symbol: str) -> str:
    return f"binance:spot:{symbol}"


class Exchange:
    """A simulated exchange in a process of its own."""

    def __init__(self, *symbols: str, rate: float = 40.0, port: int = 0) -> None:
        arguments = ["--symbols", ",".join(symbols), "--rate", str(rate), "--port", str(port)]
        command = [sys.executable, "-m", "feeds.sim", *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        self.urls: dict[str, str] = json.loads(self._process.stdout.readline())

    def trades(self, symbol: str, first_id: int = 1) -> list[list[Any]]:
        """Say what was really traded: id, price, size, side, time in ns."""
        rows = self._get(f"/sim/trades?symbol={symbol}&fromId={first_id}&limit=100000")
        return [_trade(row) for row in rows]

    def last_ids(self) -> dict[str, int]:
        symbols = self._get("/sim/stats")["symbols"]
        return {symbol: int(one["last_id"]) for symbol, one in symbols.items()}

    def faults(self) -> dict[str, int]:
        """Say how often each kind has really happened."""
        return dict(self._get("/sim/stats")["faults"])

    def fault(self, kind: str, **fields: Any) -> None:
        body = json.dumps({"kind": kind, **fields}).encode()
        with urllib.request.urlopen(self.urls["rest_url"] + "/sim/fault", body) as answer:  # noqa: S310 - loopback
            assert answer.status == 200

    def stop(self) -> None:
        self._process.kill()
        with self._process:
            pass

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.urls["rest_url"] + path) as answer:  # noqa: S310 - loopback
            return json.load(answer)


def _trade(row: dict[str, Any]) -> list[Any]:
    side = "SELL" if row["isBuyerMaker"] else "BUY"
    return [row["id"], float(row["price"]), float(row["qty"]), side, row["time"] * 10**6]


@contextmanager
def exchange(*symbols: str, **options: Any) -> Iterator[Exchange]:
    made = Exchange(*symbols, **options)
    try:
        yield made
    finally:
        made.stop()


class Daemon:
    """`marketd` in a folder of its own, started at most once at a time."""

    def __init__(
        self,
        folder: Path,
        urls: dict[str, str],
        *symbols: str,
        redis: str = "embedded",
        more: str = BUS_ONLY,
    ) -> None:
        self.folder, self.symbols = folder, symbols
        self.data = folder / "data"
        self.log = folder / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        text = CONFIG.format(symbols=json.dumps(symbols), redis=redis, more=more, **urls)
        (folder / "config.toml").write_text(text, encoding="utf-8")

    def start(self, *arguments: str) -> None:
        """Start a command that goes on, `run` unless another is given."""
        with self.log.open("ab") as log:
            command = [str(MARKETD), *(arguments or ("run",))]
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment(), stdout=log, stderr=log
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [str(MARKETD), *arguments],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=ASK_S,
        )

    async def query(self, symbol: str, sql: str) -> list[dict[str, Any]]:
        ended = await self.ask("query", key(symbol), sql, "--format", "json")
        assert (ended.returncode, ended.stderr) == (0, "")
        rows: list[dict[str, Any]] = json.loads(ended.stdout)
        return rows

    async def status(self) -> dict[str, Any]:
        """Ask as `marketd status --json` does; empty where nobody answers."""
        try:
            return await asyncio.to_thread(call, self.data / "run/control.sock", "status", 5.0)
        except MarketdError:
            return {}

    async def pairs(self) -> dict[str, dict[str, Any]]:
        """Every pair's report by its symbol."""
        return {one["pair"].rpartition(":")[2]: one for one in (await self.status()).get("pairs", [])}

    async def streaming(
        self, *symbols: str, not_pids: frozenset[int] = frozenset(), timeout_s: float = 60.0
    ) -> float:
        """Wait until pairs (default: all) stream, none in one of `not_pids`; return the seconds it took."""
        wanted = symbols or self.symbols

        async def all_stream() -> object:
            pairs = await self.pairs()
            return pairs and all(
                pairs[symbol]["state"] == "streaming"
                and pairs[symbol]["ticks"]
                and pairs[symbol]["pid"] not in not_pids
                for symbol in wanted
            )

        began_s = time.monotonic()
        await eventually(all_stream, timeout_s)
        return time.monotonic() - began_s

    async def ended(self) -> int:
        """Wait for the end; return the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, STOP_S)

    async def stop(self, number: int) -> None:
        """End it as its user does, and see that nothing is left."""
        family = descendants(self.pid)
        os.kill(self.pid, number)
        assert await self.ended() == 0, self.log.read_text()
        # The kernel takes a moment to close a dead one's files.
        await eventually(lambda: not any(map(alive, family)), 2.0)
        assert left(self.folder) == []

    def kill(self) -> None:
        """Leave nothing of it, whatever the state of a failed test."""
        for one in left(self.folder):
            one.kill()
        if self.process is not None:
            self.process.wait(10)


@contextmanager
def daemon(folder: Path, urls: dict[str, str], *symbols: str, **options: str) -> Iterator[Daemon]:
    made = Daemon(folder, urls, *symbols, **options)
    try:
        yield made
    finally:
        made.kill()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MARKETD")}


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[psutil.Process]:
    family: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return family


def called(pid: int, *names: str) -> list[psutil.Process]:
    """Find the living descendants of these names."""
    return [one for one in descendants(pid) if seen(one, "name") in names and alive(one)]


def seen(process: psutil.Process, what: str) -> Any:
    """Ask a process for its `name`, `cmdline` and the like; empty if it has ended since it was listed."""
    try:
        return getattr(process, what)()
    except psutil.NoSuchProcess:
        return ""


def left(folder: Path) -> list[psutil.Process]:
    """Find every process that has to do with a folder: by command, environment or open file."""
    return [one for one in psutil.process_iter() if one.pid != os.getpid() and _is_of(one, f"{folder}/")]


def _is_of(process: psutil.Process, folder: str) -> bool:
    try:
        texts = [*process.cmdline(), *process.environ().values()]
        texts += [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
    except (psutil.Error, OSError):
        return False
    return any(folder in text for text in texts)


async def complete(made: Daemon, exchange: Exchange, symbol: str) -> None:
    """Prove a pair's record against what was really traded."""
    columns = "trade_id::BIGINT AS id, price, volume, side, epoch_ns(timestamp)"
    stored = await made.query(symbol, f"SELECT {columns} FROM ticks ORDER BY id")  # noqa: S608 - ours
    first, last = stored[0]["id"], stored[-1]["id"]
    assert [list(row.values()) for row in stored] == [
        row for row in exchange.trades(symbol, first) if row[0] <= last
    ]
    proof = await made.ask("verify", key(symbol))
    assert proof.returncode == 0, proof.stdout + proof.stderr


class Subscriber:
    """Follow one pair as docs/subscribe.md says: by pub/sub, and from the stream where `seq` jumps."""

    def __init__(self, url: str, symbol: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._url, self._symbol = url, key(symbol)
        self._task = asyncio.create_task(self._run())

    @property
    def seq(self) -> int:
        return int(self.events[-1]["seq"]) if self.events else 0

    async def reach(self, seq: int) -> None:
        await eventually(lambda: self._task.done() or self.seq >= seq, BACK_S)

    async def stop(self) -> None:
        """Stop listening; raise what it found wrong."""
        if self._task.done():
            self._task.result()
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except redis.RedisError:
                await asyncio.sleep(0.1)

    async def _follow(self) -> None:
        async with redis.asyncio.from_url(self._url) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(f"state_update:{self._symbol}")
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    await self._catch_up(client)
                elif (event := orjson.loads(message["data"]))["seq"] <= self.seq:
                    self._same(event)
                elif event["seq"] == self.seq + 1:
                    self.events.append(event)
                else:
                    await self._catch_up(client)

    async def _catch_up(self, client: Any) -> None:
        for event in await stream(client, self._symbol, self.seq):
            assert event["seq"] == self.seq + 1
            self.events.append(event)

    def _same(self, event: dict[str, Any]) -> None:
        """What is published again is equal."""
        assert self.events[event["seq"] - self.events[0]["seq"]] == event


async def stream(client: Any, pair: str, after: int = 0) -> list[dict[str, Any]]:
    """Read a pair's stream after an event; ids are the events' numbers, each once."""
    entries = await client.xrange(f"stream:state_update:{pair}", f"({after}-0", "+")
    events = [orjson.loads(fields[b"m"]) for _, fields in entries]
    assert [entry.decode() for entry, _ in entries] == [f"{event['seq']}-0" for event in events]
    return events


async def announced(made: Daemon, url: str, symbol: str) -> int:
    """Compare a pair's stream with its table of events, once it has all of them; return how many."""
    rows = await made.query(symbol, "SELECT seq, timestamp, event, data FROM events ORDER BY seq")
    wanted = [{"symbol": key(symbol), **row} for row in rows]
    async with redis.asyncio.from_url(url) as client:

        async def has_all() -> tuple[list[dict[str, Any]]] | None:
            found = await stream(client, key(symbol))
            return (found[: len(wanted)],) if len(found) >= len(wanted) else None

        assert await eventually(has_all, BACK_S) == (wanted,)  # there may be none yet
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    return len(rows)
