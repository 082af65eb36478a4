from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from market.errors import Unreachable
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_jar import SERVER, Jar, default_cache, obtain
from tests.support import eventually

NOBODY = Path("/nonexistent/java")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedQuestDB]:
    server = EmbeddedQuestDB(tmp_path_factory.mktemp("questdb") / "a b")
    server.start()
    yield server
    server.stop()


def test_answers_sql_and_shows_its_console(server: EmbeddedQuestDB) -> None:
    assert server.start() == server.url  # a second start leaves it as it is
    assert server.url == f"http::addr={server.console.removeprefix('http://')};"
    QuestDB(server.url).ping()
    with urlopen(f"{server.console}/index.html", timeout=5) as page:  # noqa: S310 - of our own server
        assert b"QuestDB" in page.read()


def test_listens_on_loopback_only(server: EmbeddedQuestDB) -> None:
    connections = psutil.Process(server.pid).net_connections()
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    assert len({one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}) == 3


def test_its_data_is_for_its_user_only(server: EmbeddedQuestDB) -> None:
    assert server._folder.stat().st_mode & 0o077 == 0


def test_settings_of_another_server_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDB_HTTP_BIND_TO", "0.0.0.0:9000")
    monkeypatch.setenv("QDB_HTTP_USER", "somebody")
    another = EmbeddedQuestDB(tmp_path)
    QuestDB(another.start()).prepare()
    connections = psutil.Process(another.pid).net_connections()
    assert not {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN} & {9000, 8812}
    another.stop()
    assert not another.alive()
    another.stop()


async def test_after_a_kill_it_comes_back_where_it_was_with_its_data(server: EmbeddedQuestDB) -> None:
    QuestDB(server.url).prepare()
    url = server.url
    os.kill(server.pid or 0, signal.SIGKILL)
    await eventually(lambda: not server.alive())
    assert server.start() == url
    assert QuestDB(url).health().rows["trades"] == 0


def test_a_port_that_was_taken_meanwhile_is_given_up(server: EmbeddedQuestDB) -> None:
    before = server.url
    server.stop()
    with socket.create_server(("127.0.0.1", int(before.rstrip(";").rpartition(":")[2]))):
        assert server.start() != before
    QuestDB(server.url).ping()


def test_two_servers_do_not_share_a_folder(server: EmbeddedQuestDB) -> None:
    with pytest.raises(Unreachable, match="cannot lock"):
        EmbeddedQuestDB(server._folder).start()
    QuestDB(server.url).ping()


async def test_dies_with_its_parent(tmp_path: Path) -> None:
    pid = _server_of_a_killed_parent(tmp_path)
    await eventually(lambda: _gone(pid))


def _server_of_a_killed_parent(folder: Path) -> int:
    code = (
        "import sys, time, pathlib; from storage.embedded_questdb import EmbeddedQuestDB\n"
        "server = EmbeddedQuestDB(pathlib.Path(sys.argv[1])); server.start()\n"
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


def test_the_jar_comes_once_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    path = obtain(SERVER, tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    first = path.stat().st_mtime_ns
    assert obtain(SERVER, tmp_path).stat().st_mtime_ns == first
    with path.open("r+b") as jar:
        jar.seek(1_000_000)
        jar.write(b"damage")
    assert obtain(SERVER, tmp_path) == path
    with path.open("rb") as jar:
        jar.seek(1_000_000)
        assert jar.read(6) != b"damage"


def test_a_jar_that_is_another_is_not_run(tmp_path: Path) -> None:
    wrong = Jar(SERVER.version, "0" * 64)
    with pytest.raises(Unreachable, match=f"{wrong.name} has sha256 {SERVER.sha256}, expected 000"):
        EmbeddedQuestDB(tmp_path / "data", tmp_path / "cache", jar=wrong).start()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_jar_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nobody)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unreachable, match=SERVER.name) as caught:
        EmbeddedQuestDB(tmp_path / "data", tmp_path / "cache").start()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_release_that_nobody_publishes_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"does not give questdb-0\.0\.0\.jar"):
        obtain(Jar("0.0.0", ""), tmp_path)


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "marketd"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, as its specification says
    assert default_cache() == Path.home() / ".cache/marketd"


def test_a_start_that_fails_names_the_cause(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=str(NOBODY)):
        EmbeddedQuestDB(tmp_path, java=NOBODY).start()
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match="file"):
        EmbeddedQuestDB(tmp_path / "file").start()
    with pytest.raises(Unreachable, match="file"):
        EmbeddedQuestDB(tmp_path / "data", tmp_path / "file" / "cache").start()
