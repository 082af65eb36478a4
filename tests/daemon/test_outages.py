"""Real stores die in every way under a live daemon: pairs do not notice, and no row is missing or double."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
FAULTS = ("killed", "hung", "slow", "full disk", "restarted empty")
PAIRS, RATE, ILL_S = 2, 400, 3
GROWTH_MB = 40.0  # of four processes; what waits for a store must not be among it


@pytest.fixture(scope="module")
def outages() -> dict[tuple[str, str], dict[str, Any]]:
    """Let the benchmark's own faults befall real servers, for a short while each."""
    command = [sys.executable, "-m", "benchmarks.outages", *map(str, (PAIRS, RATE, ILL_S))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = map(json.loads, ended.stdout.splitlines())
    return {(one["fault"], one["store"]): one for one in found}


@pytest.mark.parametrize("store", ["redis", "questdb"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_fails_costs_lag_and_nothing_else(
    outages: dict[tuple[str, str], dict[str, Any]], fault: str, store: str
) -> None:
    one = outages[fault, store]  # one whose disk could not be filled, for want of the right to mount, fails
    assert one["found"]["differ"] == 0
    assert one["found"]["rows"] > 20
    assert one["pairs_disturbed"] == 0
    assert one["memory_mb"] < GROWTH_MB
    if fault in {"killed", "hung", "restarted empty"}:
        assert one["backlog"] > 0
