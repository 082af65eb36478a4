"""The archive's disk is really full: everything stays where it is, and goes on when there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from market.errors import Retryable
from storage.archive import Place, place_of
from storage.compact import compact_all
from tests.disk_support import small_disk
from tests.storage.archive_support import END, MIDNIGHT, everything, files, filled, plan
from tests.storage.hot_rows import MINUTE, PAIR

LATER_S = 4_000_000_000.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk where the archive is to be."""
    with small_disk(tmp_path / "archive", "512k") as disk:
        yield disk


def fill(disk: Path, left: int) -> Path:
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    room = os.statvfs(disk)
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - left))
    return ballast


def small_files(place: Place) -> int:
    return sum(len(place.files(table)) for table in place.tables())


def test_what_has_no_room_stays_and_the_oldest_is_kept(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "binance/spot/BTCUSDT/trading.duckdb"
    hot, opened = filled(path)
    before, place = everything(hot, opened), place_of(path.parent, PAIR)
    for minutes in (-50, -40, -30):
        hot.sweep(plan(MIDNIGHT + minutes * MINUTE))
    kept = files(disk)
    ballast = fill(disk, 8_192)
    for _ in range(2):
        with pytest.raises(Retryable, match="No space left"):
            hot.sweep(plan(END))
    assert (hot.archived.sweep, files(disk)) == (3, sorted([*kept, ballast]))
    assert everything(hot, opened) == before
    fill(disk, 0)
    with pytest.raises(Retryable, match="No space left"):
        hot.left()
    with pytest.raises(Retryable, match="No space left"):
        compact_all(disk, LATER_S)
    assert files(disk) == sorted([*kept, ballast])
    assert everything(hot, opened) == before
    ballast.unlink()
    hot.sweep(plan(END))
    hot.left()
    many = small_files(place)
    for _ in range(2):
        compact_all(disk, LATER_S)
    assert small_files(place) < many
    assert everything(hot, opened) == before
    hot.close()
