from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(check: Callable[[], Awaitable[object] | object], timeout_s: float = 10.0) -> object:
    """Poll `check` every 10 ms until it is true; return what it gave, or raise TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            got = check()
            if isinstance(got, Awaitable):
                got = await got
            if got:
                return got
            await asyncio.sleep(0.01)
