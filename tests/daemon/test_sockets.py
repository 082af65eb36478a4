"""Who can reach a running daemon, and where its passwords are: nobody from outside, and nowhere."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import os
import signal
import socket
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from storage import embedded_redis
from storage.children import die_with_parent
from storage.embedded_questdb import EmbeddedQuestDB
from tests.daemon.support import MARKETD, Daemon, alive, daemon, descendants, environment, exchange, seen
from tests.daemon.tls_support import certificate, encrypted
from tests.support import eventually

pytestmark = pytest.mark.timeout(400)

BTC = "BTCUSDT"
STREAM = f"stream:state_update:binance:spot:{BTC}"
SECRETS = {"redis": "planted-Redis-8f14e45f", "questdb": "planted-QuestDB-c9f0f895"}
EMBEDDED = "[embeddings]\nenabled = false\n"
READER = "for-subscribers"
DASHBOARD = {"MARKETD__RAY__DASHBOARD": "true"}
START_S = 120.0
SETTLE_S = 90.0
SECURITY = Path(__file__).parents[2] / "docs/security.md"


def start(made: Daemon, **variables: str) -> None:
    with made.log.open("ab") as log:
        made.process = subprocess.Popen(
            [str(MARKETD), "run"], cwd=made.folder, env=environment() | variables, stdout=log, stderr=log
        )


def family(made: Daemon) -> list[psutil.Process]:
    return [one for one in [psutil.Process(made.pid), *descendants(made.pid)] if alive(one)]


async def connected(made: Daemon, *sinks: str) -> None:
    async def all_acked() -> object:
        pairs = await made.pairs()
        return pairs and all(pairs[BTC].get("sinks", {}).get(sink, {}).get("acked") for sink in sinks)

    await eventually(all_acked, SETTLE_S)


def is_private(path: Path, made: Daemon) -> bool:
    """Tell whether a folder of the daemon's above it keeps everybody else out."""
    above = [folder for folder in path.parents if folder not in {made.folder, *made.folder.parents}]
    stats = [folder.stat() for folder in above]
    return any((stat.S_IMODE(one.st_mode), one.st_uid) == (0o700, os.getuid()) for one in stats)


def places(name: str, made: Daemon) -> list[Path]:
    """Find a Unix socket; one bound through an opened folder is known to the kernel by that."""
    return list(made.data.rglob(Path(name).name)) if name.startswith("/proc/") else [Path(name)]


def is_closed(name: str, made: Daemon) -> bool:
    """Tell whether no stranger can connect to a Unix socket; an abstract one may be the mark of a port."""
    if not name.startswith("@"):
        found = places(name, made)
        return bool(found) and all(is_private(path, made) for path in found)
    with socket.socket(socket.AF_UNIX) as stranger:
        return stranger.connect_ex("\0" + name[1:]) == errno.ECONNREFUSED


def connections(process: psutil.Process) -> list[Any]:
    try:
        return list(process.net_connections(kind="all"))
    except psutil.NoSuchProcess:  # since it was listed
        return []


def doors(process: psutil.Process, made: Daemon) -> Iterator[str]:
    """Name each socket of a process that others than the daemon's user could reach."""
    for one in connections(process):
        if not one.laddr or one.status not in {psutil.CONN_LISTEN, psutil.CONN_NONE}:
            continue
        if one.family == socket.AF_UNIX:
            if not is_closed(one.laddr, made):
                yield f"{seen(process, 'name')}: {one.laddr}"
        elif not ipaddress.ip_address(one.laddr.ip.removeprefix("::ffff:")).is_loopback:
            yield f"{seen(process, 'name')}: {one.laddr.ip}:{one.laddr.port}"


async def test_everything_listens_on_loopback_or_in_private_folders(tmp_path: Path) -> None:
    with exchange(BTC) as venue, daemon(tmp_path / "open", venue.urls, BTC, more=EMBEDDED) as made:
        start(made, **DASHBOARD)
        await made.streaming(timeout_s=START_S)
        await connected(made, "redis", "questdb.trades")
        processes = family(made)
        assert {"java", "raylet", "gcs_server"} <= {seen(one, "name") for one in processes}
        assert [door for one in processes for door in doors(one, made)] == []
        listening = [
            one for process in processes for one in connections(process) if one.status == psutil.CONN_LISTEN
        ]
        assert len(listening) > 5
        await made.stop(signal.SIGTERM)


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Redis with a user of marketd's and a QuestDB with a password, behind TLS; give the settings."""
    with ExitStack() as stack:
        root, cert = certificate(folder)
        port = stack.enter_context(encrypted(stack.enter_context(guarded_redis()), cert))
        quest = EmbeddedQuestDB(folder / "questdb")
        (folder / "questdb" / "conf").mkdir(parents=True)
        settings = f"http.user=marketd\nhttp.password={SECRETS['questdb']}\n"
        (folder / "questdb" / "conf" / "server.conf").write_text(settings)
        plain = quest.start()
        stack.callback(quest.stop)
        secure = stack.enter_context(encrypted(int(plain.rpartition(":")[2].rstrip(";")), cert))
        login = f"username=marketd;password={SECRETS['questdb']};tls_roots={root};"
        yield {
            "MARKETD__REDIS__URL": f"rediss://marketd:{SECRETS['redis']}@localhost:{port}?ssl_ca_certs={root}",
            "MARKETD__QUESTDB__URL": f"https::addr=localhost:{secure};{login}",
        }


