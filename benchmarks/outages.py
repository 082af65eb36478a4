"""What the death of a store costs: faults of real servers under a live daemon, and the rows afterwards.

`python -m benchmarks.outages PAIRS RATE SECONDS` prints each outage as a line of JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from benchmarks import faults, rig
from benchmarks.equal import Differences, questdb_differences, redis_differences
from benchmarks.faults import EMPTY, FAULTS, FULL, QuestDB, Redis, Victim
from benchmarks.rig import Daemon, Plan
from daemon.control import call

SINKS = {"redis": ("redis",), "questdb": ("questdb.trades", "questdb.ohlcv")}
PLAN = Plan(4, 2_000.0, stores="")
CATCH_UP_S = 180.0
CURRENT_S = 2.5  # a sink that is no further behind has caught up: rows are written once a second
LOOK_S = 0.5
_MB = {"redis": 96, "questdb": 512}
_STORES = """\
[redis]
url = "redis://127.0.0.1:{redis}"
[questdb]
url = "http::addr=127.0.0.1:{questdb};"
[embeddings]
enabled = false
"""


@dataclass(frozen=True, slots=True)
class Outage:
    """What one fault did to one store, and to the pairs beside it."""

    store: str
    fault: str
    lasted_s: float
    backlog: int  # rows, the most seen
    catch_up_s: float
    found: Differences
    pairs_disturbed: int  # that restarted, connected anew, missed a trade, stood still or waited
    memory_mb: float  # the most that pairs and supervisors together were above their beginning
    memory_mb_min: float  # their growth, fitted: MB a minute
    usual_ms: float  # a pair's flush without the fault, median
    meanwhile_ms: float  # and with it
    journal_usual_ms: float
    journal_meanwhile_ms: float


@dataclass(slots=True)
class Watch:
    """What the daemon said of itself while somebody looked."""

    flush_s: list[float] = field(default_factory=list)
    journal_s: list[float] = field(default_factory=list)
    backlog: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SINKS, 0))
    memory: list[tuple[float, float]] = field(default_factory=list)  # (s, MB)

    @property
    def mb_above(self) -> float:
        return max(mb for _, mb in self.memory) - self.memory[0][1]

    @property
    def mb_a_minute(self) -> float:
        at_s, mb = np.array(self.memory).T
        return float(np.polyfit(at_s, mb, 1)[0]) * 60 if len(self.memory) > 2 else 0.0


class Patient:
    """A daemon, and its stores to be made ill; every fault befalls all stores at once."""

    def __init__(self, plan: Plan, daemon: Daemon, victims: dict[str, Victim]) -> None:
        self._plan, self._daemon, self.victims = plan, daemon, victims
        self._counts: dict[tuple[str, str], int] = {}

    def suffer(self, fault: str, seconds: float, usual: Watch) -> list[Outage]:
        """Let a fault last, and wait until every store is as it should be."""
        ill = {name: one for name, one in self.victims.items() if fault != FULL or one.own_disk}
        before = self._daemon.pairs()
        for one in ill.values():
            one.suffer(fault)
        watch = self.look(seconds)
        back = {name: one.heal() for name, one in ill.items()}
        if fault == EMPTY:
            back["questdb"].result()
            self._resync()
        caught_s = self._current(set(ill))
        disturbed = sum(map(_is_disturbed, before, self._daemon.pairs()))
        return [
            Outage(
                store=name,
                fault=fault,
                lasted_s=seconds,
                backlog=watch.backlog[name],
                catch_up_s=max(0.0, caught_s[name] - back[name].result()),
                found=self._differences(name),
                pairs_disturbed=disturbed,
                memory_mb=watch.mb_above,
                memory_mb_min=watch.mb_a_minute,
                usual_ms=median(usual.flush_s) * 1e3,
                meanwhile_ms=median(watch.flush_s) * 1e3,
                journal_usual_ms=median(usual.journal_s) * 1e3,
                journal_meanwhile_ms=median(watch.journal_s) * 1e3,
            )
            for name in ill
        ]

    def look(self, seconds: float) -> Watch:
        """Watch for so long."""
        watch, began_s = Watch(), time.monotonic()
        self._note(Watch(), 0.0)  # what was before does not count
        while (at_s := time.monotonic() - began_s) < seconds:
            time.sleep(LOOK_S)
            self._note(watch, at_s)
        return watch

    def settle(self) -> None:
        self._current(set(self.victims))

    def _note(self, watch: Watch, at_s: float) -> None:
        status = self._daemon.status()
        for pair in status["pairs"]:
            watch.flush_s += self._new(pair, "flush_s")
            watch.journal_s += self._new(pair, "journal_s")
        for store, sinks in SINKS.items():
            behind = sum(pair["sinks"][sink]["lag"] for pair in status["pairs"] for sink in sinks)
            watch.backlog[store] = max(watch.backlog[store], behind)
        alive = [*status["pairs"], *(status["supervisors"][name] for name in ("signal", "questdb"))]
        watch.memory.append((at_s, sum(one["rss_bytes"] for one in alive) / 1e6))

    def _new(self, pair: dict[str, Any], name: str) -> Sequence[float]:
        """Give the durations that were not there at the last look."""
        count, newest = pair[name]
        before = self._counts.get((pair["pair"], name), 0)
        self._counts[pair["pair"], name] = count
        return list(newest[-(count - before) :]) if count > before else []

    def _resync(self) -> None:
        """Say what a user says whose QuestDB begins anew; he can, once it has its tables again."""
        path = self._daemon.folder / "run/control.sock"
        call(path, "resync", timeout_s=60.0, store="questdb", pairs=[], from_ns=0)

    def _current(self, stores: set[str]) -> dict[str, float]:
        """Wait until each store has what the pairs have; say when that was."""
        caught: dict[str, float] = {}
        since_s = time.monotonic()
        while caught.keys() != stores:
            if time.monotonic() > since_s + CATCH_UP_S:
                supervisors = self._daemon.status()["supervisors"]
                why = {name: one.get("error") for name, one in supervisors.items() if one.get("error")}
                raise TimeoutError(f"{stores - caught.keys()} not caught up: {why}")
            pairs = self._daemon.pairs()
            for store in stores - caught.keys():
                if pairs and all(_is_current(pair["sinks"][sink]) for pair in pairs for sink in SINKS[store]):
                    caught[store] = time.monotonic()
            time.sleep(0.1)
        return caught

    def _differences(self, store: str) -> Differences:
        server = self.victims[store].server
        if isinstance(server, Redis):
            return redis_differences(self._daemon, self._plan.keys, server.url)
        assert isinstance(server, QuestDB)  # noqa: S101 - there are two
        return questdb_differences(self._daemon, self._plan.keys, server.url)


def _is_current(sink: dict[str, Any]) -> bool:
    return bool(sink["connected"] and sink["acked"] and sink["lag_s"] < CURRENT_S)


def _is_disturbed(was: dict[str, Any], pair: dict[str, Any]) -> bool:
    same = ("pair", "pid", "connects", "gaps", "restarts", "blocked", "error", "state")
    return any(was[name] != pair[name] for name in same) or pair["ticks"] <= was["ticks"]


@contextmanager
def patient(plan: Plan) -> Iterator[Patient]:
    """Run servers, relays, exchange and daemon; begin when every store has what there is."""
    with ExitStack() as stack:
        folder = stack.enter_context(rig.folder())
        victims: dict[str, Victim] = {}
        for name, kind in (("redis", Redis), ("questdb", QuestDB)):
            mounted = stack.enter_context(faults.disk(folder / name, _MB[name]))
            victims[name] = Victim(kind(folder / name), own_disk=mounted)
            stack.callback(victims[name].stop)
        stores = _STORES.format(**{name: one.proxy.port for name, one in victims.items()})
        told = Plan(plan.pairs, plan.rate, plan.gather_ms, plan.timeframes, plan.past_s, stores + plan.stores)
        one = Patient(plan, stack.enter_context(rig.working(told)), victims)
        one.settle()
        yield one


def measure_outages(seconds: float, plan: Plan = PLAN) -> Iterator[Outage]:
    """Let every fault befall every store for so long."""
    with patient(plan) as one:
        usual = one.look(seconds)
        for fault in FAULTS:
            yield from one.suffer(fault, seconds, usual)


def table(outages: Iterable[Outage], note: str) -> Table:
    """Lay out what was seen, an outage a line."""
    out = Table(title="outages of the stores: both at once, pairs live", caption=note)
    for name in (
        "store", "fault", "s", "backlog", "caught up, s", "rows compared", "differ",
        "pairs disturbed", "memory, MB/min", "flush ms: usual", "meanwhile", "journal ms: usual", "meanwhile",
    ):  # fmt: skip
        out.add_column(name, justify="left" if name in {"store", "fault"} else "right")
    for one in outages:
        out.add_row(
            one.store,
            one.fault,
            f"{one.lasted_s:.0f}",
            f"{one.backlog:,}",
            f"{one.catch_up_s:.1f}",
            f"{one.found.rows:,}",
            f"{one.found.differ:,}",
            str(one.pairs_disturbed),
            f"{one.memory_mb_min:+.2f}",
            f"{one.usual_ms:.2f}",
            f"{one.meanwhile_ms:.2f}",
            f"{one.journal_usual_ms:.3f}",
            f"{one.journal_meanwhile_ms:.3f}",
        )
    return out


def main() -> None:
    pairs, rate, seconds = sys.argv[1:]
    for one in measure_outages(float(seconds), Plan(int(pairs), float(rate), stores="")):
        sys.stdout.buffer.write(msgspec.json.encode(one) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
