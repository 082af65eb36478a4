from __future__ import annotations

import os


class Bare:
    """An actor that does nothing, in a module that imports nothing."""

    async def pid(self) -> int:
        return os.getpid()
