from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from market.errors import Unreachable
from storage.embedded_redis import EmbeddedRedis
from tests.support import eventually


@pytest.fixture
def server(tmp_path: Path) -> EmbeddedRedis:
    return EmbeddedRedis(tmp_path / "redis")


def test_answers_on_its_socket_with_the_promised_settings(server: EmbeddedRedis, tmp_path: Path) -> None:
    assert server.start() == server.url == f"unix://{tmp_path}/redis/redis.sock"
    with redis.Redis.from_url(server.url, protocol=2) as client:
        assert client.config_get("maxmemory*") == {
            **client.config_get("maxmemory*"),
            "maxmemory": str(256 * 1024 * 1024),
            "maxmemory-policy": "volatile-lru",
        }
        assert client.config_get("port") == {"port": "0"}
    assert stat.S_IMODE((tmp_path / "redis" / "redis.sock").stat().st_mode) == 0o700
    server.stop()
    assert not server.alive()


def test_starting_twice_keeps_the_server_and_stopping_twice_is_harmless(server: EmbeddedRedis) -> None:
    server.start()
    first = server.pid
    server.start()
    assert server.pid == first
    server.stop()
    server.stop()


async def test_starts_again_after_a_kill(server: EmbeddedRedis) -> None:
    server.start()
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    await eventually(lambda: not server.alive())
    url = server.start()
    with redis.Redis.from_url(url) as client:
        assert client.ping()
    server.stop()


def test_blanks_and_quotes_in_the_path(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / 'a "b" %41')
    with redis.Redis.from_url(server.start()) as client:
        assert client.ping()
    server.stop()


def test_a_path_too_long_for_a_socket_gets_a_guarded_loopback_port(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / ("long" * 25))
    url = server.start()
    assert url.startswith("redis://:")
    with redis.Redis.from_url(url, protocol=2) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
    stranger = redis.Redis.from_url("redis://" + url.partition("@")[2])
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    password = url.removeprefix("redis://:").partition("@")[0]
    assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    server.stop()
    assert server.start() == url  # whoever was told of it finds it again
    server.stop()


def test_a_start_that_fails_names_the_cause(tmp_path: Path) -> None:
    (tmp_path / "redis" / "redis.sock").mkdir(parents=True)  # where the socket should be
    with pytest.raises(Unreachable, match="Unix socket"):
        EmbeddedRedis(tmp_path / "redis").start()
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match="file"):
        EmbeddedRedis(tmp_path / "file").start()


async def test_dies_with_its_parent(tmp_path: Path) -> None:
    pid = _server_of_a_killed_parent(tmp_path)
    await eventually(lambda: _gone(pid))


def _server_of_a_killed_parent(folder: Path) -> int:
    code = (
        "import sys, time, pathlib; from storage.embedded_redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(pathlib.Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not _gone(pid)
        parent.kill()
    return pid


def _gone(pid: int) -> bool:
    cmdline = Path(f"/proc/{pid}/cmdline")
    return not cmdline.exists() or not cmdline.read_bytes()  # empty: a zombie that nobody reaps
