"""A pair's turns: who has to wait, for how long, and who is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from feeds import turns as module
from feeds.turns import Turns
from feeds.venue import Rules

RULES = Rules(
    contiguous=True,
    pages_by_id=True,
    page_limit=1,
    connects=3,
    connects_per_s=60.0,
    weight=100,
    weight_per_s=60.0,
)


def turns(folder: Path | None, rest_url: str = "https://rest.example") -> Turns:
    return Turns(folder, "wss://ws.example:8443", rest_url, RULES)


async def waits(what: object) -> bool:
    """Tell whether something takes longer than a moment."""
    try:
        await asyncio.wait_for(what, 0.05)  # type: ignore[arg-type]
    except TimeoutError:
        return True
    return False


async def test_what_is_allowed_is_not_slowed_and_the_rest_waits(tmp_path: Path) -> None:
    one, other = turns(tmp_path), turns(tmp_path)
    assert not await waits(one.connect())
    assert not await waits(other.connect())
    assert await waits(one.connect())  # 80 % of 3
    assert not await waits(other.ask(80))
    assert await waits(one.ask(1))
    assert not await waits(turns(tmp_path, "https://another.example").ask(80))


async def test_alone_nobody_waits() -> None:
    alone = turns(None)
    for _ in range(10):
        assert not await waits(alone.connect())
        assert not await waits(alone.ask(100))


@pytest.mark.parametrize("shared", [True, False])
async def test_a_ban_is_waited_for(tmp_path: Path, *, shared: bool) -> None:
    one = turns(tmp_path if shared else None)
    other = turns(tmp_path) if shared else one
    one.refused(0.3)
    assert await waits(other.ask(1))
    assert not await waits(other.connect())
    one.shut_out(0.3)
    assert await waits(other.connect())
    began_s = time.monotonic()
    await other.ask(1)
    assert time.monotonic() - began_s < 5


async def test_a_ban_that_comes_while_waiting_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM", 0.01)  # one at a time
    one = Turns(
        tmp_path,
        "wss://ws.example",
        "https://rest.example",
        Rules(
            contiguous=True,
            pages_by_id=True,
            page_limit=1,
            connects=100,
            connects_per_s=0.1,
            weight=100,
            weight_per_s=0.1,
        ),
    )
    await one.ask(1)
    began_s = time.monotonic()
    waiting = asyncio.create_task(one.ask(1))
    await asyncio.sleep(0.02)
    one.refused(0.4)
    await waiting
    assert time.monotonic() - began_s > 0.4


async def test_a_folder_that_cannot_be_used_is_said_once_and_holds_nobody_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = turns(tmp_path / "file")
    with capture_logs() as logs:
        for _ in range(5):
            assert not await waits(one.ask(100))
        one.refused(0.2)
        assert await waits(one.ask(1))  # what it was told itself it keeps
    assert [x["event"] for x in logs] == ["budget_unusable"]
