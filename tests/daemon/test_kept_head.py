"""How the daemon finds a head that is kept for it; the head itself runs in test_systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from daemon.kept_head import ADDRESS, KeptHead
from daemon.lock import FolderLock
from market.errors import Unreachable
from tests.daemon.support import MARKETD, environment

CONFIG = '[[pairs]]\nexchange = "binance"\nmarket = "spot"\nsymbols = ["BTCUSDT"]\n'


def write_address(kept: KeptHead, text: str) -> None:
    kept.run_dir.mkdir(parents=True, exist_ok=True)
    (kept.run_dir / ADDRESS).write_text(text, encoding="ascii")


def ray_head(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return subprocess.run(
        [str(MARKETD), "ray-head"],
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_a_killed_keeper_wrote_is_no_head(tmp_path: Path) -> None:
    kept = KeptHead(tmp_path)
    assert not kept.is_held()
    write_address(kept, "127.0.0.1:1")
    assert kept.address() == ""
    with pytest.raises(Unreachable, match="does not answer"):
        kept.wait()


def test_a_head_is_there_when_its_keeper_has_said_where(tmp_path: Path) -> None:
    kept = KeptHead(tmp_path)
    with FolderLock(kept.folder):
        assert kept.is_held()
        assert kept.address() == ""
        write_address(kept, "127.0.0.1:4711")
        assert kept.wait() == "127.0.0.1:4711"
    assert kept.address() == ""
    with pytest.raises(Unreachable, match="does not answer"):
        kept.wait()


def test_a_head_that_was_there_is_not_waited_for(tmp_path: Path) -> None:
    kept = KeptHead(tmp_path)
    with FolderLock(kept.folder):
        write_address(kept, "127.0.0.1:4711")
        kept.wait()
        (kept.run_dir / ADDRESS).unlink()
        with pytest.raises(Unreachable, match="does not answer"):  # it is looked for again every second
            kept.wait()


def test_one_keeper_per_data_folder(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "data/run/head"):
        refused = ray_head(tmp_path)
    assert refused.returncode == 2
    assert f"another marketd (pid {os.getpid()}) is running on it" in refused.stderr


def test_no_head_beside_a_cluster(tmp_path: Path) -> None:
    refused = ray_head(tmp_path, MARKETD__RAY__ADDRESS="10.0.0.1:6379")
    assert refused.returncode == 2
    assert "ray.address: the daemon joins a cluster, a head here would be of no use" in refused.stderr
