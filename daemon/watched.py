"""An actor as its owner sees it: a handle, what it last said of itself, and how often it came back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger()
STUCK_S = 10.0
UNANSWERED_S = 10.0
TROUBLED = frozenset({"failed", "stale", "unlisted"})


@dataclass(slots=True)
class Watched:
    """An actor, and what is known of it."""

    name: str
    handle: Any
    status: dict[str, Any] = field(default_factory=dict)
    asked_s: float | None = None  # since when it owes an answer
    restarts: int = 0
    probe: asyncio.Task[None] | None = None

    @property
    def report(self) -> dict[str, Any]:
        """Say what it last said, how often it was started again, and that it has not answered of late."""
        told = self.status | {"restarts": self.restarts}
        silent_s = self.silent_s
        if not self.status or silent_s < UNANSWERED_S:
            return told
        silence = {"error": f"no answer for {silent_s:.0f} s"}
        return told | silence | ({"state": "silent"} if "state" in told else {})

    @property
    def silent_s(self) -> float:
        """Tell for how long it has owed an answer."""
        return 0.0 if self.asked_s is None else time.monotonic() - self.asked_s

    def asks(self) -> None:
        """Note that it is asked; one that has not answered the question before owes that answer."""
        self.asked_s = self.asked_s or time.monotonic()

    def saw(self, status: dict[str, Any]) -> None:
        if self.status and self.status["pid"] != status["pid"]:
            self.restarts += 1
            log.warning("actor_restarted", actor=self.name, restarts=self.restarts)
        if (trouble := _trouble(status)) != (_trouble(self.status) if self.status else ""):
            if trouble:
                log.warning("actor_troubled", actor=self.name, trouble=trouble)
            else:
                log.info("actor_well", actor=self.name)
        self.status, self.asked_s = status, None


def _is_stuck(sink: dict[str, Any]) -> bool:
    """Tell a lane that cannot bring its rows from one whose supervisor is just coming back."""
    return bool(sink.get("error")) and float(sink["lag_s"]) > STUCK_S


def _trouble(status: dict[str, Any]) -> str:
    """Say what keeps an actor from its work, if anything."""
    if blocked := str(status.get("blocked", "")):
        return blocked
    if "state" not in status:  # a supervisor: what keeps its store from its work
        troubles = "; ".join(f"{what}: {why}" for what, why in status.get("troubles", {}).items())
        return str(status.get("error") or troubles)
    if stuck := [name for name, sink in status.get("sinks", {}).items() if _is_stuck(sink)]:
        return "; ".join(f"{name}: {status['sinks'][name]['error']}" for name in stuck)
    if (state := status["state"]) not in TROUBLED:
        return ""
    reason = status["error"] or status.get("last_error")
    return f"{state}: {reason}" if reason else str(state)
