"""How soon ticks are stored after a start, and all of them after a kill."""

from __future__ import annotations

import os
import signal
import time
from statistics import median

from benchmarks import rig
from benchmarks.figures import Figure
from benchmarks.rig import Daemon, Plan
from feeds import rest
from feeds.binance_spot import VENUE
from market.errors import MarketdError

PLAN = Plan(3, 300.0)
STARTS, KILLS = 3, 5
BETWEEN_KILLS_S = 10.0
POLL_S = 0.02
GOAL_S = 30.0
_FIRST = "SELECT epoch_ns(min(received_at)) FROM ticks"
_IDS = "SELECT count(*), min(trade_id::BIGINT), max(trade_id::BIGINT) FROM ticks"


def measure_recovery() -> list[Figure]:
    """Start a few times; kill a pair's actor a few times."""
    starts = [_start_s() for _ in range(STARTS)]
    with rig.working(PLAN) as daemon:
        kills = [_kill_s(daemon) for _ in range(KILLS)]
    return [
        Figure(f"marketd run to the first tick stored, median of {STARTS}", median(starts), "s"),
        Figure(f"kill -9 of a pair to complete, median of {KILLS}", median(kills), "s", GOAL_S),
        Figure("  the slowest of these", max(kills), "s", GOAL_S),
    ]


def _start_s() -> float:
    with rig.working(PLAN) as daemon:
        first_ns = min(int(daemon.query(key, _FIRST)[0][0]) for key in PLAN.keys)
        return (first_ns - daemon.started_ns) / 1e9


def _kill_s(daemon: Daemon) -> float:
    time.sleep(BETWEEN_KILLS_S)
    victim = daemon.pairs()[0]
    os.kill(victim["pid"], signal.SIGKILL)
    start_s = time.monotonic()
    rig.wait_until(lambda: _complete(daemon, victim["pair"]), "a complete record", daemon.process, POLL_S)
    return time.monotonic() - start_s


def _complete(daemon: Daemon, pair: str) -> bool:
    """Tell whether the record holds every id up to the venue's newest."""
    symbol = pair.rpartition(":")[2]
    url = daemon.urls["rest_url"] + VENUE.latest(symbol).path
    newest = int(VENUE.parse_trades(rest.get_now(url), time.time_ns(), symbol).ticks["trade_id"][-1])
    try:
        (count,), (first,), (last,) = daemon.query(pair, _IDS)
    except MarketdError:  # it is not back yet
        return False
    return bool(last >= newest and count == last - first + 1)
