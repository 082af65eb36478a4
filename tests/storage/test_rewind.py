"""Where a journal is taken up again to fold what came late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from market.errors import Fatal
from storage.journal import Journal, JournalDamaged, Segment, segments
from storage.rewind import JournalHistory, batches
from tests.storage.journal_support import begun, fill


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with begun(folder) as journal:
        yield journal


@pytest.fixture
def history(folder: Path, journal: Journal) -> JournalHistory:
    fill(journal, 9, rotate_after=(3, 6))  # heads at 3 and 6 have closed up to 300 and 600
    return JournalHistory(lambda: segments(folder))


def ids(chain: list[Segment], number: int) -> list[int]:
    return [int(b.ticks["trade_id"][0]) // 100 for b in batches(chain, number)]


@pytest.mark.parametrize(("ts_ns", "state"), [(900, 6), (600, 6), (599, 3), (300, 3), (299, 0), (0, 0)])
def test_the_newest_state_that_is_old_enough(history: JournalHistory, ts_ns: int, state: int) -> None:
    head, chain = history.before(10, ts_ns)
    assert (head.state, ids(chain, 10)) == (b"state %d" % state, list(range(state + 1, 10)))


def test_records_from_the_number_on_are_left_out(history: JournalHistory) -> None:
    head, chain = history.before(5, 900)
    assert (head.state, ids(chain, 5)) == (b"state 3", [4])
    head, chain = history.before(4, 900)
    assert (head.state, ids(chain, 4)) == (b"state 3", [])


def test_a_journal_that_does_not_reach_back(folder: Path, history: JournalHistory) -> None:
    segments(folder)[0].path.unlink()
    with pytest.raises(Fatal, match="no segment reaches back to 299"):
        history.before(10, 299)


def test_a_damaged_record_is_not_passed_over(folder: Path, history: JournalHistory) -> None:
    path = segments(folder)[1].path
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    _, chain = history.before(4, 0)
    assert ids(chain, 4) == [1, 2, 3]
    with pytest.raises(JournalDamaged):
        ids(segments(folder), 10)
