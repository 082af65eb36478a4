"""Against the real Ray, driven from a process of its own: what a process attached once, it never forgets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from daemon import orphans
from daemon.ray_head import MAX_TEMP_DIR_BYTES, RayHead, attach, temp_dir
from daemon.settings import RaySettings
from market.errors import Unreachable, UsageError
from tests.support import eventually

ROOT = Path(__file__).parents[2]
DRIVER = """
import json, os, sys, signal, threading
from daemon.ray_head import PAIR_RESOURCE, attach, detach
address, environment = json.loads(sys.stdin.readline())
attach(address, environment)
import ray

class Probe:
    async def look(self):
        import actors
        from actors.priority import Place, take
        out = {"actors": actors.__file__, "run_dir": os.environ["MARKETD_RUN_DIR"], "pid": os.getpid()}
        out["below"] = sys._current_frames()[threading.main_thread().ident].f_code.co_name
        out["alarm"] = signal.getsignal(signal.SIGALRM).__qualname__
        out["nice"] = [os.getpriority(os.PRIO_PROCESS, 0)]
        take(Place.USUAL)
        out["nice"].append(os.getpriority(os.PRIO_PROCESS, 0))
        return out

probe = ray.remote(num_cpus=0, resources={PAIR_RESOURCE: 1})(Probe).remote()
found = ray.get(probe.look.remote(), timeout=60)
found["resources"] = ray.cluster_resources()
print(json.dumps(found), flush=True)
sys.stdin.readline()
detach()
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's own to be in it."""
    folder = Path(f"/var/tmp/mt{os.getpid()}")
    folder.mkdir()
    yield folder
    for pid in orphans.find(folder):
        os.kill(pid, 9)
    subprocess.run(["rm", "-rf", folder], check=True)


@contextmanager
def running(run_dir: Path, settings: RaySettings | None = None, pairs: int = 7) -> Iterator[RayHead]:
    run_dir.mkdir(parents=True, exist_ok=True)
    head = RayHead(run_dir, settings or RaySettings(dashboard=False), pairs)
    head.start()
    try:
        yield head
    finally:
        head.stop()


@contextmanager
def driving(head: RayHead, cwd: Path) -> Iterator[dict[str, Any]]:
    """Attach another process, with one actor, and say what that actor sees."""
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", DRIVER],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(json.dumps([head.address, head.environment]) + "\n")
        driver.stdin.flush()
        found = driver.stdout.readline()
        assert found, "the driver failed"
        yield json.loads(found)
        driver.stdin.close()
        assert driver.wait() == 0


def raylet(run_dir: Path) -> psutil.Process:
    processes = [psutil.Process(pid) for pid in orphans.find(run_dir)]
    (one,) = [p for p in processes if p.name() == "raylet"]
    return one


