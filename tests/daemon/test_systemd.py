"""The units as systemd reads them, and the commands in them against a manager that the test plays."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.daemon.support import (
    ROOT,
    STOP_S,
    Daemon,
    Exchange,
    alive,
    called,
    complete,
    daemon,
    environment,
    exchange,
    left,
)
from tests.support import eventually

BTC, ETH = SYMBOLS = ("BTCUSDT", "ETHUSDT")
UNITS = ("marketd.service", "marketd-ray.service")
WATCHDOG_S = 5.0
MOST_EXPOSED = 2.5
START_S = 90.0

pytestmark = pytest.mark.timeout(300)  # as in test_service


def install(destdir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    given = [f"{name}={value}" for name, value in {"DESTDIR": str(destdir), **variables}.items()]
    command = ["make", "-s", "-C", str(ROOT), "install-systemd", *given]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything `make install-systemd` puts in place, beneath a folder."""
    folder = tmp_path_factory.mktemp("root")
    ended = install(folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def unit(installed: Path, name: str) -> dict[str, list[str]]:
    """Read a unit's settings, as often as each is there."""
    found: dict[str, list[str]] = {}
    for line in (installed / "etc/systemd/system" / name).read_text(encoding="utf-8").splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def test_systemd_finds_no_fault_in_the_units(installed: Path) -> None:
    verified = analyze("verify", *(installed / "etc/systemd/system" / name for name in UNITS))
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_hardly_exposed(installed: Path, name: str) -> None:
    judged = analyze("security", "--offline=true", "--no-pager", installed / "etc/systemd/system" / name)
    overall = re.search(rf"exposure level for {name}: ([0-9.]+)", judged.stdout)
    assert overall is not None, judged.stdout + judged.stderr
    assert float(overall[1]) <= MOST_EXPOSED, judged.stdout


def test_both_units_run_as_the_same_user_behind_the_same_walls(installed: Path) -> None:
    service, ray = (unit(installed, name) for name in UNITS)
    walls = [key for key in service if key.startswith(("Protect", "Private", "Restrict", "SystemCall"))]
    assert len(walls) > 15
    for key in ("User", "StateDirectory", "UMask", "CapabilityBoundingSet", "NoNewPrivileges", *walls):
        assert ray[key] == service[key], key


def test_a_drain_has_its_minute_before_systemd_kills(installed: Path) -> None:
    assert float(unit(installed, "marketd.service")["TimeoutStopSec"][0]) > STOP_S


def test_the_user_that_the_units_name_is_made(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path, dirs_exist_ok=True)
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", "marketd.conf"], check=True, capture_output=True
    )
    (line,) = [
        one for one in (tmp_path / "etc/passwd").read_text().splitlines() if one.startswith("marketd:")
    ]
    assert line.split(":")[5] == "/var/lib/marketd"
    for name in UNITS:
        assert unit(installed, name)["User"] == ["marketd"]
        assert unit(installed, name)["StateDirectory"] == ["marketd"]


def test_installing_again_keeps_the_configuration(tmp_path: Path) -> None:
    assert install(tmp_path).returncode == 0
    config = tmp_path / "etc/marketd/config.toml"
    assert 'data_dir = "/var/lib/marketd"' in config.read_text()
    config.write_text("# mine", encoding="utf-8")
    again = install(tmp_path, PREFIX="/opt/elsewhere")
    assert "kept as it was" in again.stdout
    assert config.read_text() == "# mine"
    assert unit(tmp_path, "marketd.service")["ExecStart"] == ["/opt/elsewhere/.venv/bin/marketd run"]


def test_a_path_that_a_unit_cannot_hold_is_refused(tmp_path: Path) -> None:
    refused = install(tmp_path, PREFIX="/opt/50% off")
    assert refused.returncode != 0
    assert "install-systemd: /opt/50% off: choose a path" in refused.stderr
    assert list(tmp_path.iterdir()) == []


