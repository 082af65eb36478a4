"""`marketd record` beside a running daemon, and the replay of what it kept: both are the same record."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feeds.recording import pair_of, read, recordings
from storage.embedded_redis import EmbeddedRedis
from tests.daemon.support import (
    MARKETD,
    Daemon,
    Exchange,
    daemon,
    environment,
    exchange,
    key,
    left,
)
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)  # a busy machine starts a daemon in a minute

BTC = "BTCUSDT"
NOWHERE = {"ws_url": "ws://127.0.0.1:1", "rest_url": "http://127.0.0.1:1"}  # a replay asks nobody
TICKS = """
    SELECT trade_id::BIGINT AS id, epoch_ns(timestamp) AS ts_ns, price, volume, side FROM ticks ORDER BY seq
"""
CANDLES = """
    SELECT epoch_ns(timestamp) AS ns, round(volume, 9) AS volume, round(buy_volume, 9) AS buy_volume,
        round(sell_volume, 9) AS sell_volume, round(vwap, 6) AS vwap,
        * EXCLUDE (revision, volume, buy_volume, sell_volume, vwap)
    FROM candles_{timeframe} ORDER BY timestamp
"""


@pytest.fixture(scope="module")
def venue() -> Iterator[Exchange]:
    with exchange(BTC, rate=100.0) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """The user's own Redis."""
    made = EmbeddedRedis(tmp_path / "redis")
    made.start()
    yield made
    made.stop()


class Recorder:
    """`marketd record`, running."""

    def __init__(self, made: Daemon, *arguments: str) -> None:
        self.told = made.folder / "told.txt"
        with self.told.open("wb") as out:
            command = [str(MARKETD), "record", *arguments]
            self._process = subprocess.Popen(
                command, cwd=made.folder, env=environment(), stdout=out, start_new_session=True
            )

    @property
    def lines(self) -> list[str]:
        return self.told.read_text().splitlines()

    async def stop(self, number: int) -> int:
        os.kill(self._process.pid, number)
        return await asyncio.to_thread(self._process.wait, 20)


async def test_a_recording_replayed_is_the_record_of_the_daemon_that_ran_beside(
    tmp_path: Path, venue: Exchange, server: EmbeddedRedis
) -> None:
    with (
        daemon(tmp_path / "live", venue.urls, BTC, redis=server.url) as live,
        daemon(tmp_path / "again", NOWHERE, BTC, redis=server.url) as again,
    ):
        live.start()
        await live.streaming()
        recorder = Recorder(live, key(BTC))
        await eventually(lambda: recorder.lines and recorder.lines[-1].endswith(", connected"), 30.0)
        began = venue.last_ids()[BTC]
        await eventually(lambda: venue.last_ids()[BTC] >= began + 900, 60.0)
        venue.fault("drop")  # both are cut, and what the recorder misses nobody gives it
        await eventually(lambda: venue.last_ids()[BTC] >= began + 1_500, 60.0)
        assert await recorder.stop(signal.SIGINT) == 0
        folder = live.data / "recordings/binance/spot" / BTC
        assert recorder.lines[-1].startswith("recorded: ")
        assert recorder.lines[-1].endswith(f" bytes in {folder}")
        ended = await again.ask("replay", *map(str, recordings(folder)))
        assert ended.returncode == 0, ended.stderr
        await _is_the_same(live, again)
        assert (await again.ask("verify", key(BTC))).returncode == 0
        await live.stop(signal.SIGTERM)


async def _is_the_same(live: Daemon, again: Daemon) -> None:
    """Compare what both have: all ticks of the recording, and the bars that lie wholly in it."""
    ticks = await again.query(BTC, TICKS)
    first, last = ticks[0], ticks[-1]
    both = [row for row in await live.query(BTC, TICKS) if first["id"] <= row["id"] <= last["id"]]
    gaps = await again.query(BTC, "SELECT first_missing_id AS a, last_missing_id AS b, status FROM data_gaps")
    assert {gap["status"] for gap in gaps} <= {"UNFILLABLE"}
    missing = {i for gap in gaps for i in range(gap["a"], gap["b"] + 1)}
    assert len(ticks) > 1_000
    assert ticks == [row for row in both if row["id"] not in missing]
    holes = [row["ts_ns"] // 10**9 for row in both if row["id"] in missing]
    for timeframe, seconds in (("1s", 1), ("5s", 5)):
        skipped = {at // seconds for at in holes}
        inside = range(first["ts_ns"] // 10**9 // seconds + 1, last["ts_ns"] // 10**9 // seconds)
        whole = set(inside) - skipped
        bars = await _bars(again, timeframe, seconds, whole)
        assert len(bars) == len(whole) > 0
        assert bars == await _bars(live, timeframe, seconds, whole)


async def _bars(made: Daemon, timeframe: str, seconds: int, bars: set[int]) -> list[dict[str, Any]]:
    rows = await made.query(BTC, CANDLES.format(timeframe=timeframe))
    return [row for row in rows if row["ns"] // 10**9 // seconds in bars]


async def test_a_recording_needs_no_daemon_and_ends_after_its_seconds(
    tmp_path: Path, venue: Exchange
) -> None:
    with daemon(tmp_path / "d", venue.urls, BTC) as made:
        out = tmp_path / "elsewhere"
        ended = await made.ask("record", key(BTC), "--seconds", "2", "--out", str(out))
        assert ended.returncode == 0, ended.stderr
        assert not made.data.exists()
        assert [line.endswith("connected") for line in ended.stdout.splitlines()[:-1]].count(True) >= 1
        (file,) = recordings(out)
        assert pair_of(file) == key(BTC)
        frames = list(read(file))
        assert ended.stdout.splitlines()[-1].startswith(f"recorded: {len(frames):,} frames, ")
        assert sum(b'"e":"trade"' in one.frame for one in frames) > 50


@pytest.mark.parametrize(
    ("pair", "code", "message"),
    [
        ("binance:spot:NOPE", 2, "the venue does not list NOPE"),
        ("mars:spot:A", 2, "mars:spot:A: mars spot is not supported (supported: binance spot, "),
        ("pool:dex:A", 2, "pool:dex:A is pushed into Redis: there is no socket to record"),
        ("kraken:spot:BTC-USD", 3, "kraken:spot:BTC-USD: ws://127.0.0.1:1"),
    ],
)
async def test_what_cannot_be_recorded_is_one_line(
    tmp_path: Path, venue: Exchange, pair: str, code: int, message: str
) -> None:
    with daemon(tmp_path / "d", venue.urls, BTC) as made:
        with (made.folder / "config.toml").open("a", encoding="utf-8") as config:
            config.write('[exchanges.kraken]\nws_url = "ws://127.0.0.1:1"\nrest_url = "http://127.0.0.1:1"\n')
            config.write('[[pairs]]\nfeed = "push"\nexchange = "pool"\nmarket = "dex"\nsymbols = ["A"]\n')
        ended = await made.ask("record", pair, "--seconds", "1")
        assert ended.returncode == code, ended.stderr
        assert ended.stderr.splitlines()[-1].startswith(f"marketd: {message}")
        assert "Traceback" not in ended.stderr
        assert not (made.data / "recordings").exists()
        assert left(made.folder) == []
