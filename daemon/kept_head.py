"""A Ray head in a process of its own (`marketd ray-head`), as the daemon of its data folder finds it."""

from __future__ import annotations

import time
from pathlib import Path

from daemon import lock
from market.errors import Unreachable

ADDRESS = "ray-address"
TOKEN = "ray-token"  # noqa: S105  the name of its file
WAIT_S = 60.0


class KeptHead:
    """What is written of the head in `{run_dir}/head/run`, true while its keeper holds `{run_dir}/head`."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "head"
        self.run_dir = self.folder / "run"
        self._found = False

    def is_held(self) -> bool:
        """Tell whether a keeper lives, its head perhaps still starting."""
        return lock.holder(self.folder) is not None

    def address(self) -> str:
        """Give host:port; empty while there is no head that could be used."""
        if not self.is_held():
            return ""  # what is written is of a keeper that was killed
        try:
            return (self.run_dir / ADDRESS).read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def wait(self) -> str:
        """Return the address, the first time after waiting for a head that starts; raise Unreachable."""
        deadline = time.monotonic() + (0.0 if self._found else WAIT_S)
        while not (address := self.address()):
            if not self.is_held() or time.monotonic() > deadline:
                raise Unreachable(f"the head of `marketd ray-head` in {self.folder} does not answer")
            time.sleep(0.02)
        self._found = True
        return address
