from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from market.times import NS_PER_S

ROOT = Path(__file__).parents[2]


@contextmanager
def _running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "feeds.sim", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def _get(url: str) -> Any:
    with urlopen(url, timeout=5) as reply:  # noqa: S310  loopback
        return json.load(reply)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_when_told(number: signal.Signals) -> None:
    with _running("--rate", "200") as (process, urls):
        assert urls.keys() == {"ws_url", "rest_url"}
        with connect(urls["ws_url"] + "/ws/btcusdt@trade") as ws:
            first = json.loads(ws.recv(timeout=10))["t"]
            assert json.loads(ws.recv(timeout=10))["t"] == first + 1
            process.send_signal(number)
            assert process.wait(10) == 0


def test_killed_and_started_again_it_has_the_same_history() -> None:
    start_ns = time.time_ns() - 5 * NS_PER_S
    arguments = ("--symbols", "BTCUSDT,ETHUSDT", "--rate", "100", "--seed", "3", "--start-ns", str(start_ns))
    histories = []
    for _ in range(2):
        with _running(*arguments) as (process, urls):
            histories.append(_get(urls["rest_url"] + "/sim/trades?symbol=ETHUSDT&limit=300"))
            process.kill()
    assert histories[0] == histories[1]
    assert len(histories[0]) == 300


def test_a_recording_is_told_at_its_pace(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    rows = [f"{n},100.{n:02d},1.50,buy,{n * NS_PER_S}" for n in range(1, 61)]
    path.write_text("trade_id,price,size,side,ts_event_ns\n" + "\n".join(rows) + "\n")
    with (
        _running("--recorded", str(path), "--symbol", "ABCUSDT", "--speed", "20") as (_, urls),
        connect(urls["ws_url"] + "/ws/abcusdt@trade") as ws,
    ):
        began = time.monotonic()
        frames = [json.loads(ws.recv(timeout=10)) for _ in range(21)]
        assert 0.9 < time.monotonic() - began < 2
    assert all((f["T"], f["p"], f["q"]) == (f["t"] * 1_000, f"100.{f['t']:02d}", "1.50") for f in frames)
