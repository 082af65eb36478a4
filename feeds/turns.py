"""A pair's turns at its venue: to connect, and to ask."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from feeds.budget import Budget
from feeds.venue import Rules

log = structlog.get_logger()
ROOM = 0.8  # of the venue's limits: others may use this address, too


class Turns:
    """Wait for what the venue allows this address; `folder` None: nobody else is there to share with.

    Without its file (a full disk, say) nothing is held back: the venue itself says when it is too much.
    """

    def __init__(self, folder: Path | None, ws_url: str, rest_url: str, rules: Rules) -> None:
        self._connects = self._asks = None
        if folder is not None:
            sockets, requests = (folder / urlsplit(url).netloc for url in (ws_url, rest_url))
            connects, weight = ROOM * rules.connects, ROOM * rules.weight
            self._connects = Budget(
                sockets.with_name(f"{sockets.name}.connects"), connects, rules.connects_per_s
            )
            self._asks = Budget(requests.with_name(f"{requests.name}.weight"), weight, rules.weight_per_s)

    async def connect(self) -> None:
        """Wait for a turn to open a connection."""
        await _wait(self._connects, 1.0)

    async def ask(self, weight: float) -> None:
        """Wait for a turn to send a request."""
        await _wait(self._asks, weight)

    def refused(self, wait_s: float) -> None:
        """Tell the others on this address that the venue wants nothing for so long."""
        if self._asks is not None:
            try:
                self._asks.ban(wait_s)
            except OSError as error:
                log.warning("budget_unusable", error=str(error))


async def _wait(budget: Budget | None, cost: float) -> None:
    if budget is None:
        return
    try:
        wait_s = budget.reserve(cost)
    except OSError as error:
        log.warning("budget_unusable", error=str(error))
        return
    if wait_s:
        await asyncio.sleep(wait_s)
