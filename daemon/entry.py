"""The command's first lines, before anything large is imported: Ctrl-C then ends it without a traceback."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

DAEMONS = frozenset({"run", "demo", "replay", "ray-head"})
"""Commands that SIGINT and SIGTERM end well; those that answer a question have then not answered it."""


def main() -> NoReturn:
    """Run the command line."""
    done, told = 0 if DAEMONS.intersection(sys.argv[1:2]) else 130, list[int]()

    def leave(number: int, _frame: object) -> NoReturn:
        told.append(number)
        sys.exit(done)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    from daemon import cli  # noqa: PLC0415 - under these handlers; the daemon's life has its own

    try:
        cli.main()
    except RuntimeError:  # DuckDB's word for an exit in the midst of a query
        if not told:
            raise
        sys.exit(done)
