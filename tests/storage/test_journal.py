"""What is appended to a journal comes back as it was, in segments that can be taken off and cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.inputs import (
    Began,
    Clock,
    FeedRecovered,
    FeedStale,
    GapClosed,
    GapOpened,
    Input,
    Quote,
    Rejected,
    TickBatch,
)
from market.ticks import TICK, Ticks
from storage import codec
from storage.journal import Journal, Segment, read, segments
from tests.storage.journal_support import begun, fill, numbers, plain

INTS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(max_size=40)
FLOATS = st.floats(allow_nan=False)
INPUTS = st.one_of(
    st.builds(
        lambda size, seed, late, name: TickBatch(ticks(size, seed), late, named(size, name)),
        st.integers(1, 40),
        INTS,
        st.booleans(),
        st.none() | TEXTS,
    ),
    st.builds(Quote, INTS, FLOATS, FLOATS, FLOATS, FLOATS, INTS),
    st.builds(Clock, INTS),
    st.builds(Began, INTS),
    st.builds(GapOpened, INTS, INTS, INTS, INTS, INTS, TEXTS, st.booleans()),
    st.builds(GapClosed, INTS, INTS, INTS, TEXTS, INTS),
    st.builds(Rejected, INTS, TEXTS, st.binary(max_size=1024)),
    st.builds(FeedStale, INTS, FLOATS, TEXTS),
    st.builds(FeedRecovered, INTS),
)


def ticks(size: int, seed: int) -> Ticks:
    rng = np.random.default_rng(abs(seed))
    return np.frombuffer(rng.bytes(size * TICK.itemsize), TICK)


def named(size: int, name: str | None) -> tuple[str, ...]:
    return () if name is None else tuple(f"{name}{n}" for n in range(size))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with begun(folder) as journal:
        yield journal


@given(st.lists(INPUTS, max_size=6))
def test_every_input_comes_back_as_it_was(inputs: list[Input]) -> None:
    assert [plain(x) for x in codec.decode(codec.encode(inputs))] == [plain(x) for x in inputs]


def test_journals_from_before_ids_were_text_are_read_and_integer_ids_are_written_as_ever() -> None:
    before = ticks(3, 7)
    old = [[1, before.tobytes()], [1, before.tobytes(), True], [5, 1, 2, 3, 4, 5, "x"], [6, 1, 2, 0, "y"]]
    plain_batch, late, opened, closed = codec.decode(msgspec.msgpack.encode(old))
    assert isinstance(plain_batch, TickBatch)
    assert isinstance(late, TickBatch)
    assert (plain_batch.late, plain_batch.ids, late.late, late.ids) == (False, (), True, ())
    assert plain_batch.ticks.tobytes() == late.ticks.tobytes() == before.tobytes()
    assert opened == GapOpened(1, 2, 3, 4, 5, "x", counted=True)
    assert closed == GapClosed(1, 2, 0, "y", rows=0)
    assert codec.encode([TickBatch(before, late=True)]) == msgspec.msgpack.encode(old[1:2])


def test_numbers_rise_over_segments_and_heads_hold_the_state(folder: Path, journal: Journal) -> None:
    fill(journal, 10, rotate_after=(3, 7))
    chain = segments(folder)
    assert [s.first for s in chain] == [1, 4, 8]
    assert [tuple(s.head()) for s in chain] == [
        (0, -1, b"state 0"),
        (3, 300, b"state 3"),
        (7, 700, b"state 7"),
    ]
    assert numbers(folder) == list(range(1, 11))
    assert [r.inputs[0].ticks["trade_id"][0] for r in read(chain[1:])] == [n * 100 for n in range(4, 11)]  # type: ignore[union-attr]  # all are TickBatch
    again = Journal(folder, sync=False)
    assert (again.number, again.cut_bytes, again.append([Clock(1)])) == (10, 0, 11)
    again.close()


def test_a_second_head_at_the_same_record_takes_the_place_of_the_first(
    folder: Path, journal: Journal
) -> None:
    fill(journal, 2, rotate_after=(2,))
    journal.rotate(250, b"other timeframes")
    fill(journal, 1)
    assert [tuple(s.head())[2] for s in segments(folder)] == [b"state 0", b"other timeframes"]
    assert numbers(folder) == [1, 2, 3]


def test_a_segment_is_cut_behind_a_record(folder: Path, journal: Journal) -> None:
    fill(journal, 6)
    journal.close()
    (segment,) = segments(folder)
    for number in range(7):
        segment.path.with_suffix(".cut").write_bytes(segment.cut_at(number))
        cut = Segment(segment.path.with_suffix(".cut"))
        assert [record.number for record in cut.records()] == list(range(1, number + 1))
        assert cut.head() == segment.head()


def test_segments_at_the_front_are_taken_off_and_the_rest_goes_on(folder: Path, journal: Journal) -> None:
    fill(journal, 9, rotate_after=(3, 6))
    chain = segments(folder)
    assert journal.drop_before(chain[0].first) == []
    gone = journal.drop_before(chain[2].first)
    assert [path.exists() for path in gone] == [True, True]
    assert segments(folder) == chain[2:]
    fill(journal, 2)
    assert numbers(folder) == [7, 8, 9, 10, 11]
    assert journal.drop_before(10**9) == []  # the last one stays
    journal.close()
    again = Journal(folder, sync=True)
    assert (again.number, [path.exists() for path in gone]) == (11, [False, False])
    again.close()
