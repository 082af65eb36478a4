"""Rows that change until they end, and what the archive holds otherwise than it is now."""

# ruff: noqa: S608 - tables of ours

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.rows import Row, Rows, TickRows
from storage.compact import compact
from storage.hot import HotFile
from storage.reads import begin, seen
from tests.storage.archive_support import files
from tests.storage.hot_rows import T0, gap, make_ticks, open_hot, zone

GAPS, ZONES = "fair_value_gaps", "supply_demand_zones"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/binance/spot/BTCUSDT/trading.duckdb"


@pytest.fixture
def hot(path: Path) -> Iterator[HotFile]:
    opened = open_hot(path)
    yield opened
    opened.close()


def shown(hot: HotFile, sql: str) -> list[tuple[Any, ...]]:
    """Read as a query does, the archive among it."""
    with closing(begin(hot.connection)) as cursor:
        return seen(cursor, {}, lambda: cursor.execute(sql).fetchall(), "test")


def keep(hot: HotFile, table: str, **rows: Row | None) -> None:
    made = Rows()
    for key, row in rows.items():
        made.keep(table, key, row)
    hot.flush(made, hot.position + 1)


def test_a_living_row_is_as_it_was_said_last(hot: HotFile) -> None:
    keep(hot, GAPS, a=gap("a"), b=gap("b"))
    keep(hot, GAPS, a=gap("a", 50.0, "PARTIAL"), c=gap("c"))
    rows = Rows()
    rows.keep(GAPS, "b", gap("b", 100.0, "FILLED"))
    rows.keep(GAPS, "b", None)
    rows.keep(GAPS, "c", None)
    rows.keep(GAPS, "c", gap("c", 7.0, "PARTIAL"))
    hot.flush(rows, 9)
    found = shown(hot, f"SELECT gap_id, filled_pct, status FROM {GAPS} ORDER BY ALL")
    assert found == [("a", 50.0, "PARTIAL"), ("c", 7.0, "PARTIAL")]


def test_only_rows_that_have_ended_are_swept(hot: HotFile, path: Path) -> None:
    keep(hot, GAPS, a=gap("a"), b=gap("b", 100.0, "FILLED"))
    keep(hot, ZONES, a=zone("a"), b=zone("b", 1, "TESTED"), c=zone("c", 0, "BROKEN"))
    swept = hot.sweep({}, {GAPS: ["a"], ZONES: ["b"]})
    assert {table: part.rows for table, part in swept.tables.items()} == {GAPS: 1, ZONES: 2}
    assert hot.connection.execute(f"SELECT gap_id FROM {GAPS}").fetchall() == [("a",)]
    assert hot.connection.execute(f"SELECT zone_id FROM {ZONES}").fetchall() == [("b",)]
    assert shown(hot, f"SELECT gap_id FROM {GAPS} ORDER BY ALL") == [("a",), ("b",)]
    assert shown(hot, f"SELECT zone_id, touches FROM {ZONES} ORDER BY ALL") == [("a", 0), ("b", 1), ("c", 0)]
    assert [file.parent.name for file in files(path.parents[3] / "archive")] == ["date=2025-12-21"] * 2
    assert hot.sweep({}, {GAPS: ["a"], ZONES: ["b"]}).tables == {}


def test_the_journal_is_held_by_ended_rows_until_they_are_swept(hot: HotFile) -> None:
    assert hot.left().ended == 0 == hot.position
    keep(hot, GAPS, a=gap("a"))
    assert hot.left().ended == 0
    hot.sweep({}, {GAPS: ["a"], ZONES: []})
    assert hot.left().ended == 1
    keep(hot, GAPS, a=gap("a", 100.0, "FILLED"))
    assert (hot.left().ended, hot.left().record) == (1, 2)
    hot.sweep({}, {GAPS: [], ZONES: []})
    assert hot.left().ended == 2


def test_a_restated_row_wins_over_the_archive_and_one_that_never_was_is_gone(hot: HotFile) -> None:
    keep(hot, GAPS, a=gap("a", 100.0, "FILLED"), b=gap("b", 100.0, "FILLED"), c=gap("c", 9.0, "EXPIRED"))
    hot.sweep({}, {GAPS: []})
    keep(hot, GAPS, a=gap("a", 30.0, "PARTIAL"), b=None)
    told = f"SELECT gap_id, filled_pct FROM {GAPS} ORDER BY ALL"
    assert shown(hot, told) == [("a", 30.0), ("c", 9.0)]
    hot.sweep({}, {GAPS: []})
    assert shown(hot, told) == [("a", 30.0), ("c", 9.0)]
    keep(hot, GAPS, b=gap("b", 1.0, "PARTIAL"))
    assert shown(hot, told) == [("a", 30.0), ("b", 1.0), ("c", 9.0)]
    assert shown(hot, "FROM amended") == []


def test_what_never_was_stays_so_when_the_file_is_lost(hot: HotFile, path: Path) -> None:
    keep(hot, GAPS, a=gap("a", 100.0, "FILLED"), b=gap("b", 100.0, "FILLED"))
    hot.sweep({}, {GAPS: []})
    keep(hot, GAPS, b=None)
    hot.left()
    hot.close()
    path.unlink()
    path.with_name("trading.duckdb.wal").unlink()
    again = open_hot(path)
    assert shown(again, f"SELECT gap_id FROM {GAPS}") == [("a",)]
    again.close()


def test_flags_come_with_ticks_and_change_wherever_these_are(hot: HotFile) -> None:
    flags = np.array([0, 1] * 10, np.int8)
    hot.flush(Rows(ticks=[TickRows(1, make_ticks(20), (), flags)]), 1)
    hot.flush(Rows(ticks=[TickRows(21, make_ticks(2, 21), (), flags[:2])]), 2)
    told = "SELECT seq, outlier_flag FROM ticks ORDER BY seq"
    expected = dict(enumerate([*flags.tolist(), 0, 1], 1))
    assert dict(shown(hot, told)) == expected
    hot.sweep({"ticks": (T0 + 10**18, 15)})
    hot.flush(Rows(flags={2: 0, 3: 1, 16: 0, 17: 1}), 3)
    expected |= {2: 0, 3: 1, 16: 0, 17: 1}
    assert dict(shown(hot, told)) == expected
    hot.flush(Rows(flags={2: 1, 4: 1}), 4)
    assert dict(shown(hot, told)) == expected | {2: 1, 4: 1}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_life_is_read_as_it_is(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("any")
    hot = open_hot(root / "data/binance/spot/BTCUSDT/trading.duckdb")
    wanted: dict[str, float] = {}
    for _ in range(draw.draw(st.integers(1, 12))):
        step = draw.draw(st.sampled_from(["keep", "keep", "remove", "sweep", "compact"]))
        key = draw.draw(st.sampled_from("abcd"))
        if step == "keep":
            wanted[key] = draw.draw(st.floats(0, 100))
            keep(hot, GAPS, **{key: gap(key, wanted[key])})
        elif step == "remove":
            wanted.pop(key, None)
            keep(hot, GAPS, **{key: None})
        elif step == "sweep":
            hot.sweep({}, {GAPS: draw.draw(st.sets(st.sampled_from("abcd")))})
        else:
            compact(root / "data/archive")
        assert dict(shown(hot, f"SELECT gap_id, filled_pct FROM {GAPS}")) == wanted
    hot.close()
