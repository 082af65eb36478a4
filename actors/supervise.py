"""The Ray side that every supervisor of a store has in common: it lives as long as its service works."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

import psutil
import structlog

log = structlog.get_logger(__name__)


def live(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a service in the actor's loop; a bug in it ends the process, which Ray starts again."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_die_of_a_bug)
    return task


def vitals() -> dict[str, Any]:
    """Say which process this is, and how large."""
    return {"pid": os.getpid(), "rss_bytes": psutil.Process().memory_info().rss}


def bring_back(*names: str) -> None:
    """Let libraries be imported that are kept from actors which do without."""
    for name in names:
        if sys.modules.get(name, sys) is None:
            del sys.modules[name]


async def end(task: asyncio.Task[None]) -> None:
    """Stop a service and wait until it has let go of everything."""
    task.cancel()
    await asyncio.wait({task})


def _die_of_a_bug(task: asyncio.Task[None]) -> None:
    """End the process: restarting it is its owner's business, living on without the service nobody's."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("service_failed", error=repr(error), exc_info=error)
        os._exit(1)