@contextmanager
def guarded_redis() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    users = [line for line in SECURITY.read_text().splitlines() if line.startswith("user ")]
    config = "\n".join([f"port {port}", "bind 127.0.0.1", "save ''", *users]) + "\n"
    config = config.replace("PASSWORD", SECRETS["redis"]).replace("OTHER", READER)
    with subprocess.Popen(
        [str(embedded_redis._binary()), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, nothing that locks
    ) as server:
        assert server.stdin is not None
        server.stdin.write(config.encode())
        server.stdin.close()
        try:
            yield port
        finally:
            server.kill()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, dict[str, str]]]:
    """A daemon with both passwords in its environment."""
    folder = tmp_path_factory.mktemp("guarded")
    with (
        stores(folder) as variables,
        exchange(BTC) as venue,
        daemon(folder / "open", venue.urls, BTC, more=EMBEDDED) as made,
    ):
        start(made, **DASHBOARD, **variables)
        yield made, variables


def shown(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text]


async def test_passwords_go_to_the_stores_and_nowhere_else(guarded: tuple[Daemon, dict[str, str]]) -> None:
    made, variables = guarded
    await made.streaming(timeout_s=START_S)
    await connected(made, "redis", "questdb.trades")
    may_and_may_not(variables["MARKETD__REDIS__URL"])
    for command in (["status"], ["status", "--json"]):
        told = await made.ask(*command)
        assert (told.returncode, shown(told.stdout + told.stderr)) == (0, [])
    assert shown(made.log.read_text()) == []
    for process in family(made):
        assert shown(" ".join(seen(process, "cmdline"))) == []
    folders = {made.data, (made.data / "run/ray").resolve()}
    assert [path for folder in folders for path in folder.rglob("*") if holds_a_secret(path)] == []


def may_and_may_not(url: str) -> None:
    """Do as the two users of the document."""
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.flushall()
    with redis.Redis.from_url(url.replace(f"marketd:{SECRETS['redis']}", f"reader:{READER}")) as client:
        assert client.xread({STREAM: 0}, count=1)
        with client.pubsub() as listener:
            listener.subscribe("state_update")
            assert listener.get_message(timeout=5)
        for command in (("SET", "x", "1"), ("PUBLISH", "state_update", "forged")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


DETAILS = (
    "/logical/actors",
    "/api/v0/actors?detail=true",
    "/api/v0/workers?detail=true",
    "/nodes?view=summary",
)


@pytest.mark.parametrize("path", DETAILS)
async def test_ray_s_dashboard_tells_no_password_and_nothing_without_a_token(
    guarded: tuple[Daemon, dict[str, str]], path: str
) -> None:
    made, _ = guarded
    await made.streaming(timeout_s=START_S)
    url = (await made.status())["dashboard"] + path
    token = (made.data / "run/ray-token").read_text()
    text = await asyncio.to_thread(told, url, {"Authorization": f"Bearer {token}"})
    assert json.loads(text)
    assert shown(text) == []
    with pytest.raises(urllib.error.HTTPError, match="401"):
        await asyncio.to_thread(told, url, {})


async def test_what_the_daemon_starts_does_not_inherit_the_passwords(
    guarded: tuple[Daemon, dict[str, str]],
) -> None:
    made, _ = guarded
    await made.streaming(timeout_s=START_S)
    children = [one for one in family(made) if one.pid != made.pid]  # what a user gives it, it has
    assert [seen(one, "name") for one in children if shown(str(seen(one, "environ")))] == []


def told(url: str, headers: dict[str, str]) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:  # noqa: S310
        return str(answer.read().decode())


def holds_a_secret(path: Path) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return any(secret.encode() in content for secret in SECRETS.values())
