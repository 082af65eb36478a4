"""Where a feed's source is read up to stands in the journal beside the last of what was read."""

from __future__ import annotations

import numpy as np
import pytest

from actors import state
from actors.state import DECIDING_TRADES
from market.inputs import Clock, GapClosed, Input, Position, Quote, Rejected, TickBatch
from market.ticks import Ticks
from storage.codec import decode, encode
from tests.actors.core_support import Life, at

HERE = Position("here")
LONG_S = 5_000  # more steps of the market state than a record may hold


def many(*seconds: float) -> Ticks:
    return np.concatenate([at(second, trade_id=number) for number, second in enumerate(seconds, 1)])


def test_it_is_remembered_by_a_restarted_core_and_forgotten_by_none_before() -> None:
    life = Life()
    life.take(HERE, TickBatch(at(1)))
    life.rotate()
    assert life.core.state.ledger.source == "here"
    life.take(Position("there"))
    assert state.load(life.core.snapshot()[1]).ledger.source == "there"


@pytest.mark.parametrize(
    ("ticks", "records"),
    [
        (many(1, 2, 3), 1),
        (many(1, LONG_S), 2),
        (many(*range(DECIDING_TRADES + 10)), 2),  # the tick size is decided in the middle
    ],
)
def test_it_is_in_the_record_of_the_last_of_its_ticks(ticks: Ticks, records: int) -> None:
    life = Life()
    quote = Quote(1, 1.0, 1.0, 2.0, 1.0, 1)
    life.take(quote, HERE, TickBatch(ticks), GapClosed(9, 1, 0, "later"))
    kept = [record for record in life.memory.records if not isinstance(record[-1], Clock)]
    holds = [[type(item) for item in record] for record in kept]
    with_ticks, behind = holds[:-1], holds[-1]
    assert behind == [GapClosed]
    assert len(with_ticks) == records
    assert with_ticks[0][0] is Quote
    assert [Position in record for record in with_ticks] == [False] * (records - 1) + [True]
    assert sum(len(x.ticks) for record in kept for x in record if isinstance(x, TickBatch)) == len(ticks)


def test_a_journal_keeps_it_beside_what_it_stands_for() -> None:
    record: list[Input] = [Rejected(1, "no price", b"id=1"), HERE]
    assert decode(encode(record)) == record


def test_sides_that_nobody_told_are_marked_in_the_file_itself() -> None:
    life = Life()
    life.take(Position("a"), TickBatch(at(1)))
    assert "sides_inferred" not in life.core.meta()
    record = next(life.core.records([Position("b", 3), TickBatch(at(2))]))
    assert life.core.handle(len(life.memory.records) + 1, record).rows.meta["sides_inferred"] == "3"
    life.rotate()
    assert life.core.meta()["sides_inferred"] == "3"
