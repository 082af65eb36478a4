"""Hot file and archive answer as one table, in the same types, whatever a query calls them."""

# ruff: noqa: S608 - SQL of these tests, put together from their own names

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from market.errors import Retryable
from market.rows import GapRow, Rows, TickRows
from storage import archive_ledger
from storage.archive import ArchiveDamaged, crc_of, place_of
from storage.archive_ledger import NAME, Ledger
from storage.hot import HotFile
from storage.reads import begin, export, seen
from storage.sweep import Archived, Mark, without_archived
from tests.storage.archive_support import END, MIDNIGHT, TABLES, event, filled, plan
from tests.storage.hot_rows import MINUTE, PAIR, T0, candle, make_ticks, open_hot
from tests.storage.record import Opened

MORE = ("market_ticks", "data_gaps", "rejected", "sink_cursors")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pair/trading.duckdb"


@pytest.fixture
def made(path: Path) -> Iterator[tuple[HotFile, Opened]]:
    hot, opened = filled(path)
    yield hot, opened
    hot.close()


def ask(hot: HotFile, opened: Opened, sql: str) -> Any:
    out = Path(hot.connection.execute("SELECT path FROM duckdb_databases()").fetchall()[0][0]).with_name(
        "out"
    )
    with closing(begin(hot.connection)) as cursor:
        export(cursor, opened, sql, "json", out)
    return json.loads(out.read_bytes())


QUERIES = [
    *(f"SELECT * FROM {table} ORDER BY ALL" for table in (*TABLES, *MORE)),
    *(f"DESCRIBE {table}" for table in (*TABLES, *MORE)),
    "SELECT Side, count(*) AS n, sum(volume) > 0 AS some FROM main.Ticks GROUP BY ALL ORDER BY ALL",
    "SELECT min(seq) AS a, max(seq) AS b FROM ticks WHERE timestamp >= '2025-12-21' AND price > 100.05",
    "SELECT c.close, f.cvd FROM candles_1m c JOIN order_flow f USING (timestamp) ORDER BY c.timestamp",
    "SELECT data->>'close' AS close FROM events WHERE event = 'CANDLE_CLOSED' ORDER BY seq",
    "WITH ticks_of_mine AS (FROM ticks WHERE seq < 5) SELECT count(*) AS n FROM ticks_of_mine",
]


def test_every_query_is_answered_as_before_the_sweeps(made: tuple[HotFile, Opened]) -> None:
    hot, opened = made
    before = [ask(hot, opened, sql) for sql in QUERIES]
    for minutes in (-30, 20):
        hot.sweep(plan(MIDNIGHT + minutes * MINUTE))
        assert [ask(hot, opened, sql) for sql in QUERIES] == before


def test_a_reader_sees_what_was_there_when_it_began(made: tuple[HotFile, Opened]) -> None:
    hot, opened = made
    count = "SELECT count(*), count(DISTINCT seq), max(seq) FROM ticks"
    hot.sweep(plan(MIDNIGHT, "ticks"))
    with closing(begin(hot.connection)) as cursor:
        hot.flush(Rows(ticks=[TickRows(801, make_ticks(50, 801, END))]), 2)
        hot.sweep(plan(END + 10 * MINUTE))
        found = seen(cursor, opened, lambda: cursor.execute(count).fetchall(), "test")
    assert found == [(800, 800, 800)]
    assert ask(hot, opened, "SELECT count(*) AS n FROM ticks") == [{"n": 850}]


# What a lost file gets back


def test_copies_bring_small_tables_back_whole(path: Path) -> None:
    hot, opened = filled(path)
    before = [ask(hot, opened, f"FROM {table}") for table in ("data_gaps", "rejected")]
    hot.sweep(plan(MIDNIGHT, "ticks"))
    hot.left()
    hot.close()
    path.unlink()
    path.with_name("trading.duckdb.wal").unlink()
    again = open_hot(path)
    assert [ask(again, {}, f"FROM {table}") for table in ("data_gaps", "rejected")] == before
    assert again.archived.copied == {"amended": 1, "data_gaps": 1, "rejected": 1}
    again.close()


def test_a_copy_is_made_when_its_table_changed(path: Path) -> None:
    hot, _ = filled(path)
    copy = place_of(path.parent, PAIR).copy("data_gaps")
    assert not copy.exists()
    hot.left()
    made_ns = copy.stat().st_mtime_ns
    hot.flush(Rows(ticks=[TickRows(801, make_ticks(1, 801, END))]), 2)
    hot.left()
    assert copy.stat().st_mtime_ns == made_ns
    hot.flush(Rows(replaced={"data_gaps": [GapRow(1, 900, 905, T0, T0, T0, "FILLED", T0, 6, "x")]}), 3)
    hot.left()
    assert copy.stat().st_mtime_ns > made_ns
    hot.close()


