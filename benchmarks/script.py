"""What a quick script would do instead: `python -m benchmarks.script WS_URL REDIS_URL SYMBOL,SYMBOL...`.

One connection a symbol, no disk, no analytics, nothing made up for: the first trade of each second is
published, with the time when it was received, to the channel `script`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import redis.asyncio
import uvloop
from websockets.asyncio.client import connect


async def follow(url: str, server: redis.asyncio.Redis, symbol: str) -> None:
    last = None
    async with connect(f"{url}/ws", compression=None) as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": [f"{symbol.lower()}@trade"], "id": 1}))
        while True:
            frame = await socket.recv(decode=False)
            received_ns = time.time_ns()
            trade = json.loads(frame)
            if trade.get("e") == "trade" and (second := trade["T"] // 1_000) != last:
                last = second
                await server.publish("script", json.dumps({"received_ns": received_ns, "trade": trade}))


async def main() -> None:
    url, redis_url, symbols = sys.argv[1:]
    server = redis.asyncio.Redis.from_url(redis_url)
    await asyncio.gather(*(follow(url, server, symbol) for symbol in symbols.split(",")))


if __name__ == "__main__":
    uvloop.run(main())
