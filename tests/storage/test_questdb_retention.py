"""Old days leave a real server for files that hold the same rows; schema changes are applied once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from market.errors import Fatal, Retryable
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_daily import await_applied
from storage.questdb_frames import TradeRows
from storage.questdb_migrations import Migration, migrate, migrations
from storage.questdb_retention import Policy, retain
from storage.questdb_sql import Sql
from storage.questdb_url import parse
from tests.storage.questdb_support import DAY_NS, EIGHTH, ask, ask_ddl, settled, ticks


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedQuestDB]:
    server = EmbeddedQuestDB(tmp_path_factory.mktemp("questdb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sql(server: EmbeddedQuestDB) -> Sql:
    """Give a server whose trades are of four days, 8 to 11 August 2024, ten each."""
    store = QuestDB(server.url)
    store.prepare()
    ask_ddl(server, "TRUNCATE TABLE trades")
    for day in range(4):
        rows = [(i, EIGHTH + day * DAY_NS + i * 1_000_000_000) for i in range(10)]
        store.write_trades([TradeRows("pair", "binance", 1 + 10 * day, ticks(*rows))])
    store.close()
    return Sql(parse(server.url), 10.0)


def days(server: EmbeddedQuestDB) -> list[str]:
    return [row[0][:10] for row in ask(server, "SELECT timestamp, count() FROM trades SAMPLE BY 1d")]


def file(policy: Policy, day: str, number: int = 1) -> Path:
    return policy.folder / f"date={day}" / f"trades-{number}.parquet"


def rows(path: Path) -> list[tuple[object, ...]]:
    with duckdb.connect() as con:
        return con.execute(
            f"SELECT seq, price, size, side, trade_id, epoch_ns(timestamp) FROM '{path}' ORDER BY seq"  # noqa: S608
        ).fetchall()


async def test_days_that_are_old_by_the_newest_trade_become_files(
    server: EmbeddedQuestDB, sql: Sql, tmp_path: Path
) -> None:
    await settled(server)
    policy = Policy(tmp_path / "archive", hot_days=2)
    assert retain(sql, policy) == 10
    await settled(server)
    assert days(server) == ["2024-08-09", "2024-08-10", "2024-08-11"]
    stored = rows(file(policy, "2024-08-08"))
    assert stored == [(i + 1, 100.5 + i, 0.25, "B", str(i), EIGHTH + i * 1_000_000_000) for i in range(10)]
    assert retain(sql, policy) == 0
    assert not list(policy.folder.rglob("*.part"))


async def test_a_day_that_comes_back_makes_another_file(
    server: EmbeddedQuestDB, sql: Sql, tmp_path: Path
) -> None:
    await settled(server)
    policy = Policy(tmp_path / "archive", hot_days=2)
    retain(sql, policy)
    before = rows(file(policy, "2024-08-08"))
    store = QuestDB(server.url)
    store.write_trades([TradeRows("pair", "binance", 99, ticks((99, EIGHTH + 5)))])
    store.close()
    assert retain(sql, policy) == 1
    assert rows(file(policy, "2024-08-08")) == before
    assert [row[0] for row in rows(file(policy, "2024-08-08", 2))] == [99]


async def test_files_are_deleted_when_they_are_too_old(
    server: EmbeddedQuestDB, sql: Sql, tmp_path: Path
) -> None:
    await settled(server)
    policy = Policy(tmp_path / "archive", hot_days=1, archive_days=2)
    assert retain(sql, policy) == 20
    assert [path.name for path in sorted(policy.folder.iterdir())] == ["date=2024-08-09"]


@pytest.mark.parametrize("hot_days", [0, 30])
async def test_nothing_leaves_where_nothing_is_old_or_all_is_kept(
    server: EmbeddedQuestDB, sql: Sql, tmp_path: Path, hot_days: int
) -> None:
    await settled(server)
    assert retain(sql, Policy(tmp_path / "archive", hot_days=hot_days)) == 0
    assert len(days(server)) == 4


async def test_a_disk_that_refuses_keeps_the_day_in_the_server(
    server: EmbeddedQuestDB, sql: Sql, tmp_path: Path
) -> None:
    await settled(server)
    (tmp_path / "archive").write_text("a file in the way")
    with pytest.raises(Retryable, match="archive"):
        retain(sql, Policy(tmp_path / "archive", hot_days=2))
    assert len(days(server)) == 4


async def test_a_row_that_is_acknowledged_before_the_drop_is_not_dropped(
    server: EmbeddedQuestDB, sql: Sql, tmp_path: Path
) -> None:
    await settled(server)
    store = QuestDB(server.url)
    late = iter(range(99, 101))

    @contextmanager
    def alone() -> Iterator[None]:
        for seq in late:  # the last that the writer got in, in many transactions
            store.write_trades([TradeRows("pair", "binance", seq, ticks((seq, EIGHTH + seq)))])
        yield

    policy = Policy(tmp_path / "archive", hot_days=2)
    with pytest.raises(Retryable, match="tried again later"):
        retain(sql, policy, alone=alone())
    assert "2024-08-08" in days(server)
    assert retain(sql, policy, alone=alone()) == 12
    store.close()
    assert [row[0] for row in rows(file(policy, "2024-08-08"))] == [*range(1, 11), 99, 100]


def test_of_an_empty_table_nothing_leaves(server: EmbeddedQuestDB, sql: Sql, tmp_path: Path) -> None:
    ask_ddl(server, "TRUNCATE TABLE trades")
    await_applied(sql, "trades", 10.0)
    assert retain(sql, Policy(tmp_path / "archive", hot_days=2)) == 0


class TestMigrations:
    def test_are_applied_once_in_order(self, server: EmbeddedQuestDB, sql: Sql) -> None:
        known = migrations()
        assert [one.version for one in known] == list(range(1, len(known) + 1))
        ledger = "SELECT version, name FROM schema_migrations ORDER BY version"
        assert ask(server, ledger) == [[one.version, one.name] for one in known]
        assert migrate(sql, known) == []

    def test_one_that_was_cut_off_is_applied_anew(self, server: EmbeddedQuestDB, sql: Sql) -> None:
        broken = Migration(900, "two", ("CREATE TABLE IF NOT EXISTS extra (a INT)", "NO SQL AT ALL"))
        with pytest.raises(Retryable):
            migrate(sql, [*migrations(), broken])
        whole = broken._replace(statements=(broken.statements[0], "ALTER TABLE extra ADD COLUMN b INT"))
        assert migrate(sql, [*migrations(), whole]) == [900]
        assert [row[0] for row in ask(server, "SELECT \"column\" FROM table_columns('extra')")] == ["a", "b"]
        with pytest.raises(Fatal, match="0900 is not known"):
            migrate(sql, migrations())
        ask_ddl(server, "TRUNCATE TABLE schema_migrations")
        migrate(sql, migrations())

    def test_a_file_of_another_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "first.sql").write_text("SELECT 1;\n")
        with pytest.raises(Fatal, match=r"first\.sql"):
            migrations(tmp_path)