class Service:
    """Play systemd for one unit: start its command as it is written, listen to what it tells."""

    def __init__(self, made: Daemon, settings: dict[str, list[str]]) -> None:
        self.told: list[dict[str, str]] = []
        self.process: Any = None
        self._made, self._command = made, shlex.split(settings["ExecStart"][0])
        name = f"{made.folder.name}-{self._command[-1]}-{os.getpid()}"
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(f"\0{name}")
        self._door.setblocking(False)
        self._environment = environment() | {
            "MARKETD_CONFIG": str(made.folder / "config.toml"),
            "NOTIFY_SOCKET": f"@{name}",
        }
        if "WatchdogSec" in settings:
            self._environment["WATCHDOG_USEC"] = str(int(WATCHDOG_S * 1e6))

    def start(self) -> None:
        with self._made.log.open("ab") as log:
            self.process = psutil.Popen(
                self._command, cwd=self._made.folder, env=self._environment, stdout=log, stderr=log
            )
        self.forget()

    def forget(self) -> None:
        self._hear()
        self.told.clear()

    async def tells(self, fact: str, text: str = "", timeout_s: float = START_S) -> dict[str, str]:
        """Wait for a fact, with a text in its value, said since `forget`; return what was told with it."""

        def found() -> dict[str, str] | None:
            self._hear()
            return next((one for one in self.told if fact in one and text in one[fact]), None)

        got = await eventually(found, timeout_s)
        assert isinstance(got, dict)
        return got

    def ended(self) -> int:
        return int(self.process.wait(STOP_S))

    def close(self) -> None:
        self._door.close()
        if (
            self.process is not None and self.process.poll() is None
        ):  # of a test that failed, or does not end it
            self.process.kill()
            self.process.wait(10)

    def _hear(self) -> None:
        while True:
            try:
                text = self._door.recv(65_536).decode()
            except BlockingIOError:
                return
            self.told.append(dict(line.split("=", 1) for line in text.splitlines()))


@pytest.fixture(scope="module")
def venue() -> Iterator[Exchange]:
    with exchange(*SYMBOLS) as made:
        yield made


@contextmanager
def services(folder: Path, installed: Path, venue: Exchange) -> Iterator[tuple[Daemon, Service, Service]]:
    """Give a data folder with its daemon's and its head's services; nothing is started yet."""
    with daemon(folder, venue.urls, *SYMBOLS) as made:
        run, ray = (Service(made, unit(installed, name)) for name in UNITS)
        try:
            yield made, run, ray
        finally:
            run.close()
            ray.close()
            made.kill()
            shutil.rmtree((made.data / "run/head/run/ray").resolve(), ignore_errors=True)


async def test_the_life_of_both_units(tmp_path: Path, installed: Path, venue: Exchange) -> None:
    with services(tmp_path / "life", installed, venue) as (made, run, ray):
        ray.start()
        assert (await ray.tells("READY"))["STATUS"].startswith("Ray at 127.0.0.1:")
        run.start()
        await run.tells("READY")
        pairs = await made.pairs()
        assert {one["state"] for one in pairs.values()} == {"streaming"}
        assert "READY" not in run.told[0]  # it was not said before it was true
        assert (await run.tells("STATUS", "2 streaming"))["WATCHDOG"] == "1"
        head = [one.pid for one in psutil.Process(ray.process.pid).children(recursive=True)]
        assert {one["pid"] for one in pairs.values()} <= set(head)  # they live in Ray's unit

        await hang(made, run, BTC)
        await kill_as_the_watchdog(made, run, ray)
        await lose_the_head(made, run, ray)
        await complete(made, venue, BTC)

        run.process.send_signal(signal.SIGTERM)
        await run.tells("STOPPING", timeout_s=STOP_S)
        assert run.ended() == 0, made.log.read_text()
        assert alive(ray.process)
        ray.process.send_signal(signal.SIGTERM)
        assert ray.ended() == 0, made.log.read_text()
        await ray.tells("STOPPING")
        await eventually(lambda: left(made.folder) == [])


async def hang(made: Daemon, run: Service, symbol: str) -> None:
    """Have a pair hang: the dog is fed no more, and again when the pair goes on."""
    pair = psutil.Process((await made.pairs())[symbol]["pid"])
    pair.suspend()
    try:
        assert "WATCHDOG" not in await run.tells("STATUS", f"stuck: binance:spot:{symbol} (no answer for")
        run.forget()
        assert "WATCHDOG" not in await run.tells("STATUS", "stuck")
    finally:
        pair.resume()
    run.forget()
    await run.tells("WATCHDOG")


async def kill_as_the_watchdog(made: Daemon, run: Service, ray: Service) -> None:
    """End the daemon as systemd ends one that hangs: Ray stays, the pairs end, a new daemon takes over."""
    before = {one["pid"] for one in (await made.pairs()).values()}
    address = (made.data / "run/head/run/ray-address").read_text()
    run.process.send_signal(signal.SIGABRT)
    assert run.ended() == -signal.SIGABRT
    run.start()
    await run.tells("READY")
    after = {one["pid"] for one in (await made.pairs()).values()}
    assert not before & after
    assert not any(psutil.pid_exists(pid) for pid in before)
    assert alive(ray.process)
    assert (made.data / "run/head/run/ray-address").read_text() == address


async def lose_the_head(made: Daemon, run: Service, ray: Service) -> None:
    """Kill what Ray cannot live without: its unit fails, is started again, and the daemon finds it."""
    (raylet,) = called(ray.process.pid, "raylet")
    raylet.kill()
    assert ray.ended() == 1
    assert left(made.data / "run/head") == []
    ray.start()
    await ray.tells("READY")
    await made.streaming(timeout_s=START_S)
    assert alive(run.process)
