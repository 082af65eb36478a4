"""Everything this machine runs for the daemon: servers of ours, Ray's head, supervisors, pairs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import structlog

from actors.spec import PairSpec
from daemon import orphans
from daemon.fleet import Fleet, create
from daemon.keeper import Keeper
from daemon.ray_head import RayHead, attach, detach
from daemon.settings import EMBEDDED, Settings
from daemon.watched import Watched
from market.errors import MarketdError, Retryable
from storage.bus import check_url
from storage.embedded_questdb import EmbeddedQuestDB
from storage.embedded_redis import EmbeddedRedis

log = structlog.get_logger()
PROBE_S = 1.0
PROBES_PER_S = 20  # at most: a hundred pairs may have two cores
PROBE_TIMEOUT_S = 5.0
SILENT_S = 30.0  # an actor that lives and does not answer for so long is killed; Ray starts it again
STOP_PAIRS_S = 35.0
ASK_TIMEOUT_S = 3_600.0
RECOVERY_S = 30.0  # a question waits so long for its pair to be back
SERVES = {"redis": "signal", "questdb": "questdb"}
"""Which supervisor is the only user of a server of ours."""


class Node:
    """Start, watch and stop the processes; nothing here touches data."""

    def __init__(self, settings: Settings, specs: Sequence[PairSpec]) -> None:
        self.fleet = Fleet()
        self.head_restarts = 0
        self._settings, self._specs = settings, specs
        self._head = RayHead(settings.run_dir, settings.ray, settings.engine.max_pairs_per_node)
        self._asks: set[asyncio.Timeout] = set()
        self._headless = False  # the head died and could not be started again yet
        self._redis: EmbeddedRedis | None = None
        self._questdb: EmbeddedQuestDB | None = None
        self.servers: dict[str, Keeper] = {}
        if settings.redis.enabled:
            self._keep_redis(settings)
        if settings.questdb.enabled:
            self._keep_questdb(settings)

    @property
    def pairs(self) -> list[Watched]:
        return self.fleet.pairs

    @property
    def dashboard_url(self) -> str:
        """Where Ray's dashboard is; empty where it is off or a cluster's own business."""
        own = self._settings.ray.dashboard and not self._settings.ray.address
        return f"http://127.0.0.1:{self._head.dashboard_port}" if own else ""

    @property
    def metrics_url(self) -> str:
        """Where Prometheus asks; empty where that is a cluster's own business."""
        own = not self._settings.ray.address
        return f"http://127.0.0.1:{self._head.metrics_port}/metrics" if own else ""

    @property
    def questdb_console(self) -> str:
        """Where the embedded QuestDB's web console is; empty where there is none."""
        return self._questdb.console if self._questdb else ""

    @property
    def redis_url(self) -> str:
        return self._redis.url if self._redis else self._settings.redis.url

    def start(self) -> None:
        """Start the servers and every actor; the actors come up by themselves after this returns."""
        starting = {name: keeper.start() for name, keeper in self.servers.items()}
        if not self._settings.ray.address:
            self._head.start()
        attach(self._settings.ray.address or self._head.address, self._head.environment)
        if "redis" in starting:
            starting["redis"].result()  # nothing is heard without it; other stores may come later
        self.fleet = create(self._settings, self._specs, self.redis_url)

    def _keep_redis(self, settings: Settings) -> None:
        if settings.redis.url == EMBEDDED:
            self._redis = EmbeddedRedis(settings.run_dir / "redis")
            self.servers["redis"] = Keeper("redis", self._redis)
        else:
            check_url(settings.redis.url)

    def _keep_questdb(self, settings: Settings) -> None:
        if settings.questdb.url != EMBEDDED:
            return
        told = settings.questdb_url_file
        told.unlink(missing_ok=True)  # of the server before
        server = self._questdb = EmbeddedQuestDB(settings.data_dir / "questdb")

        def started(url: str) -> None:
            told.write_text(url, encoding="utf-8")
            log.info("questdb_started", console=server.console)

        self.servers["questdb"] = Keeper("questdb", server, started)

    async def watch(self) -> None:
        """Keep everything up until cancelled; an actor that is slow to answer keeps no other waiting."""
        try:
            while True:
                await self._probe_all()
                self._revive()
                self._tell_health()
        finally:
            self._end_probes()

    async def _probe_all(self) -> None:
        """Ask everybody, one after the other over PROBE_S or longer: all at once would hold the market up."""
        everybody = [] if self._headless else self.fleet.all
        for one in everybody:
            self._probe(one)
            await asyncio.sleep(max(PROBE_S / len(everybody), 1 / PROBES_PER_S))
        if not everybody:
            await asyncio.sleep(PROBE_S)

    async def stop(self) -> dict[str, int]:
        """Drain the pairs, then everything else; return the ticks kept by each pair that answered."""
        kept: dict[str, int] = {}
        if not self._headless:
            await self._drain(kept)
            detach()
        self._head.stop()
        for keeper in self.servers.values():
            keeper.stop()
        return kept

    async def _drain(self, kept: dict[str, int]) -> None:
        stops = (self._stop_pair(one, kept) for one in self.fleet.pairs)
        try:
            async with asyncio.timeout(STOP_PAIRS_S):
                await asyncio.gather(*stops)
        except TimeoutError:
            log.error("drain_incomplete", pairs=[p.name for p in self.fleet.pairs if p.name not in kept])
        await asyncio.gather(*(self._stop_supervisor(one) for one in self.fleet.supervisors.values()))

    async def call(self, pair: str, method: str, *arguments: Any) -> Any:
        """Call a pair's actor by its key, again while it is recovering; raises its error, or LookupError."""
        deadline = time.monotonic() + RECOVERY_S
        while True:
            one = next((p for p in self.fleet.pairs if p.name == f"pair:{pair}"), None)
            if one is None:
                raise LookupError(pair)
            try:
                return await self._ask(getattr(one.handle, method), *arguments)
            except Retryable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def sweep(self) -> None:
        """Have every pair move what is old into the archive, all of it; nothing where retention is off."""
        for spec in self._specs if self._settings.retention.enabled else ():
            while (await self.call(spec.pair.key, "sweep"))["more"]:
                pass

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        """Call an actor; when nobody waits for the answer any more, the actor is told to give it up."""
        if self._headless:
            raise Retryable("Ray is starting again")
        with _translated():
            asked = method.remote(*arguments)
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S) as patience:
                    self._asks.add(patience)
                    return await asked
            except asyncio.CancelledError:
                _give_up(asked)
                raise
            finally:
                self._asks.discard(patience)

    def _probe(self, one: Watched) -> None:
        if one.probe is not None:
            if not one.probe.done():
                return
            one.probe.result()
        one.asks()
        one.probe = asyncio.create_task(self._look(one))

    def _tell_health(self) -> None:
        """Hand on what everybody said last; nobody waits for the answer."""
        health = self.fleet.supervisors.get("health")
        if health is None or not health.status or self._headless:
            return
        pairs = [one.report for one in self.fleet.pairs if one.status]
        others = {name: one.report for name, one in self.fleet.supervisors.items() if one.status}
        health.handle.observe.options(num_returns=0).remote(orjson.dumps((pairs, others)))

    def _end_probes(self) -> None:
        for one in self.fleet.all:
            if one.probe is not None:
                one.probe.cancel()

    async def _look(self, one: Watched) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                one.saw(orjson.loads(await _get(one.handle.status)))
        except TimeoutError:
            self._suspect(one)
        except MarketdError as error:
            log.info("actor_away", actor=one.name, error=str(error))

    def _suspect(self, one: Watched) -> None:
        """Kill an actor that hangs, once it has said nothing for too long."""
        if not one.status or one.silent_s < SILENT_S:
            return
        log.error("actor_hangs", actor=one.name, silent_s=round(one.silent_s, 1))
        if one.status["pid"] in orphans.find(self._head.marked):  # else the number is another's by now
            _kill(one.status["pid"])
        one.asked_s = None

    def _revive(self) -> None:
        """Start again what died; what does not start now is tried again at the next look."""
        for name, keeper in self.servers.items():
            keeper.look(well=self._is_well(SERVES[name]))
        try:
            if self._headless or self._head.poll() is not None:
                self._revive_head()
        except MarketdError as error:
            log.error("not_revived", error=str(error))

    def _is_well(self, supervisor: str) -> bool:
        """Believe the server's only user; one that is itself away says nothing against it."""
        user = self.fleet.supervisors.get(supervisor)
        return user is None or bool(user.status.get("reached", True))

    def _revive_head(self) -> None:
        """Begin anew with a head whose processes died, and every actor with it."""
        if not self._headless:
            self._headless = True
            self.head_restarts += 1
            log.error("ray_died", restarts=self.head_restarts)
            self._end_probes()
            detach()
        self._head.stop()
        self._head.start()
        attach(self._head.address, self._head.environment)
        before = {one.name: one.restarts for one in self.fleet.all}
        self.fleet = create(self._settings, self._specs, self.redis_url)
        for one in self.fleet.all:
            one.restarts = before.get(one.name, 0) + 1
        self._headless = False
        for patience in self._asks:  # Ray forgets what was asked of the head before
            patience.reschedule(0)

    async def _stop_pair(self, one: Watched, kept: dict[str, int]) -> None:
        try:
            kept[one.name] = await _get(one.handle.stop)
        except MarketdError as error:
            log.error("pair_not_drained", actor=one.name, error=str(error))

    async def _stop_supervisor(self, one: Watched) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await _get(one.handle.stop)
        except (TimeoutError, MarketdError) as error:
            log.warning("supervisor_not_stopped", actor=one.name, error=str(error) or "does not answer")


async def _get(method: Any) -> Any:
    with _translated():
        return await method.remote()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise an actor's own error as MarketdError, and Retryable where Ray has no answer from it."""
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 - as in attach

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, MarketdError):
            raise error.cause from None
        raise MarketdError(str(error.cause)) from error
    except RayError as error:
        raise Retryable(f"Ray: {type(error).__name__}") from error
    except TimeoutError as error:
        raise Retryable("no answer") from error


def _give_up(asked: Any) -> None:
    import ray  # noqa: PLC0415 - as in attach

    ray.cancel(asked)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