def test_a_worker_rests_in_rays_loop_and_nowhere_else() -> None:
    script = """
import signal, time
slept = []
time.sleep = slept.append
import daemon.ray_worker

def main_loop():
    signal.raise_signal(signal.SIGALRM)

def work():
    signal.raise_signal(signal.SIGALRM)

work()
print(slept == [])
main_loop()
print(slept == [daemon.ray_worker.REST_S])
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True)
    assert run.stdout.split() == ["True", "True"]


def test_a_head_serves_actors_of_ours_on_loopback_only_and_leaves_nothing(
    short: Path, tmp_path: Path
) -> None:
    for module in ("actors", "daemon", "storage"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not ours')", encoding="utf-8")
    with running(short) as head:
        assert head.poll() is None
        with driving(head, cwd=tmp_path) as found:
            assert Path(found["actors"]).parents[1] == ROOT
            assert found["run_dir"] == str(short)
            assert (found["below"], found["alarm"]) == ("main_loop", "_rest")  # so that a rest is one
            usual = os.getpriority(os.PRIO_PROCESS, 0)
            assert found["nice"] == [usual - 10 if os.geteuid() == 0 else usual, usual]
            assert found["resources"]["marketd_pair"] == 7
            assert "CPU" not in found["resources"]
            family = orphans.find(short)
            assert found["pid"] in family
            open_to = {
                connection.laddr.ip.removeprefix("::ffff:")
                for pid in family
                for connection in psutil.Process(pid).net_connections()
                if connection.status == psutil.CONN_LISTEN
            }
            assert open_to <= {"127.0.0.1", "::1"}
            assert (short / "ray").stat().st_mode & 0o777 == 0o700
            assert (short / "ray-token").stat().st_mode & 0o777 == 0o600
        began_s = time.monotonic()
        head.stop()
        assert time.monotonic() - began_s < 10
        assert orphans.find(short) == []
        assert head.poll() is None


async def test_a_dead_raylet_is_noticed_and_the_head_can_begin_anew(short: Path) -> None:
    with running(short) as head:
        raylet(short).kill()
        await eventually(lambda: head.poll() is not None)
        head.stop()
        assert orphans.find(short) == []
        head.start()
        assert head.poll() is None
        assert len(list((short / "ray" / "r").glob("session_2*"))) == 1  # the old one's files are gone


def test_heads_that_start_at_once_share_no_port() -> None:
    settings, both_up = RaySettings(dashboard=True), threading.Barrier(2, timeout=90)

    def live(run_dir: Path) -> tuple[int, int]:
        head = RayHead(run_dir, settings, 1)
        try:
            head.start()
            both_up.wait()
            assert head.poll() is None
            return head.dashboard_port, head.metrics_port
        finally:
            head.stop()

    with (
        TemporaryDirectory(dir="/var/tmp") as a,
        TemporaryDirectory(dir="/var/tmp") as b,
        ThreadPoolExecutor() as threads,
    ):
        ports = list(threads.map(live, (Path(a), Path(b))))
    assert len({port for pair in ports for port in pair}) == 4


def test_two_heads_at_once(short: Path, tmp_path: Path) -> None:
    far = tmp_path / "a-folder-with-a-path-too-long-for-the-sockets-of-ray" / "run"
    with running(short) as one, running(far) as other:
        assert one.address != other.address
        with driving(one, tmp_path) as a, driving(other, tmp_path) as b:
            assert (a["run_dir"], b["run_dir"]) == (str(short), str(far))
            assert a["pid"] in orphans.find(short)
            assert b["pid"] in orphans.find(far)
        one.stop()
        assert other.poll() is None
        assert (far / "ray").resolve().parent == Path(f"/var/tmp/marketd-{os.getuid()}")
    subprocess.run(["rm", "-rf", (far / "ray").resolve()], check=True)


async def test_it_dies_with_a_daemon_that_is_killed_and_the_rest_is_found(short: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from daemon.ray_head import RayHead\n"
        "from daemon.settings import RaySettings\n"
        "RayHead(Path(sys.argv[1]), RaySettings(dashboard=False), 1).start()\n"
        "print('up', flush=True); input()"
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, short, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert killed.stdout is not None
    assert await killed.stdout.readline() == b"up\n"
    main = raylet(short)
    family = [psutil.Process(pid) for pid in orphans.find(short)]
    assert len(family) >= 5
    killed.kill()
    await killed.wait()
    await eventually(lambda: not _alive(main))
    orphans.kill(short)
    assert not any(_alive(process) for process in family)


def test_what_it_said_is_told_if_it_does_not_start(short: Path) -> None:
    head = RayHead(short, RaySettings(dashboard=False), -1)
    with pytest.raises(Unreachable, match=r"^Ray's head did not start: .*must be nonnegative"):
        head.start()
    assert orphans.find(short) == []


def test_ports_that_somebody_has_are_replaced(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(short, RaySettings(dashboard_port=port, metrics_port=port)) as head:
            assert head.dashboard_port != port
            token = (short / "ray-token").read_text()
            for path in (f"{head.dashboard_port}/api/version", f"{head.metrics_port}/metrics"):
                headers = {"Authorization": f"Bearer {token}"}
                asked = urllib.request.Request(f"http://127.0.0.1:{path}", headers=headers)
                with urllib.request.urlopen(asked) as answer:  # noqa: S310 - loopback
                    assert answer.status == 200


def test_a_cluster_that_is_gone_is_told_at_once(tmp_path: Path) -> None:
    head = RayHead(tmp_path, RaySettings(address="127.0.0.1:1"), 1)
    assert head.environment == orphans.environment(tmp_path)  # a cluster's own settings and token are its own
    with pytest.raises(Unreachable, match=r"^Ray at 127.0.0.1:1: connection refused$"):
        attach("127.0.0.1:1", head.environment)


def test_where_rays_folder_is() -> None:
    assert temp_dir(Path("/var/lib/marketd/data/run")) == Path("/var/lib/marketd/data/run/ray")
    far = Path("/home/somebody/with/a/long/path/data/run")
    default, wanted = temp_dir(far), temp_dir(far, "/mnt/fast")
    assert default.parent == Path(f"/var/tmp/marketd-{os.getuid()}")
    assert wanted.parent == Path("/mnt/fast")
    assert temp_dir(far / "other").name != default.name
    assert all(len(bytes(path)) <= MAX_TEMP_DIR_BYTES for path in (default, wanted))
    with pytest.raises(UsageError, match=r"^ray.temp_dir /a{40}: longer than the 27 bytes that Ray can use$"):
        temp_dir(far, "/" + "a" * 40)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