def test_a_damaged_copy_is_told_and_the_rest_goes_on(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hot, _ = filled(path)
    hot.sweep(plan(MIDNIGHT, "ticks"))
    hot.left()
    hot.close()
    path.unlink()
    path.with_name("trading.duckdb.wal").unlink()
    copy = place_of(path.parent, PAIR).copy("data_gaps")
    copy.write_bytes(copy.read_bytes()[:50])
    again = open_hot(path)
    assert "archive_damaged" in capsys.readouterr().out
    assert again.archived.copied == {"amended": 1, "rejected": 1}
    again.close()


def test_a_ledger_that_is_damaged_or_cannot_be_written_is_said(tmp_path: Path) -> None:
    ledger = Ledger(Archived(7, {"ticks": Mark(9, 3)}, {"rejected": 3}), {"redis": (5, 6)}, 4)
    archive_ledger.save(tmp_path, ledger)
    assert archive_ledger.load(tmp_path) == ledger
    (tmp_path / NAME).write_bytes(b"{")
    with pytest.raises(ArchiveDamaged, match=NAME):
        archive_ledger.load(tmp_path)
    shutil.rmtree(tmp_path / NAME, ignore_errors=True)
    with pytest.raises(Retryable, match="No such file"):
        archive_ledger.save(tmp_path / "nowhere", ledger)


def test_rows_that_the_archive_has_are_left_out_of_what_is_folded_again() -> None:
    ticks = make_ticks(10)
    rows = Rows([TickRows(1, ticks[:4]), TickRows(5, ticks[4:])])
    rows.inserted = {
        "events": [event(1, T0), event(2, T0), event(3, T0)],
        "candles_1m": [candle(1), candle(2)],
    }
    rows.replaced = {"candles_1m": [candle(1), candle(3)], "data_gaps": [(1,)]}
    rows.living = {
        "fair_value_gaps": {"1m:1": None}
    }  # there never was one: the archive's copy is denied again
    marks = {table: Mark(2, 5) for table in ("events", "candles_1m", "fair_value_gaps")} | {
        "ticks": Mark(6, 5)
    }
    left = without_archived(rows, 5, Archived(1, marks, {"data_gaps": 5}))
    assert [(first, part.tolist()) for first, part in left.ticks] == [(7, ticks[6:].tolist())]
    assert [row[0] for row in left.inserted["events"]] == [3]
    assert [row[0] for row in left.inserted["candles_1m"]] == [2]
    assert [row[0] for row in left.replaced["candles_1m"]] == [3]
    assert left.replaced["data_gaps"] == []
    assert left.living == rows.living
    later = without_archived(rows, 6, Archived(1, marks, {"data_gaps": 5}))
    assert later.replaced == rows.replaced


def test_a_file_is_named_by_its_checksum(made: tuple[HotFile, Opened], path: Path) -> None:
    hot, _ = made
    hot.sweep(plan(END))
    files = [file for table in TABLES for file in place_of(path.parent, PAIR).files(table)]
    assert len(files) >= len(TABLES)
    assert all(crc_of(file.path) == file.crc for file in files)


def test_an_archive_that_is_not_there_is_named_and_nothing_goes_there(tmp_path: Path) -> None:
    path = tmp_path / "binance/spot/BTCUSDT/trading.duckdb"
    hot = open_hot(path)
    hot.flush(Rows(ticks=[TickRows(1, make_ticks(200))]), 1)
    hot.sweep({"ticks": (T0 + 3_600 * 10**9, 100)})
    archive = tmp_path / "archive"
    archive.rename(tmp_path / "elsewhere")
    with (
        closing(begin(hot.connection)) as cursor,
        pytest.raises(ArchiveDamaged, match="is the archive mounted"),
    ):
        export(cursor, {}, "SELECT count(*) FROM ticks", "csv", tmp_path / "answer.csv")
    with pytest.raises(ArchiveDamaged, match="is the archive mounted"):
        hot.sweep({"ticks": (T0 + 3_600 * 10**9, None)})
    (tmp_path / "elsewhere").rename(archive)
    with closing(begin(hot.connection)) as cursor:
        export(cursor, {}, "SELECT count(*) AS n FROM ticks", "csv", tmp_path / "answer.csv")
    assert (tmp_path / "answer.csv").read_text() == "n\n200\n"
    hot.close()
