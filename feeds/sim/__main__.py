"""Run a simulated exchange in a process of its own: `python -m feeds.sim --symbols BTCUSDT --rate 50`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import uvloop

from feeds.sim.exchange import SimExchange
from feeds.sim.history import GeneratedHistory, History, RecordedHistory


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m feeds.sim", description=__doc__)
    parser.add_argument("--symbols", default="BTCUSDT", help="comma-separated, for generated trades")
    parser.add_argument("--rate", type=float, default=50.0, help="trades a second, of each symbol")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--start-ns", type=int, help="time of the first trade (default: now, or as recorded)")
    parser.add_argument("--recorded", type=Path, help="a CSV or CSV.gz file of trades to tell instead")
    parser.add_argument("--symbol", help="the recorded file's symbol, where it does not say")
    parser.add_argument("--speed", type=float, default=1.0, help="times the recorded pace")
    return parser.parse_args()


def _exchange(args: argparse.Namespace) -> SimExchange:
    now_ns = time.time_ns()
    if args.recorded is None:
        start_ns = now_ns if args.start_ns is None else args.start_ns
        symbols = args.symbols.upper().split(",")
        made: dict[str, History] = {s: GeneratedHistory(s, args.seed, args.rate, start_ns) for s in symbols}
        return SimExchange(made)
    recorded = RecordedHistory(args.recorded, args.symbol, args.speed, args.start_ns)
    if args.start_ns is not None:
        return SimExchange({recorded.symbol: recorded})
    first_ns, speed = recorded.first_ns, args.speed  # recorded times stay: the venue's clock runs in them
    return SimExchange(
        {recorded.symbol: recorded},
        lambda: first_ns - 1 + int((time.time_ns() - now_ns) * speed),
        speed=speed,
    )


async def _serve(args: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sim = _exchange(args)
    await sim.start(args.host, args.port)
    sys.stdout.write(json.dumps({"ws_url": sim.ws_url, "rest_url": sim.rest_url}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await sim.stop()


if __name__ == "__main__":
    uvloop.run(_serve(_arguments()))
