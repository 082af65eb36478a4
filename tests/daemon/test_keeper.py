from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from daemon import keeper
from daemon.keeper import Keeper
from market.errors import Unreachable
from tests.support import eventually


class Server:
    """A server in this process: what is asked of it, and on which thread."""

    def __init__(self) -> None:
        self.up = False
        self.fault: Exception | None = None
        self.starts = 0
        self.threads: set[int] = set()

    def alive(self) -> bool:
        return self.up

    def start(self) -> str:
        self.threads.add(threading.get_ident())
        self.starts += 1
        if self.fault:
            raise self.fault
        self.up = True
        return f"server://{self.starts}"

    def stop(self) -> None:
        self.up = False


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def kept(server: Server, told: list[str]) -> Iterator[Keeper]:
    kept = Keeper("redis", server, told.append)
    yield kept
    kept.stop()


async def test_it_starts_on_a_thread_of_its_own_and_again_when_it_dies(
    kept: Keeper, server: Server, told: list[str]
) -> None:
    kept.start().result()
    kept.look(well=True)
    server.up = False
    kept.look(well=True)
    await eventually(lambda: server.up)
    assert told == ["server://1", "server://2"]
    assert kept.restarts == 1
    assert len(server.threads) == 1
    assert threading.get_ident() not in server.threads


@pytest.mark.parametrize("fault", [Unreachable("no Java"), OSError(28, "No space left on device")])
async def test_one_that_cannot_start_is_told_and_tried_again(
    kept: Keeper, server: Server, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.0)
    server.fault = fault
    kept.start()

    async def is_told() -> bool:
        kept.look(well=True)
        return kept.error == str(fault)

    await eventually(is_told)
    server.fault = None

    async def is_up() -> bool:
        kept.look(well=True)
        return server.up and not kept.error

    await eventually(is_up)


async def test_one_whose_user_gets_nothing_done_is_started_anew(
    kept: Keeper, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SILENT_S", 0.05)
    kept.start().result()

    async def again() -> bool:
        kept.look(well=False)
        return server.starts > 1

    await eventually(again)
    assert kept.restarts == 1
