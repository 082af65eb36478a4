from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

import actors
import daemon
import storage
from actors.recovery import open_pair
from actors.spec import EngineSpec
from daemon.control_server import ControlServer
from daemon.lock import holder
from market.errors import UsageError
from market.pairs import Pair
from tests.support import eventually

ROOT = Path(__file__).parents[2]
MARKETD = Path(sys.executable).with_name("marketd")
CONFIG = '[[pairs]]\nexchange = "binance"\nmarket = "spot"\nsymbols = ["BTCUSDT"]\n'
BTC = "binance:spot:BTCUSDT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def marketd(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MARKETD")}
    command = [str(MARKETD), *arguments]
    return subprocess.run(
        command, cwd=folder, env=env | environment, capture_output=True, text=True, check=False, timeout=60
    )


async def aside(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(marketd, folder, *arguments)


REPORT = {"pair": BTC, "last_price": 1.5, "sinks": {"redis": {"lag": 3}}, "state": "live"}


@asynccontextmanager
async def answering(folder: Path) -> AsyncIterator[None]:
    """A daemon's socket with a daemon's answers."""

    async def status() -> Mapping[str, Any]:
        return {"pid": 1, "data_dir": str(folder / "data"), "uptime_s": 3.2, "pairs": [REPORT]}

    async def query(pair: str, sql: str, fmt: str, out: str) -> Mapping[str, Any]:
        if sql == "bad":
            raise UsageError("Parser Error: bad\nLINE 1: bad")
        await asyncio.to_thread(Path(out).write_bytes, f"{pair}|{sql}|{fmt}\n".encode() + b"\x00\xff")
        return {}

    async def verify(pair: str) -> Mapping[str, Any]:
        return {"claims": [("seq contiguous", True, ""), ("candles", pair == BTC, "3 differ")]}

    server = ControlServer(
        folder / "data/run/control.sock", {"status": status, "query": query, "verify": verify}
    )
    await server.start()
    try:
        yield
    finally:
        await server.stop()


@pytest.mark.parametrize("module", [daemon, actors, storage])
def test_the_packages_are_ours(module: Any) -> None:
    assert Path(module.__file__).parents[1] == ROOT


@pytest.mark.parametrize("module", ["daemon", "actors", "storage"])
def test_the_commands_packages_are_ours_wherever_it_is_called(folder: Path, module: str) -> None:
    (folder / f"{module}.py").write_text("raise SystemExit('not ours')", encoding="utf-8")
    assert marketd(folder, "status").stderr == f"marketd: no daemon is running on {folder}/data\n"


def test_help_names_every_command_of_the_contract(folder: Path) -> None:
    told = marketd(folder, "--help").stdout
    listed = {one.split()[0] for one in told.partition("Commands:")[2].splitlines() if one}
    contract = {"run", "demo", "check", "status", "query", "verify", "replay", "similar"}
    assert listed == contract | {"ray-head", "record", "resync"}
    for command in listed:
        assert "--config" in marketd(folder, command, "--help").stdout


@pytest.mark.parametrize("told", ["1600-01-01", "2300-01-01T00:00:00Z"])
@pytest.mark.parametrize(
    "arguments", [["resync", "questdb", "--from"], ["similar", "binance:spot:BTCUSDT", "--at"]]
)
def test_a_time_beyond_64_bits_is_the_users_mistake(folder: Path, arguments: list[str], told: str) -> None:
    ended = marketd(folder, *arguments, told)
    assert ended.returncode == 2
    assert (
        ended.stderr
        == f"marketd: {arguments[-1]} '{told}': expected a time between the years 1678 and 2261\n"
    )


def test_the_version(folder: Path) -> None:
    assert marketd(folder, "--version").stdout.startswith("marketd 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["status"]])
def test_heavy_libraries_are_not_loaded_to_answer(folder: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from daemon.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    heavy = {"ray", "duckdb", "numpy", "redis", "asyncio", "structlog", "aiohttp", "rich", "psutil"}
    assert heavy & set(ended.stderr.split()) == set()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status"], 3, "marketd: no daemon is running on {folder}/data\n"),
        (["run", "--config", "nope"], 2, "marketd: nope: no such file or directory\n"),
        (
            ["status", "--config", "bad.toml"],
            2,
            "marketd: bad.toml: x: unknown key (known: data_dir, pairs, ",
        ),
        (["query", "what", "select 1"], 2, "marketd: pair 'what': expected exchange:market:SYMBOL\n"),
        (
            ["replay", "config.toml", "--speed", "-1"],
            2,
            "marketd: --speed '-1': expected a positive number or max\n",
        ),
        (
            ["replay", "config.toml", "--speed", "nan"],
            2,
            "marketd: --speed 'nan': expected a positive number or",
        ),
        (["replay", "absent.csv"], 2, "Usage: marketd replay"),
        (["demo", "--pairs", "0"], 2, "Usage: marketd demo"),
        (["query", BTC, "select 1", "--format", "xml"], 2, "Usage: marketd query"),
        (["bogus"], 2, "Usage: marketd"),
    ],
)
def test_exit_codes(folder: Path, arguments: list[str], code: int, message: str) -> None:
    (folder / "bad.toml").write_text("x = 1\n" + CONFIG, encoding="utf-8")
    ended = marketd(folder, *arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith(message.format(folder=folder))
    assert "Traceback" not in ended.stderr
    assert not ended.stderr.startswith("marketd:") or ended.stderr.count("\n") == 1


def test_a_check_that_fails_says_so_line_by_line(folder: Path) -> None:
    ended = marketd(
        folder,
        "check",
        MARKETD__EXCHANGES__BINANCE__REST_URL="http://127.0.0.1:1",
        MARKETD__REDIS__ENABLED="false",
    )
    assert ended.returncode == 1
    verdicts = [(one[:4], one[5:].partition(":")[0]) for one in ended.stdout.splitlines()]
    assert verdicts[0] == ("ok  ", "configuration")
    assert ("FAIL", "binance spot") in verdicts


async def test_status_of_a_running_daemon(folder: Path) -> None:
    async with answering(folder):
        text = (await aside(folder, "status")).stdout.splitlines()
        as_json = json.loads((await aside(folder, "status", "--json")).stdout)
    assert text[0] == f"marketd (pid 1) on {folder}/data, up 3 s"
    assert text[1].startswith(f"{BTC} last=1.5 ")
    assert text[1].endswith("lag.redis=3 note=live")
    assert as_json["pairs"] == [REPORT]


async def test_query_goes_through_the_running_daemon(folder: Path) -> None:
    async with answering(folder):
        process = await asyncio.create_subprocess_exec(
            MARKETD, "query", "binance/spot/btcusdt", "select 1", "--format", "csv",
            cwd=folder, stdout=subprocess.PIPE,
        )  # fmt: skip
        answer, _ = await process.communicate()
        refused = await aside(folder, "query", BTC, "bad")
    assert answer == f"{BTC}|select 1|csv\n".encode() + b"\x00\xff"
    assert (refused.returncode, refused.stderr) == (2, "marketd: Parser Error: bad LINE 1: bad\n")


async def test_verify_fails_if_one_claim_does(folder: Path) -> None:
    async with answering(folder):
        proven = await aside(folder, "verify", BTC)
        broken = await aside(folder, "verify", "binance:spot:OTHER")
    assert (proven.returncode, broken.returncode) == (0, 1)
    assert broken.stdout == "ok   seq contiguous\nFAIL candles: 3 differ\n"


async def test_ctrl_c_ends_a_command_without_traceback(folder: Path) -> None:
    asked = asyncio.Event()

    async def status() -> Mapping[str, Any]:
        asked.set()
        await asyncio.sleep(60)
        return {}

    server = ControlServer(folder / "data/run/control.sock", {"status": status})
    await server.start()
    process = await asyncio.create_subprocess_exec(MARKETD, "status", cwd=folder, stderr=subprocess.PIPE)
    await asked.wait()
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    await server.stop()
    assert (process.returncode, said) == (130, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_long_question_without_a_daemon_without_traceback(
    folder: Path, number: signal.Signals
) -> None:
    with closing(open_pair(folder / "data/binance/spot/BTCUSDT", Pair.parse(BTC), EngineSpec())):
        pass
    endless = "SELECT count(*) FROM range(100000000000) t(i) WHERE hash(i) % 7 = 3"
    process = await asyncio.create_subprocess_exec(
        MARKETD, "query", BTC, endless, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    spent = psutil.Process(process.pid).cpu_times
    await eventually(lambda: holder(folder / "data") == process.pid and spent().user > 2.0, 60.0)
    process.send_signal(number)
    assert await process.communicate() == (b"", b"")
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_has_begun_ends_it_without_a_word(number: signal.Signals) -> None:
    code = (
        "import os, sys\n"
        "class Signal:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'typer': os.kill(os.getpid(), {int(number)})\n"  # while it is being imported
        "sys.meta_path.insert(0, Signal()); sys.argv = ['marketd', 'run']\n"
        "from daemon.entry import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
