"""Everything this machine runs for the daemon: Redis, Ray's head, the supervisor and the pairs' actors."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from actors.pair import PairActor
from actors.signals import SignalSupervisor
from actors.spec import PairSpec
from daemon import logs, orphans
from daemon.ray_head import PAIR_RESOURCE, RayHead, attach, detach
from daemon.settings import EMBEDDED, Settings
from market.errors import MarketdError, Retryable
from storage.bus import check_url, stream_maxlen
from storage.embedded_redis import EmbeddedRedis

log = structlog.get_logger()
PROBE_S = 1.0
PROBE_TIMEOUT_S = 5.0
SILENT_S = 30.0  # an actor that lives and does not answer for so long is killed; Ray starts it again
STOP_PAIRS_S = 35.0
ASK_TIMEOUT_S = 3_600.0
RECOVERY_S = 30.0  # a question waits so long for its pair to be back
TROUBLED = frozenset({"failed", "stale", "unlisted"})
FOREVER: dict[str, Any] = {
    "max_restarts": -1,
    "max_task_retries": 0,
    "num_cpus": 0,
    "enable_task_events": False,
}


@dataclass(slots=True)
class Watched:
    """An actor, and what is known of it."""

    name: str
    handle: Any
    status: dict[str, Any] = field(default_factory=dict)
    seen_s: float = field(default_factory=time.monotonic)
    restarts: int = 0
    probe: asyncio.Task[None] | None = None

    def saw(self, status: dict[str, Any]) -> None:
        if self.status and self.status["pid"] != status["pid"]:
            self.restarts += 1
            log.warning("actor_restarted", actor=self.name, restarts=self.restarts)
        if (trouble := _trouble(status)) != _trouble(self.status):
            log.warning("actor_troubled", actor=self.name, trouble=trouble or "it is over")
        self.status, self.seen_s = status, time.monotonic()


class Node:
    """Start, watch and stop the processes; nothing here touches data."""

    def __init__(self, settings: Settings, specs: Sequence[PairSpec]) -> None:
        self.pairs: list[Watched] = []
        self.signals: Watched | None = None
        self.head_restarts = 0
        self.redis_restarts = 0
        self._settings, self._specs = settings, specs
        self._head = RayHead(settings.run_dir, settings.ray, settings.engine.max_pairs_per_node)
        self._asks: set[asyncio.Timeout] = set()
        self._redis_ok_s = time.monotonic()
        self._headless = False  # the head died and could not be started again yet
        self._redis: EmbeddedRedis | None = None
        if settings.redis.enabled and settings.redis.url == EMBEDDED:
            self._redis = EmbeddedRedis(settings.run_dir / "redis")
        elif settings.redis.enabled:
            check_url(settings.redis.url)

    @property
    def redis_url(self) -> str:
        return self._redis.url if self._redis else self._settings.redis.url

    def start(self) -> None:
        """Start the servers and every actor; the actors come up by themselves after this returns."""
        if self._redis is not None:
            self._redis.start()
        if not self._settings.ray.address:
            self._head.start()
        attach(self._settings.ray.address or self._head.address, self._head.environment)
        self._create()

    async def watch(self) -> None:
        """Keep everything up until cancelled; an actor that is slow to answer keeps no other waiting."""
        try:
            while True:
                for one in [] if self._headless else self._all():
                    self._probe(one)
                self._revive()
                await asyncio.sleep(PROBE_S)
        finally:
            self._end_probes()

    async def stop(self) -> dict[str, int]:
        """Drain the pairs, then everything else; return the ticks kept by each pair that answered."""
        kept: dict[str, int] = {}
        stops = (self._stop_pair(one, kept) for one in self.pairs)
        try:
            async with asyncio.timeout(STOP_PAIRS_S):
                await asyncio.gather(*stops)
        except TimeoutError:
            log.error("drain_incomplete", pairs=[p.name for p in self.pairs if p.name not in kept])
        await self._stop_signals()
        detach()
        self._head.stop()
        if self._redis is not None:
            self._redis.stop()
        return kept

    async def call(self, pair: str, method: str, *arguments: Any) -> Any:
        """Call a pair's actor by its key, again while it is recovering; raises its error, or LookupError."""
        deadline = time.monotonic() + RECOVERY_S
        while True:
            one = next((p for p in self.pairs if p.name == f"pair:{pair}"), None)
            if one is None:
                raise LookupError(pair)
            try:
                return await self._ask(getattr(one.handle, method), *arguments)
            except Retryable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        """Call an actor; when nobody waits for the answer any more, the actor is told to give it up."""
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

    def _all(self) -> list[Watched]:
        return [*self.pairs, *([self.signals] if self.signals else [])]

    def _create(self) -> None:
        import ray  # noqa: PLC0415 - after attach, which sets its environment

        prepare = functools.partial(logs.configure, self._settings.log.level, self._settings.log.format)
        self.pairs = []
        if self._settings.redis.enabled:
            lane = self._settings.run_dir / "lanes" / "signal.sock"
            lane.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            remote = ray.remote(SignalSupervisor).options(name="supervisor:signal", **FOREVER)
            maxlen = stream_maxlen(len(self._specs))
            self.signals = Watched("supervisor:signal", remote.remote(lane, self.redis_url, maxlen))
        pair = ray.remote(PairActor)
        options = FOREVER | {"resources": {PAIR_RESOURCE: 1}}
        for spec in self._specs:
            name = f"pair:{spec.pair.key}"
            self.pairs.append(Watched(name, pair.options(name=name, **options).remote(spec, prepare)))

    def _probe(self, one: Watched) -> None:
        if one.probe is not None:
            if not one.probe.done():
                return
            one.probe.result()
        one.probe = asyncio.create_task(self._look(one))

    def _end_probes(self) -> None:
        for one in self._all():
            if one.probe is not None:
                one.probe.cancel()

    async def _look(self, one: Watched) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                one.saw(await _get(one.handle.status))
        except TimeoutError:
            self._suspect(one)
        except MarketdError as error:
            log.info("actor_away", actor=one.name, error=str(error))

    def _suspect(self, one: Watched) -> None:
        """Kill an actor that hangs, once it has said nothing for too long."""
        silent_s = time.monotonic() - one.seen_s
        if not one.status or silent_s < SILENT_S:
            return
        log.error("actor_hangs", actor=one.name, silent_s=round(silent_s, 1))
        if one.status["pid"] in orphans.find(self._settings.run_dir):  # else the number is another's by now
            _kill(one.status["pid"])
        one.seen_s = time.monotonic()

    def _revive(self) -> None:
        """Start again what died; what does not start now is tried again at the next look."""
        try:
            self._revive_redis()
            if self._headless or self._head.poll() is not None:
                self._revive_head()
        except MarketdError as error:
            log.error("not_revived", error=str(error))

    def _revive_redis(self) -> None:
        if self._redis is None:
            return
        if self._signals_say_redis_ok():
            self._redis_ok_s = time.monotonic()
        hangs = time.monotonic() - self._redis_ok_s > SILENT_S
        if self._redis.alive() and not hangs:
            return
        self.redis_restarts += 1
        log.error("redis_hangs" if hangs else "redis_died", restarts=self.redis_restarts)
        self._redis.stop()
        self._redis.start()
        self._redis_ok_s = time.monotonic()

    def _signals_say_redis_ok(self) -> bool:
        """Believe the server's only user; one that is itself away says nothing against it."""
        return self.signals is None or bool(self.signals.status.get("redis_ok", True))

    def _revive_head(self) -> None:
        """Begin anew with a head whose processes died, and every actor with it."""
        self.head_restarts += 1
        log.error("ray_died", restarts=self.head_restarts)
        self._headless = True
        self._end_probes()
        detach()
        self._head.stop()
        self._head.start()
        attach(self._head.address, self._head.environment)
        self._create()
        self._headless = False
        for patience in self._asks:  # Ray forgets what was asked of the head before
            patience.reschedule(0)

    async def _stop_pair(self, one: Watched, kept: dict[str, int]) -> None:
        try:
            kept[one.name] = await _get(one.handle.stop)
        except MarketdError as error:
            log.error("pair_not_drained", actor=one.name, error=str(error))

    async def _stop_signals(self) -> None:
        if self.signals is None:
            return
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await _get(self.signals.handle.stop)
        except (TimeoutError, MarketdError) as error:
            log.warning("supervisor_not_stopped", error=str(error))


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


def _trouble(status: dict[str, Any]) -> str:
    """Say what keeps a pair from its work, if anything."""
    if blocked := str(status.get("blocked", "")):
        return blocked
    if (state := status.get("state")) not in TROUBLED:
        return ""
    reason = status["error"] or status.get("last_error")
    return f"{state}: {reason}" if reason else str(state)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
