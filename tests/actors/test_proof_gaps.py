"""The proof of data_gaps: a record of every kind of gap is proven, swept or not, and each damage shows."""

# ruff: noqa: S608 - tables of ours

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from market.inputs import GapClosed, GapOpened, TickBatch
from storage.proof import prove
from storage.reads import begin
from tests.actors.living import ENGINE, Living, lose, some_ticks
from tests.storage.archive_support import TIMEFRAMES

FOLDER = "data/binance/spot/BTCUSDT"
HOLES = "trade ids are contiguous, or data_gaps says which are missing"
TRUE = "every FILLED gap has all its trades, and no OPEN one"
SAID = "data_gaps is what its latest events said"
NUMBERED = "data_gaps.gap_id counts 1, 2, 3 without hole or double"
SHIFTED = "from_time = from_time + INTERVAL 1 SECOND"
DAMAGE: dict[str, tuple[str, set[str], set[str]]] = {  # what fails where ids are contiguous, and where not
    "a filled one gone": ("DELETE FROM data_gaps WHERE gap_id = 1", {SAID, NUMBERED}, {SAID, NUMBERED}),
    "an unfillable one gone": (
        "DELETE FROM data_gaps WHERE gap_id = 2",
        {HOLES, SAID, NUMBERED},
        {SAID, NUMBERED},
    ),
    "one without ids gone, the last": ("DELETE FROM data_gaps WHERE gap_id = 3", {SAID}, {SAID}),
    "all gone": ("DELETE FROM data_gaps", {HOLES, SAID}, {SAID}),
    "one twice": (
        "INSERT INTO data_gaps FROM data_gaps WHERE gap_id = 2",
        {SAID, NUMBERED},
        {SAID, NUMBERED},
    ),
    "one too many": (
        "INSERT INTO data_gaps SELECT * REPLACE (4 AS gap_id) FROM data_gaps WHERE gap_id = 2",
        {SAID},
        {SAID},
    ),
    "wider than it is": ("UPDATE data_gaps SET last_missing_id = 199 WHERE gap_id = 2", {SAID}, {SAID}),
    "more given back": ("UPDATE data_gaps SET rows_filled = 4 WHERE gap_id = 2", {SAID}, {SAID}),
    "another time": (f"UPDATE data_gaps SET {SHIFTED} WHERE gap_id = 3", {SAID}, {SAID}),
    "another reason": ("UPDATE data_gaps SET reason = 'none' WHERE gap_id = 1", {SAID}, {SAID}),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let trades come late for a gap that they fill, and for one that they do not; sweep meanwhile."""
    folder = tmp_path_factory.mktemp("original") / "binance/spot/BTCUSDT"
    pair, ticks = Living(folder, ENGINE), some_ticks()
    ids, at_ns = ticks["trade_id"], int(ticks["ts_ns"][60])
    filling, some = (ids >= 41) & (ids <= 60), (ids >= 101) & (ids <= 103)
    pair.take(TickBatch(ticks[:40]), GapOpened(41, 60, at_ns - 99, at_ns, at_ns, "reconnected"))
    pair.take(TickBatch(ticks[60:100]), TickBatch(ticks[filling]), GapClosed(41, at_ns + 5, 0, ""))
    pair.sweep()
    pair.take(GapOpened(101, 110, at_ns, at_ns + 9, at_ns + 9, "ids jumped"), TickBatch(ticks[110:200]))
    pair.take(TickBatch(ticks[some]), GapClosed(101, at_ns + 99, 7, "beyond what REST lists"))
    pair.take(GapOpened(201, 201, at_ns, at_ns + 9, at_ns + 9, "cut", counted=False))
    pair.take(GapClosed(201, at_ns + 77, 1, "nobody knows"), TickBatch(ticks[200:]))
    pair.sweep()
    pair.cut()
    pair.rotate()
    pair.files.hot.checkpoint()
    pair.close()
    return folder


@pytest.fixture
def pair(original: Path, tmp_path: Path) -> Iterator[Living]:
    shutil.copytree(original.parents[2], tmp_path / "data")
    living = Living(tmp_path / FOLDER, ENGINE)
    yield living
    living.close()


def claims(pair: Living, *, contiguous: bool) -> dict[str, str]:
    """Give the claims that fail, with the reason."""
    cursor = begin(pair.files.hot.connection)
    proven = prove(cursor, pair.files.core.open_rows(), TIMEFRAMES, contiguous=contiguous)
    return {claim.text: claim.detail for claim in proven if not claim.ok}


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_true_record_is_proven(pair: Living, *, contiguous: bool) -> None:
    assert len(pair.seen()["data_gaps"]) == 3
    assert claims(pair, contiguous=contiguous) == {}


def test_a_true_record_is_proven_when_its_file_was_lost(pair: Living, tmp_path: Path) -> None:
    before = pair.seen()["data_gaps"]
    pair.close()
    lose(tmp_path / FOLDER)
    again = Living(tmp_path / FOLDER, ENGINE)
    assert again.seen()["data_gaps"] == before
    assert claims(again, contiguous=True) == {}
    again.close()


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_fails_its_claims_and_no_other(pair: Living, damage: str) -> None:
    sql, numbered, named = DAMAGE[damage]
    pair.files.hot.connection.execute(sql)
    assert claims(pair, contiguous=True).keys() == numbered
    assert claims(pair, contiguous=False).keys() == named
