from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daemon import control_server
from daemon.control import NoDaemon, call
from daemon.control_server import ControlServer
from market.errors import BadFrame, Fatal, RateLimited, Retryable, UsageError


async def echo(**params: Any) -> Mapping[str, Any]:
    return params


async def fail(kind: str) -> Mapping[str, Any]:
    errors: dict[str, Exception] = {
        "usage": UsageError("no such pair"),
        "limited": RateLimited("slow down", 3.0),
        "frame": BadFrame("what is that", b"x"),
        "bug": KeyError("x"),
    }
    raise errors[kind]


async def long() -> Mapping[str, Any]:
    await asyncio.sleep(60)
    return {}


async def large(size: int) -> Mapping[str, Any]:
    return {"bytes": bytes(size)}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, {"echo": echo, "fail": fail, "long": long, "large": large})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(path: Path, method: str, timeout_s: float = 30.0, **params: Any) -> dict[str, Any]:
    return await asyncio.to_thread(call, path, method, timeout_s, **params)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "run" / "control.sock"


async def test_a_request_is_answered(path: Path) -> None:
    params: dict[str, Any] = {
        "text": "Ω",
        "number": 2**60,
        "float": 0.1,
        "list": [1, None],
        "bytes": b"\x00\xff",
    }
    async with serving(path):
        assert await ask(path, "echo", **params) == params
        assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_many_at_once_do_not_wait_for_a_long_one(path: Path) -> None:
    async with serving(path):
        slow = asyncio.create_task(ask(path, "long"))
        answers = await asyncio.gather(*(ask(path, "echo", n=n) for n in range(20)))
        assert [a["n"] for a in answers] == list(range(20))
    with pytest.raises(
        Fatal, match="does not answer: it closed the connection"
    ):  # `stop` drops who still waits
        await slow


async def test_nobody_works_on_for_a_client_that_went_away(path: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> Mapping[str, Any]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    server = ControlServer(path, {"work": work})
    await server.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        request = msgspec.msgpack.encode({"method": "work", "params": {}})
        client.sendall(len(request).to_bytes(4, "big") + request)
        await began.wait()
    async with asyncio.timeout(10):
        await ended.wait()
    await server.stop()
    assert ended.is_set()


async def test_it_works_from_another_process_without_asyncio(path: Path) -> None:
    code = (
        "import sys, json; from pathlib import Path; from daemon.control import call\n"
        "answer = call(Path(sys.argv[1]), 'echo', x=1)\n"
        "print(json.dumps([answer, 'asyncio' in sys.modules, 'rich' in sys.modules]))"
    )
    async with serving(path):
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, str(path)], capture_output=True, check=True
        )
    assert json.loads(ended.stdout) == [{"x": 1}, False, False]


async def test_a_path_longer_than_a_sockets(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "run" / "control.sock"
    assert len(bytes(path)) > 107
    async with serving(path):
        assert await ask(path, "echo", x=1) == {"x": 1}


def test_no_daemon(path: Path) -> None:
    with pytest.raises(NoDaemon, match=f"^no daemon is running on {path.parent.parent}$"):
        call(path, "echo")


async def test_the_socket_of_a_dead_daemon(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NoDaemon):
        call(path, "echo")
    async with serving(path):
        assert await ask(path, "echo", x=1) == {"x": 1}
    assert await asyncio.to_thread(path.exists) is False


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ("usage", UsageError, "no such pair"),
        ("limited", Retryable, "slow down"),
        ("bug", Fatal, "KeyError: 'x'"),
    ],
)
async def test_errors_travel_by_their_class(
    path: Path, asked: str, kind: type[Exception], message: str
) -> None:
    async with serving(path):
        with pytest.raises(kind) as caught:
            await ask(path, "fail", kind=asked)
    assert type(caught.value) is kind
    assert str(caught.value) == message


async def test_an_unknown_method_and_wrong_params_are_told(path: Path) -> None:
    async with serving(path):
        with pytest.raises(Fatal, match=r"^the running daemon does not know 'dance'$"):
            await ask(path, "dance")
        with pytest.raises(Fatal, match="TypeError"):
            await ask(path, "fail", what=1)


async def test_sizes_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "MAX_REPLY", 3 << 20)
    async with serving(path):
        assert len((await ask(path, "large", size=2 << 20))["bytes"]) == 2 << 20
        with pytest.raises(UsageError, match=r"^the answer is larger than 3 MiB$"):
            await ask(path, "large", size=4 << 20)
        with pytest.raises(Fatal):
            await ask(path, "echo", text="x" * control_server.MAX_REQUEST)


@pytest.mark.parametrize(
    "junk", [b"", b"\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\xc1\xc1", b"GET / HTTP/1.1\r\n"]
)
async def test_junk_does_not_stop_it(path: Path, junk: bytes) -> None:
    async with serving(path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(junk)
        assert await ask(path, "echo", x=1) == {"x": 1}


async def test_a_daemon_that_hangs_is_given_up(path: Path) -> None:
    async with serving(path):
        with pytest.raises(Fatal, match="does not answer: timed out"):
            await ask(path, "long", timeout_s=0.1)
