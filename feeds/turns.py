"""A pair's turns at its venue: to connect, and to ask."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from feeds.budget import MAX_BAN_S, Budget
from feeds.venue import Rules

log = structlog.get_logger()
ROOM = 0.8  # of the venue's limits: others may use this address, too


class Turns:
    """Wait for what the venue allows this address; `folder` None: nobody else is there to share with.

    Without its file (a full disk, say) only what this process was told itself holds it back.
    """

    def __init__(self, folder: Path | None, ws_url: str, rest_url: str, rules: Rules) -> None:
        self._sockets, self._requests = _Limit(None), _Limit(None)
        if folder is not None:
            sockets, requests = (folder / urlsplit(url).netloc for url in (ws_url, rest_url))
            connects, weight = ROOM * rules.connects, ROOM * rules.weight
            self._sockets = _Limit(
                Budget(sockets.with_name(f"{sockets.name}.connects"), connects, rules.connects_per_s)
            )
            self._requests = _Limit(
                Budget(requests.with_name(f"{requests.name}.weight"), weight, rules.weight_per_s)
            )

    async def connect(self) -> None:
        """Wait for a turn to open a connection."""
        await self._sockets.turn(1.0)

    async def ask(self, weight: float) -> None:
        """Wait for a turn to send a request."""
        await self._requests.turn(weight)

    def shut_out(self, wait_s: float) -> None:
        """Tell the others on this address that the venue wants no connection for so long."""
        self._sockets.ban(wait_s)

    def refused(self, wait_s: float) -> None:
        """Tell the others on this address that the venue wants no request for so long."""
        self._requests.ban(wait_s)


class _Limit:
    """One of the venue's limits, as this process keeps it."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget
        self._banned_until_s = 0.0
        self._unusable = False  # and said so

    async def turn(self, cost: float) -> None:
        """Wait for a turn, and until no ban is left that anybody was told of meanwhile."""
        reserved = False
        while (wait_s := self._banned_s()) or not reserved:
            reserved = not wait_s  # a turn taken before a ban is none: all would come at once after it
            if reserved:
                wait_s = self._reserved(cost)
            await asyncio.sleep(wait_s)

    def ban(self, wait_s: float) -> None:
        self._banned_until_s = max(self._banned_until_s, time.monotonic() + min(wait_s, MAX_BAN_S))
        if self._budget is not None:
            try:
                self._budget.ban(wait_s)
            except OSError as error:
                self._complain(error)

    def _banned_s(self) -> float:
        own_s = max(0.0, self._banned_until_s - time.monotonic())
        if self._budget is None:
            return own_s
        try:
            return max(own_s, self._budget.banned_s())
        except OSError as error:
            self._complain(error)
            return own_s

    def _reserved(self, cost: float) -> float:
        if self._budget is None:
            return 0.0
        try:
            return self._budget.reserve(cost)
        except OSError as error:
            self._complain(error)
            return 0.0

    def _complain(self, error: OSError) -> None:
        if not self._unusable:
            log.warning("budget_unusable", error=str(error))
        self._unusable = True
