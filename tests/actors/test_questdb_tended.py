"""What QuestDB acknowledges and cannot write, as after a full disk, is written once it can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from actors.questdb import QuestDBPages
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_frames import TradeRows
from tests.storage.questdb_support import EIGHTH, ask, ask_ddl, ticks
from tests.support import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedQuestDB]:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "server.conf").write_text("dev.mode.enabled=true\n")  # a table may be stopped
    server = EmbeddedQuestDB(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_a_table_whose_writing_stopped_goes_on_by_itself(server: EmbeddedQuestDB) -> None:
    pages = QuestDBPages(server.url)
    pages.prepare()
    ask_ddl(server, "ALTER TABLE trades SUSPEND WAL")
    store = QuestDB(server.url)
    assert store.write_trades([TradeRows("x", "b", 1, ticks((1, EIGHTH), (2, EIGHTH + 1_000)))]) == (2, 0)
    assert ask(server, "SELECT count() FROM trades") == [[0]]
    with capture_logs() as logs:
        pages.ping()
        pages.ping()  # not looked at again so soon
    assert [entry["event"] for entry in logs] == ["questdb_table_resumed"]
    await eventually(lambda: ask(server, "SELECT count() FROM trades") == [[2]])
    store.close()
    pages.close()
