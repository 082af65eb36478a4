"""The service manager's protocol (sd_notify): when the daemon is ready, how it fares, that it lives."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from market.errors import UsageError

if TYPE_CHECKING:
    from daemon.service import Service

log = structlog.get_logger()
LOOK_S = 2.0
READY_AT_MOST_S = 60.0
NAMED = 3  # pairs in a status; `marketd status` tells of all of them
SETTLED = frozenset({"streaming", "unlisted"})  # nothing that time would change is missing
WRITING = frozenset({"connecting", "catching up", "streaming"})


class Notify:
    """Tell the service manager facts by datagrams to its socket; `@name` is an abstract one."""

    def __init__(self, address: str, watchdog_s: float = 0.0) -> None:
        if address[:1] not in {"/", "@"}:
            raise UsageError(f"NOTIFY_SOCKET {address!r}: expected /path or @name")
        self.watchdog_s = watchdog_s  # 0: nobody watches
        self._address = "\0" + address[1:] if address[0] == "@" else address

    @classmethod
    def of(cls, env: Mapping[str, str], pid: int) -> Notify | None:
        """Read what the manager put in the environment; None where there is no manager."""
        if not (address := env.get("NOTIFY_SOCKET")):
            return None
        watched = env.get("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(address, int(env.get("WATCHDOG_USEC", "0")) / 1e6 if watched else 0.0)

    def tell(self, **facts: str) -> None:
        """Send facts together; a manager that does not take them is logged, and no reason to fail."""
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in facts.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.setblocking(False)  # a manager that hangs must not hang the daemon
                door.sendto(text.encode(), self._address)
        except OSError as error:
            log.warning("manager_not_told", error=error.strerror or str(error))


@dataclass(slots=True)
class _Seen:
    """A pair as it was when it last showed life."""

    status: Mapping[str, Any]
    answered_s: float
    records: int
    wrote_s: float


@dataclass(slots=True)
class Judge:
    """Decide what the manager is told; pure, time is an argument.

    `patience_s` is how long a pair may go without an answer, or without a journal record where it owes one.
    """

    patience_s: float
    _ready: bool = False
    _since_s: float | None = None
    _spoke_s: float = 0.0
    _ticks: int = 0
    _pairs: dict[str, _Seen] = field(default_factory=dict)

    def look(self, statuses: Mapping[str, Mapping[str, Any]], now_s: float) -> dict[str, str]:
        """Return the facts of this moment.

        `statuses` holds each pair's last answer, a new object for each (empty: none yet). READY comes when
        every pair streams or never will, or after a minute, for a venue that is down must not keep the others
        from being a running service; from then on always, for a datagram may be lost. WATCHDOG is absent
        while a pair is stuck.
        """
        self._since_s = now_s if self._since_s is None else self._since_s
        waited_s = now_s - self._since_s
        settled = all(_state(one) in SETTLED for one in statuses.values())
        self._ready = self._ready or settled or waited_s > READY_AT_MOST_S
        for name, status in statuses.items():
            self._see(name, status, now_s)
        stuck = [reason for name in statuses if (reason := self._stuck(name, now_s))]
        facts = {"STATUS": self._describe(statuses, stuck, now_s)}
        if not stuck:
            facts["WATCHDOG"] = "1"
        if self._ready:
            facts["READY"] = "1"
        return facts

    def _see(self, name: str, status: Mapping[str, Any], now_s: float) -> None:
        seen = self._pairs.setdefault(name, _Seen(status, now_s, 0, now_s))
        if status is seen.status:
            return
        seen.status, seen.answered_s = status, now_s
        if not _owes_records(status) or status["journal_records"] != seen.records:
            seen.records, seen.wrote_s = status.get("journal_records", 0), now_s

    def _stuck(self, name: str, now_s: float) -> str:
        """Say why a pair is given up: it does not answer, or does not write what it owes."""
        seen = self._pairs[name]
        if now_s - seen.answered_s > self.patience_s:
            return f"{name} (no answer for {now_s - seen.answered_s:.0f} s)"
        if now_s - seen.wrote_s > self.patience_s:
            return f"{name} (no journal record for {now_s - seen.wrote_s:.0f} s)"
        return ""

    def _describe(self, statuses: Mapping[str, Mapping[str, Any]], stuck: list[str], now_s: float) -> str:
        states = Counter(_state(one) for one in statuses.values())
        text = [f"{len(statuses)} pairs", f"{states['streaming']} streaming", self._speed(statuses, now_s)]
        text += _lags(statuses.values())
        others = [f"{name} ({_ill(one)})" for name, one in statuses.items() if _ill(one)]
        told = ", ".join(text)
        told += f"; stuck: {_some(stuck)}" if stuck else ""
        return told + (f"; not well: {_some(others)}" if others else "")

    def _speed(self, statuses: Mapping[str, Mapping[str, Any]], now_s: float) -> str:
        ticks = sum(one.get("ticks", 0) for one in statuses.values())
        passed_s, more = now_s - self._spoke_s, ticks - self._ticks
        speed = max(more, 0) / passed_s if self._spoke_s and passed_s > 0 else 0.0
        self._spoke_s, self._ticks = now_s, ticks
        return f"{speed:,.0f} ticks/s"


async def keep_told(notify: Notify, journal_due_s: float, service: Service) -> None:
    """Tell the manager how the daemon fares until cancelled, and then that it stops.

    `journal_due_s` is the longest that a pair may rightly write nothing. What runs here runs in the daemon's
    own loop: a loop that hangs feeds no watchdog.
    """
    judge = Judge(max(notify.watchdog_s, 2 * journal_due_s))
    pause_s = min(LOOK_S, notify.watchdog_s / 3 or LOOK_S)
    try:
        while True:
            statuses = {one.name.removeprefix("pair:"): one.status for one in service.node.pairs}
            notify.tell(**judge.look(statuses, time.monotonic()))
            await asyncio.sleep(pause_s)
    finally:
        notify.tell(STOPPING="1", STATUS="draining")


def manager() -> Notify | None:
    """Find the manager that started this process, and hide it from the processes started here.

    What they inherit they could answer, in our name.
    """
    found = Notify.of(os.environ, os.getpid())
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    return found


def _owes_records(status: Mapping[str, Any]) -> bool:
    """Tell whether a pair must soon write to its journal.

    One that waits for data does, at the latest that its feed is stale. Not one that is stale, unlisted,
    recovering or failed; nor one whose disk refuses: it waits for room, says so, and a restart makes none.
    """
    return status.get("state") in WRITING and not status.get("blocked")


def _state(status: Mapping[str, Any]) -> str:
    return str(status.get("state", "starting"))


def _ill(status: Mapping[str, Any]) -> str:
    """Say what a pair is short of; empty for one that streams."""
    reason = status.get("blocked") or status.get("error")
    if _state(status) == "streaming" and not reason:
        return ""
    return f"{_state(status)}: {reason}" if reason else _state(status)


def _lags(statuses: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give the worst of all pairs: a frame's way to the journal, events behind by sink."""
    slowest_ms, behind = 0.0, Counter[str]()
    for one in statuses:
        slowest_ms = max(slowest_ms, (one.get("latency_ms") or (0.0, 0.0))[1])
        for sink, facts in one.get("sinks", {}).items():
            behind[sink] = max(behind[sink], facts["lag"])
    return [f"journal p99 {slowest_ms:.1f} ms", *(f"{sink} {lag:,} behind" for sink, lag in behind.items())]


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more
