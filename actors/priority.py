"""Which of marketd's processes go before which, where many share too little CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

_VARIABLE = "MARKETD_NICENESS"
_USUAL = int(os.environ.get(_VARIABLE, os.getpriority(os.PRIO_PROCESS, 0)))
"""What the daemon was started with: whom it starts FIRST reads that from `environment`."""


class Place(IntEnum):
    """A place in the queue, in steps of niceness."""

    FIRST = -10  # who brings all pairs' events to Redis, and who is only starting
    USUAL = 0  # pairs
    LAST = 10  # history, which is in less of a hurry


def environment() -> dict[str, str]:
    """Give what a process needs that is put FIRST, for all it starts to find their own places."""
    return {_VARIABLE: str(_USUAL)}


def put_first(pid: int) -> None:
    """Put a process that has just been started FIRST, and so all it will start, if that is allowed."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, _USUAL + Place.FIRST)


def take(place: Place) -> None:
    """Put all threads of this process there; new ones do as their makers.

    Nobody but root goes FIRST, or a service with LimitNICE: where the system forbids it, nothing changes.
    """
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError, PermissionError):  # it has ended since; it is forbidden
            os.setpriority(os.PRIO_PROCESS, int(thread.name), _USUAL + place)


def step_back() -> None:
    """Let the other threads of the process go before this one."""
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + Place.LAST)
