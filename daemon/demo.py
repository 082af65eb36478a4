"""The whole daemon against a simulated exchange on this machine, with a live table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from daemon import service
from daemon.live_view import LiveView
from daemon.lock import FolderLock
from daemon.settings import VENUES, EngineSettings, LogSettings, PairSettings, Settings
from market.errors import Fatal, UsageError
from market.pairs import Pair
from storage.children import die_with_parent

COINS = "BTC ETH SOL BNB XRP ADA DOGE TRX AVAX LINK DOT LTC BCH UNI ATOM NEAR APT FIL ARB OP"
TIMEFRAMES = ("5s", "1m", "5m", "15m")  # the shortest so that something closes while one looks
MARK = ".marketd-demo"
CONFIG = """\
# Written by `marketd demo`; for `marketd query --config` on what it kept.
data_dir = {data_dir}
[[pairs]]
exchange = "binance"
market = "spot"
symbols = {symbols}
[exchanges.binance]
ws_url = {ws_url}
rest_url = {rest_url}
[engine]
timeframes = {timeframes}
"""


def run(pairs: int, rate: float, seconds: float | None, settings: Settings | None) -> int:
    """Run until Ctrl-C or for `seconds`; keep the record until the next demo."""
    base = settings or Settings(data_dir=Path("data").absolute(), pairs=())
    folder = base.data_dir / "demo"
    _clear(folder)
    symbols = _symbols(pairs)
    with _exchange(symbols, rate / pairs) as urls:
        demo = service.available(_settings(base, folder, symbols, urls))
        _write_config(folder, symbols, urls)
        view = LiveView(seconds)
        kept = service.serve(demo, demo.pair_specs(), view.show)
    config = os.path.relpath(folder / "config.toml")
    sys.stdout.write(
        f"kept {kept:,} trades of {pairs} pairs in {os.path.relpath(folder)} until the next demo; ask:\n"
        f"  {os.path.relpath(sys.argv[0])} query --config {config} binance:spot:BTCUSDT 'FROM candles_1m'\n",
    )
    return 0


def _clear(folder: Path) -> None:
    """Remove the demo before this one; never anything else, and nothing of one that runs."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError(f"{folder}: is not empty and not of an earlier demo")
    try:
        with FolderLock(folder):
            for old in folder.iterdir():
                if old.name not in {MARK, "run"}:
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            (folder / MARK).touch()
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error


def _symbols(pairs: int) -> list[str]:
    known = COINS.split()
    coins = [*known, *(f"SIM{n:03}" for n in range(len(known) + 1, pairs + 1))]
    return [f"{coin}USDT" for coin in coins[:pairs]]


@contextmanager
def _exchange(symbols: list[str], rate: float) -> Iterator[dict[str, str]]:
    """Run the simulator as a process of its own; give its addresses."""
    arguments = ["--symbols", ",".join(symbols), "--rate", str(rate)]
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "feeds.sim", *arguments],
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the daemon: the venue outlives its drain
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, nothing that locks
    )
    try:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        line = child.stdout.readline()
        if not line:
            raise Fatal(f"the simulated exchange did not start (exit code {child.wait()})")
        yield json.loads(line)
    finally:
        child.terminate()
        child.wait()


def _settings(base: Settings, folder: Path, symbols: list[str], urls: dict[str, str]) -> Settings:
    venue = replace(VENUES["binance", "spot"], ws_url=urls["ws_url"], rest_url=urls["rest_url"])
    pairs = [Pair("binance", "spot", symbol) for symbol in symbols]
    return replace(
        base,
        data_dir=folder,
        pairs=tuple(PairSettings(pair=pair, alias=pair.key) for pair in pairs),
        exchanges={("binance", "spot"): venue},
        engine=EngineSettings(timeframes=TIMEFRAMES, backfill_s=0),
        log=LogSettings(level="error"),
    )


def _write_config(folder: Path, symbols: list[str], urls: dict[str, str]) -> None:
    values = {"data_dir": str(folder), "symbols": symbols, "timeframes": TIMEFRAMES, **urls}
    text = CONFIG.format_map({name: json.dumps(value) for name, value in values.items()})
    (folder / "config.toml").write_text(text, encoding="utf-8")
