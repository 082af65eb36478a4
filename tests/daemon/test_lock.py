from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemon.lock import FolderLock, Held, holder
from market.errors import UsageError
from tests.support import eventually

OTHER = """
import sys; from pathlib import Path; from daemon.lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_daemon_is_told_who_has_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert holder(data) == other.pid
        with pytest.raises(UsageError) as caught:
            FolderLock(data).acquire()
        assert str(caught.value) == f"data_dir {data}: another marketd (pid {other.pid}) is running on it"
        other.kill()
    assert holder(data) is None  # a kill frees it
    with FolderLock(data):
        assert holder(data) == os.getpid()
    assert holder(data) is None


def test_who_can_wait_gets_the_folder_when_it_is_free(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    first.acquire()
    freed = threading.Timer(0.3, first.release)
    freed.start()
    with FolderLock(tmp_path, wait_s=30.0):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(Held):
            FolderLock(tmp_path, wait_s=0.1).acquire()
    freed.join()


def test_a_folder_stays_held_when_its_run_folder_is_removed(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(UsageError, match=r"another marketd is running on it$"):
            FolderLock(tmp_path).acquire()
    with FolderLock(tmp_path):
        assert holder(tmp_path) == os.getpid()


def test_the_run_folder_is_private_even_if_it_was_not(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with FolderLock(tmp_path):
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


async def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    child = await asyncio.create_subprocess_exec("sleep", "60", close_fds=False)
    lock.release()
    await eventually(lambda: holder(tmp_path) is None)  # the kernel closes its copy just after exec began
    assert child.returncode is None
    child.kill()
    await child.wait()


def test_a_folder_nobody_used_is_free(tmp_path: Path) -> None:
    assert holder(tmp_path / "nothing") is None


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=f"^data_dir {tmp_path}/file: not a directory$"):
        FolderLock(tmp_path / "file").acquire()
    with pytest.raises(UsageError, match=r"^data_dir /proc/nowhere: no such file or directory$"):
        FolderLock(Path("/proc/nowhere")).acquire()


def test_a_disk_that_takes_nothing_more_is_told(tmp_path: Path) -> None:
    limited = (
        "import resource, sys; from pathlib import Path; from daemon.lock import FolderLock\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"  # every write fails, as on a full disk
        "FolderLock(Path(sys.argv[1])).acquire()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert f"UsageError: data_dir {tmp_path}: file too large" in ended.stderr
