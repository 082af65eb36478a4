"""Child processes that never outlive the process which started them."""

from __future__ import annotations

import ctypes
import signal
import subprocess

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing may be loaded between fork and exec


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent goes; for `preexec_fn`.

    The kernel means the parent's *thread*: start children from a thread that lives as long as they should.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end(child: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask a child to end, and make it after `timeout_s`; harmless if it is gone."""
    child.terminate()
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
