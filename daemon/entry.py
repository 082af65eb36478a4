"""The command's first lines, before anything large is imported: Ctrl-C then ends it without a traceback."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

DAEMONS = frozenset({"run", "demo", "replay", "ray-head"})
"""Commands that SIGINT and SIGTERM end well; those that answer a question have then not answered it."""


def main() -> NoReturn:
    """Run the command line."""
    done = 0 if DAEMONS.intersection(sys.argv[1:2]) else 130

    def leave(_number: int, _frame: object) -> NoReturn:
        sys.exit(done)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    from daemon import cli  # noqa: PLC0415 - under these handlers; the daemon's life has its own

    cli.main()
