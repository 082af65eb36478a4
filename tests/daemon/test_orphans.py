from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import orphans
from tests.support import eventually

FAMILY = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("up", flush=True)
sys.stdin.read()
"""
RAY_LIKE = """
import os, sys
os.set_inheritable(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), True)
os.execve("/bin/sleep", [sys.argv[2], "60"], {})
"""


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def test_children_of_a_dead_daemon_are_killed_with_their_children(tmp_path: Path) -> None:
    with start(FAMILY, **orphans.environment(tmp_path)) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        await eventually(lambda: len(orphans.find(tmp_path)) == 2)
        assert orphans.kill(tmp_path) == 2
        assert orphans.find(tmp_path) == []
        assert parent.wait() == -9


async def test_other_folders_processes_live_on(tmp_path: Path) -> None:
    with start("input()", **orphans.environment(tmp_path / "data2")) as other:
        await eventually(lambda: orphans.find(tmp_path / "data2"))
        assert orphans.kill(tmp_path / "data") == 0
        assert other.poll() is None
        other.kill()


def test_itself_and_its_ancestors_are_spared(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; from pathlib import Path; from daemon import orphans\n"
        "print(orphans.kill(Path(sys.argv[1])))"
    )
    nested = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}, sys.argv[1]], check=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", nested, str(tmp_path)],
        env=os.environ | orphans.environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "0\n"


@pytest.mark.parametrize("title", ["ray::PairActor", "ray-dashboard-NodeHead-0"])
async def test_a_ray_process_that_wiped_its_environment_is_known_by_its_files(
    tmp_path: Path, title: str
) -> None:
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run_dir.mkdir()
    elsewhere.mkdir()
    (run_dir / "ray").symlink_to(elsewhere)
    with (
        start(RAY_LIKE, str(elsewhere / "worker.log"), title) as worker,
        start(RAY_LIKE, str(tmp_path / "x.log"), title) as other,
    ):
        await eventually(lambda: orphans.find(run_dir) == [worker.pid])
        assert orphans.kill(run_dir) == 1
        assert worker.wait() == -9
        assert other.poll() is None
        other.kill()
