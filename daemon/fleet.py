"""The actors of one node, created by name, and watched."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.embeddings import EmbeddingSupervisor
from actors.health import HealthSupervisor
from actors.pair import PairActor
from actors.questdb import QuestDBSupervisor
from actors.retention import RetentionSupervisor
from actors.signals import SignalSupervisor
from actors.spec import PairSpec
from daemon import logs
from daemon.ray_head import PAIR_RESOURCE
from daemon.settings import EMBEDDED, Settings
from daemon.watched import Watched
from storage.bus import stream_maxlen
from storage.questdb_retention import Policy

FOREVER: dict[str, Any] = {
    "max_restarts": -1,
    "max_task_retries": 0,
    "num_cpus": 0,
    "enable_task_events": False,
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """A node's actors: pairs in the order of the configuration, supervisors by what they serve."""

    pairs: list[Watched] = field(default_factory=list)
    supervisors: dict[str, Watched] = field(default_factory=dict)

    @property
    def all(self) -> list[Watched]:
        return [*self.pairs, *self.supervisors.values()]


def create(settings: Settings, specs: Sequence[PairSpec], redis_url: str) -> Fleet:
    """Create every actor; they come up by themselves after this returns."""
    settings.lane("any").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    prepare = functools.partial(logs.configure, settings.log.level, settings.log.format)
    fleet = Fleet()
    wanted = _supervisors(settings, specs, redis_url)
    first = [name for name in wanted if name == "signal"]  # then the pairs: the record comes before its uses
    for name in first:
        fleet.supervisors[name] = _supervisor(name, wanted[name], prepare)
    for spec in specs:
        room = {"resources": {PAIR_RESOURCE: 1}}
        fleet.pairs.append(_start(PairActor, f"pair:{spec.pair.key}", room, spec, prepare))
    for name in [name for name in wanted if name not in first]:
        fleet.supervisors[name] = _supervisor(name, wanted[name], prepare)
    return fleet


def _supervisors(settings: Settings, specs: Sequence[PairSpec], redis_url: str) -> dict[str, tuple[Any, ...]]:
    """Say which supervisors there are: the class of each, and what it is told."""
    out: dict[str, tuple[Any, ...]] = {}
    if settings.redis.enabled:
        out["signal"] = SignalSupervisor, settings.lane("signal"), redis_url, stream_maxlen(len(specs))
    if settings.questdb.enabled:
        embedded = settings.questdb.url == EMBEDDED
        where = settings.questdb_url_file if embedded else settings.questdb.url
        policy = Policy(
            settings.data_dir / "archive" / "questdb" / "trades",
            settings.questdb.hot_days,
            settings.questdb.archive_days,
        )
        out["questdb"] = QuestDBSupervisor, settings.lane("questdb"), where, policy
    if settings.embeddings.enabled:
        model, index = settings.embeddings.model, settings.embeddings.index
        folder = settings.data_dir / "lancedb"
        out["embeddings"] = EmbeddingSupervisor, settings.lane("embeddings"), folder, model, index
    if settings.retention.enabled:
        pairs = [f"pair:{spec.pair.key}" for spec in specs]
        archive, sweep_s = settings.data_dir / "archive", settings.retention.sweep_s
        out["retention"] = RetentionSupervisor, pairs, archive, sweep_s
    out["health"] = (HealthSupervisor,)
    return out


def _supervisor(name: str, told: tuple[Any, ...], prepare: Any) -> Watched:
    kind, *arguments = told
    return _start(kind, f"supervisor:{name}", {}, *arguments, prepare)


def _start(kind: Any, name: str, options: dict[str, Any], *arguments: Any) -> Watched:
    import ray  # noqa: PLC0415 - after attach, which sets its environment

    actor = ray.remote(kind).options(name=name, **FOREVER, **options)
    return Watched(name, actor.remote(*arguments))
