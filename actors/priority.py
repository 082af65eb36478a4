"""Which of marketd's processes go before which, where many share too little CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

_USUAL = os.getpriority(os.PRIO_PROCESS, 0)  # as it was started, before anybody called `take`


class Place(IntEnum):
    """A place in the queue, in steps of niceness."""

    FIRST = -10  # who brings all pairs' events to Redis
    USUAL = 0  # pairs
    LAST = 10  # history, which is in less of a hurry


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
