"""The daemon's life: take the folder, start the node, answer its users, drain, and leave nothing behind."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
import uvloop

from actors.spec import PairSpec, ReplaySource
from daemon import logs, notify, orphans
from daemon.control_server import ControlServer
from daemon.document import PREFIX
from daemon.lock import FolderLock
from daemon.node import Node
from daemon.settings import EmbeddingsSettings, Settings
from feeds.replay import check_files
from market.errors import UsageError
from market.pairs import Pair
from storage.minilm import require_libraries

log = structlog.get_logger()
FINISHED_POLL_S = 0.1


class Service:
    """One running daemon; `ready` is set when every actor has been created."""

    def __init__(self, settings: Settings, specs: Sequence[PairSpec]) -> None:
        self.node = Node(settings, specs)
        self.ready = asyncio.Event()
        self._settings = settings
        self._stop = asyncio.Event()
        self._since_s = time.time()

    async def run(self, until: Callable[[Service], Coroutine[Any, Any, None]] | None = None) -> int:
        """Work until a signal, `stop`, or the end of `until`; return how many ticks are kept."""
        self._listen_to_signals()
        control = ControlServer(self._settings.control_socket, self._handlers())
        try:
            await control.start()  # who asks while the servers start, waits for them
            self.node.start()
            self.ready.set()
            log.info("marketd_started", pairs=len(self.node.pairs), data_dir=str(self._settings.data_dir))
            await self._work(until)
        finally:
            kept = await self.node.stop()
            await control.stop()
        log.info("marketd_stopped", ticks=sum(kept.values()))
        return sum(kept.values())

    def stop(self) -> None:
        self._stop.set()

    def status(self) -> dict[str, Any]:
        """Describe the whole daemon as of the last probe."""
        disk = shutil.disk_usage(self._settings.data_dir)
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self._since_s, 1),
            "data_dir": str(self._settings.data_dir),
            "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
            "questdb_console": self.node.questdb_console,
            "dashboard": self.node.dashboard_url,
            "metrics": self.node.metrics_url,
            "head_restarts": self.node.head_restarts,
            "servers": {
                name: {"restarts": keeper.restarts, "error": keeper.error}
                for name, keeper in self.node.servers.items()
            },
            "pairs": [{k: v for k, v in one.items() if k != "recent"} for one in self.reports()],
            "supervisors": {name: one.report for name, one in self.node.fleet.supervisors.items()},
        }

    def reports(self) -> list[dict[str, Any]]:
        """Say what each pair said of itself last, in the order of the configuration."""
        return [_starting(one.name) | one.report for one in self.node.pairs]

    async def _work(self, until: Callable[[Service], Coroutine[Any, Any, None]] | None) -> None:
        """Wait for whichever ends first; a fault of the watch or of `until` is raised."""
        tasks = [asyncio.create_task(self.node.watch()), asyncio.create_task(_wait(self._stop))]
        if until is not None:
            tasks.append(asyncio.create_task(until(self)))
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end_by, number)

    def _end_by(self, number: signal.Signals) -> None:
        log.info("marketd_stopping", signal=number.name)
        self._stop.set()

    def _handlers(self) -> dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]]:
        async def status() -> dict[str, Any]:
            return self.status()

        async def query(pair: str, sql: str, fmt: str, out: str) -> dict[str, Any]:
            await self._ask(pair, "query", sql, fmt, out)
            return {}

        async def verify(pair: str) -> dict[str, Any]:
            return {"claims": await self._ask(pair, "prove")}

        async def resync(store: str, pairs: list[str], from_ns: int) -> dict[str, Any]:
            _require(self._settings, store)
            keys = pairs or [one.name.removeprefix("pair:") for one in self.node.pairs]
            return {key: await self._ask(key, "resync", store, from_ns) for key in keys}

        return {"status": status, "query": query, "verify": verify, "resync": resync}

    async def _ask(self, pair: str, method: str, *arguments: Any) -> Any:
        try:
            return await self.node.call(pair, method, *arguments)
        except LookupError:
            followed = ", ".join(one.name.removeprefix("pair:") for one in self.node.pairs)
            raise UsageError(f"{pair} is not followed here; these are: {followed}") from None


def run(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT, and keep the service manager told, if one started it."""
    manager = notify.manager()
    until = functools.partial(notify.keep_told, manager, settings.engine.stale_after_s) if manager else None
    usable = available(settings)
    serve(usable, usable.pair_specs(), until)
    return 0


