"""Old rows on their way out of the pairs' files: who is asked to sweep, when, and what came of it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog

from actors.priority import Place, take
from actors.supervise import end, live, vitals
from market.errors import MarketdError, Retryable
from storage.compact import compact

log = structlog.get_logger(__name__)
SWEEP_TIMEOUT_S = 120.0
RETRY_S = 10.0  # until pairs that are just starting are asked again


class RetentionService:
    """Ask one pair after the other to sweep, then put the archive's small files together.

    A pair that does not answer, or whose disk refuses, keeps its rows, is counted, and is asked again.
    `ask(pair)` sweeps one pair and gives what it did; `compact()` blocks, and gives how many files it made.
    """

    def __init__(
        self,
        pairs: Sequence[str],
        sweep_s: float,
        ask: Callable[[str], Any],
        compact: Callable[[], int],
    ) -> None:
        self._pairs, self._sweep_s = pairs, sweep_s
        self._ask, self._compact = ask, compact
        self._counts: Counter[str] = Counter()
        self._troubles: dict[str, str] = {}
        self._last_s = 0.0

    def status(self) -> dict[str, Any]:
        """Say what was moved since the start, and what hinders it now."""
        counted = {name: self._counts[name] for name in ("sweeps", "rows", "bytes", "failures", "compacted")}
        return {**counted, "last_sweep_s": self._last_s, "troubles": dict(self._troubles)}

    async def run(self) -> None:
        """Sweep every so often until cancelled; after trouble, sooner."""
        while True:
            await asyncio.sleep(min(self._sweep_s, RETRY_S) if self._troubles else self._sweep_s)
            began_s = time.monotonic()
            for pair in self._pairs:
                await self._sweep(pair)
            await self._put_together()
            self._last_s = round(time.monotonic() - began_s, 3)

    async def _sweep(self, pair: str) -> None:
        try:
            more = True
            while more:
                async with asyncio.timeout(SWEEP_TIMEOUT_S):
                    told = await self._ask(pair)
                self._counts.update(sweeps=1, rows=told["rows"], bytes=told["bytes"])
                more = told["more"]
        except (MarketdError, TimeoutError) as error:
            self._note(pair, str(error) or "no answer in time")
        else:
            self._note(pair, "")

    async def _put_together(self) -> None:
        try:
            self._counts["compacted"] += await asyncio.to_thread(self._compact)
        except MarketdError as error:
            self._note("archive", str(error))
        else:
            self._note("archive", "")

    def _note(self, what: str, trouble: str) -> None:
        if trouble:
            self._counts["failures"] += 1
            if self._troubles.get(what) != trouble:
                log.warning("retention_troubled", what=what, trouble=trouble)
            self._troubles[what] = trouble
        else:
            self._troubles.pop(what, None)


class RetentionSupervisor:
    """The service as an actor's class; the pairs are actors of the same cluster, by name."""

    def __init__(
        self, pairs: Sequence[str], archive: Path, sweep_s: float, prepare: Callable[[], None]
    ) -> None:
        prepare()
        take(Place.LAST)
        self._service = RetentionService(pairs, sweep_s, _ask, functools.partial(compact, archive))
        self._task = live(self._service.run())

    async def status(self) -> bytes:
        return orjson.dumps(vitals() | self._service.status())

    async def stop(self) -> None:
        """Leave everything as it is: a sweep that is under way ends with its pair."""
        await end(self._task)


async def _ask(pair: str) -> dict[str, Any]:
    import ray  # noqa: PLC0415 - the service itself needs none
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415

    try:
        actor: Any = ray.get_actor(pair)
        swept: dict[str, Any] = await actor.sweep.remote()
    except RayTaskError as error:
        raise Retryable(str(error.cause)) from error
    except (RayError, ValueError) as error:  # ValueError: it has no such actor yet
        raise Retryable(f"{pair} does not answer: {type(error).__name__}") from error
    return swept
