"""Imported by each of Ray's workers before anything of ours (RAY_preload_python_modules), and only there.

Makes some libraries seem not installed: pydantic, pyarrow and pandas, which Ray loads for its serializers,
and rich, which structlog loads for coloured tracebacks, take 15 MB a process. An actor that needs one of
them says so first (`actors.supervise.bring_back`).

Lets the main thread rest, once it has started: Ray has it look for signals a hundred times a second, which is
a quarter of what an idle pair costs. What an actor is asked comes through it, and waits for the rest's end.
"""

from __future__ import annotations

import atexit
import signal
import sys
import time
from types import FrameType

STARTED_S = 15.0
REST_EVERY_S, REST_S = 0.1, 0.08

sys.modules.update(dict.fromkeys(("pydantic", "pyarrow", "pandas", "rich")))  # type: ignore[arg-type]  # None is what import looks for


def _rest(_signal: int, frame: FrameType | None) -> None:
    """Sleep where there is nothing but Ray's loop below: neither in an import nor in a rest."""
    if frame is not None and frame.f_code.co_name == "main_loop":
        time.sleep(REST_S)


signal.signal(signal.SIGALRM, _rest)
signal.setitimer(signal.ITIMER_REAL, STARTED_S, REST_EVERY_S)
atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # without its handler the signal would kill