def available(settings: Settings) -> Settings:
    """Leave out, and say so, what this installation has no libraries for."""
    if not settings.embeddings.enabled:
        return settings
    try:
        require_libraries()
    except UsageError as error:
        logs.configure(settings.log.level, settings.log.format)
        log.warning("embeddings_off", reason=str(error))
    else:
        return settings
    return replace(settings, embeddings=EmbeddingsSettings(enabled=False))


def serve(
    settings: Settings,
    specs: Sequence[PairSpec],
    until: Callable[[Service], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """Own the data folder and run on it; return the ticks kept. Leaves no process that it started."""
    logs.configure(settings.log.level, settings.log.format)
    with FolderLock(settings.data_dir):
        if killed := orphans.kill(settings.run_dir):
            log.warning("orphans_killed", processes=killed)
        os.environ.update(orphans.environment(settings.run_dir))
        _forget_overrides()
        try:
            return uvloop.run(Service(settings, specs).run(until))
        finally:
            orphans.kill(settings.run_dir)


def _require(settings: Settings, store: str) -> None:
    """Raise UsageError for a store that the configuration leaves out, or the installation."""
    section, enabled = {
        "questdb": ("questdb", settings.questdb.enabled),
        "lancedb": ("embeddings", settings.embeddings.enabled),
    }[store]
    if not enabled:
        raise UsageError(f"{store} is off ({section}.enabled, or not installed)")


def _forget_overrides() -> None:
    """Keep what the user's variables say, passwords among it, from every process that is started."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]


def replay(settings: Settings, files: Sequence[Path], pair: Pair | None, speed: float) -> int:
    """Feed recorded files through the same path as live, until every sink has acknowledged them."""
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
    check_files(files)
    settings = available(settings)
    spec = _replay_spec(settings, pair, ReplaySource(tuple(f.absolute() for f in files), speed))
    rejected = list[int]()
    kept = serve(settings, [spec], functools.partial(_until_finished, rejected))
    refused = f"; {sum(rejected):,} rows were none (table rejected)" if any(rejected) else ""
    sys.stdout.write(f"replayed: {kept:,} trades of {spec.pair} in {spec.folder}{refused}\n")
    return 0


def _replay_spec(settings: Settings, pair: Pair | None, source: ReplaySource) -> PairSpec:
    specs = settings.pair_specs()
    if pair is None and len(specs) != 1:
        raise UsageError(f"--pair: say which; the configuration follows {len(specs)} pairs")
    wanted = pair or specs[0].pair
    known = next((spec for spec in specs if spec.pair == wanted), None)
    engine = replace(settings.engine.spec(), gather_ms=0)
    if known is not None:
        return replace(known, source=source, engine=engine)
    lane = specs[0].signal_lane if specs else None
    return PairSpec(wanted, wanted.key, settings.data_dir / wanted.path, source, engine, lane)


async def _until_finished(rejected: list[int], service: Service) -> None:
    """Wait for the end of all files; say how many rows of each pair were refused."""
    while True:
        done = [_is_finished(one.status) for one in service.node.pairs]
        if all(done):
            rejected += [one.status["rejected"] for one in service.node.pairs]
            await service.node.sweep()
            return
        await asyncio.sleep(FINISHED_POLL_S)


def _is_finished(status: dict[str, Any]) -> bool:
    if status.get("state") == "failed":
        raise UsageError(status["error"])
    return bool(status.get("finished")) and all(sink["lag"] == 0 for sink in status["sinks"].values())


def _starting(name: str) -> dict[str, Any]:
    return {"pair": name.removeprefix("pair:"), "state": "starting", "sinks": {}}


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
