"""PairCore: trades whose ids are text or have holes, and gaps that no id tells of."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import state
from actors.core import PairCore
from actors.cutting import SILENCE_STEPS
from actors.state import MAX_RECENT_IDS
from market.inputs import Clock, GapClosed, GapOpened, Input, TickBatch
from market.rows import GapRow, Rows
from market.ticks import Ticks
from market.times import NS_PER_S
from tests.actors.core_support import (
    HOUR_NS,
    SLOW,
    Life,
    Memory,
    assert_announced,
    assert_complete,
    at,
    data,
    names,
)
from tests.analytics.worlds import splits, ticks

OPENED = GapOpened(4, 4, HOUR_NS, HOUR_NS + 5, 77, "reconnected", counted=False)


class Named(Life):
    """A life that keeps the ids of its rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.names: list[str] = []

    def write(self, rows: Rows) -> None:
        super().write(rows)
        for part in rows.ticks:
            self.names += part.ids or map(str, part.ticks["trade_id"].tolist())


def texts(*named: tuple[str, float]) -> TickBatch:
    """Make trades of these ids, so many seconds after a whole hour."""
    batch = np.concatenate([at(second, price=100 + k, trade_id=0) for k, (_, second) in enumerate(named)])
    return TickBatch(batch, ids=tuple(name for name, _ in named))


def recorded(life: Life) -> list[TickBatch]:
    return [x for record in life.memory.records for x in record if isinstance(x, TickBatch)]


def ledger(life: Life) -> state.Ledger:
    return life.core.state.ledger


# Order


def test_ticks_with_text_ids_are_numbered_as_they_come() -> None:
    life = Named()
    life.take(texts(("b", 1), ("a", 1)), texts(("007", 2)))
    life.rotate()
    life.take(texts(("7", 3)))
    assert life.names == ["b", "a", "007", "7"]
    assert life.ticks == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert [(batch.ids, batch.ticks["trade_id"].tolist()) for batch in recorded(life)] == [
        (("b", "a"), [1, 2]),
        (("007",), [3]),
        (("7",), [4]),
    ]
    assert (ledger(life).texts_from, ledger(life).next_id) == (1, None)


def test_what_arrived_last_closes_a_bar_among_trades_of_one_time() -> None:
    life = Named()
    life.take(texts(("z", 5), ("y", 5), ("x", 5)), Clock(HOUR_NS + 60 * NS_PER_S))
    assert [(row.open, row.close) for row in life.candles(60)] == [(100.0, 102.0)]


def test_ids_stay_with_their_ticks_when_a_silence_cuts_a_batch() -> None:
    life = Named()
    after = 2.5 * SILENCE_STEPS
    life.take(texts(("a", 1), ("b", 2), ("c", after), ("d", after + 1)))
    assert [batch.ids for batch in recorded(life)] == [("a", "b"), ("c", "d")]
    assert life.names == ["a", "b", "c", "d"]
    assert [number for _, number in life.ticks] == [1, 2, 3, 4]


def test_integers_that_follow_texts_are_texts() -> None:
    life = Named()
    life.take(TickBatch(at(1, trade_id=500)), texts(("a", 2)), TickBatch(at(3, trade_id=501)))
    assert life.names == ["500", "a", "501"]
    assert [number for _, number in life.ticks] == [500, 2, 3]
    assert (ledger(life).texts_from, ledger(life).next_id) == (2, 501)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_late_ticks_end_in_the_rows_of_a_fold_in_order_of_time_and_arrival(draw: st.DataObject) -> None:
    seen = draw.draw(ticks(max_size=60))
    arriving = seen[np.array(draw.draw(st.permutations(range(len(seen)))), np.int64)]
    life, until_ns = Named(params=SLOW), 0
    for part in draw.draw(splits(len(seen))):
        life.take(TickBatch(arriving[part], ids=tuple(f"id {i}" for i in arriving["trade_id"][part])))
        until_ns = max(until_ns, int(arriving["ts_ns"][part].max()))
        if draw.draw(st.booleans()):
            life.rotate()
    assert life.names == [f"id {i}" for i in arriving["trade_id"]]
    assert_complete(life, by_arrival(arriving), until_ns)
    assert_announced(life)


def by_arrival(arriving: Ticks) -> Ticks:
    numbered = arriving.copy()
    numbered["trade_id"] = np.arange(1, len(arriving) + 1)
    return numbered


# Gaps that no id tells of


def gap_rows(life: Life) -> list[GapRow]:
    return cast("list[GapRow]", life.rows("data_gaps"))


def story(*inputs: Input) -> tuple[Life, list[Any]]:
    life = Life(params=SLOW)
    life.take(texts(("a", 1), ("b", 2), ("c", 3)), OPENED)
    life.rotate()
    events = life.take(*inputs)
    return life, [event for event in events if "GAP" in event.name]


def test_a_gap_without_ids_is_told_without_them() -> None:
    life = Life(params=SLOW)
    (event,) = life.take(OPENED)
    assert gap_rows(life) == [GapRow(1, None, None, HOUR_NS, HOUR_NS + 5, 77, "OPEN", None, 0, "reconnected")]
    assert data(event) == {
        "gap_id": 1,
        "first_missing_id": None,
        "last_missing_id": None,
        "from_time": "2024-08-09T12:00:00Z",
        "to_time": "2024-08-09T12:00:00.000000005Z",
        "detected_at": "1970-01-01T00:00:00.000000077Z",
        "status": "OPEN",
        "filled_at": None,
        "rows_filled": 0,
        "reason": "reconnected",
    }


def test_a_gap_without_ids_that_is_filled() -> None:
    filling = texts(("d", 2.5), ("e", 2.6))
    life, (event,) = story(filling, GapClosed(4, 99, 0, "given back by REST", rows=2))
    assert gap_rows(life) == [GapRow(1, None, None, HOUR_NS, HOUR_NS + 5, 77, "FILLED", 99, 2, "reconnected")]
    assert (event.name, data(event)["rows_filled"]) == ("DATA_GAP_FILLED", 2)
    assert (ledger(life).gaps, ledger(life).gaps_unfillable, ledger(life).next_id) == ([], 0, None)


def test_a_gap_without_ids_that_nobody_can_fill() -> None:
    life, (event,) = story(texts(("d", 2.5)), GapClosed(4, 99, 1, "beyond what REST lists", rows=1))
    (row,) = gap_rows(life)
    assert row[1:3] == (None, None)
    assert (row.status, row.rows_filled) == ("UNFILLABLE", 1)
    assert row.reason == "reconnected; beyond what REST lists"
    assert (event.name, ledger(life).gaps_unfillable, ledger(life).next_id) == ("DATA_GAP", 1, None)


def test_a_gap_without_ids_counts_no_integers_and_moves_no_edge() -> None:
    life = Life(params=SLOW)
    life.take(TickBatch(at(1, trade_id=90)), OPENED, TickBatch(at(2, trade_id=4)))
    assert [gap.rows_filled for gap in ledger(life).gaps] == [0]
    life.take(GapClosed(4, 99, 0, "", rows=0))
    assert gap_rows(life)[0].status == "FILLED"
    assert ledger(life).next_id == 91


# The last ids


def test_the_newest_trades_ids_are_remembered_in_order_of_time_and_no_more() -> None:
    life = Life(params=SLOW)
    life.take(texts(("late", 9), ("early", 3)), texts(("later", 10)))
    assert ledger(life).recent_ids == ["early", "late", "later"]
    many = [(f"id {n}", 11 + n / 1_000) for n in range(MAX_RECENT_IDS + 500)]
    life.take(texts(*many[:700]), texts(*many[700:]))
    life.rotate()
    assert ledger(life).recent_ids == [name for name, _ in many[500:]]


def test_trades_that_come_late_push_no_newer_one_out_of_memory() -> None:
    life = Life(params=SLOW)
    newest = [(f"new {n}", 100 + n / 1_000) for n in range(MAX_RECENT_IDS)]
    life.take(texts(*newest))
    life.take(texts(*[(f"late {n}", 50 + n / 1_000) for n in range(700)]))
    assert ledger(life).recent_ids == [name for name, _ in newest]
    assert len(ledger(life).recent_ns) == MAX_RECENT_IDS


@pytest.mark.parametrize("contiguous", [True, False])
def test_integers_are_remembered_where_they_are_not_contiguous(*, contiguous: bool) -> None:
    core = PairCore(state.new("bybit:spot:BTCUSDT", (60,)), Memory(), contiguous=contiguous)
    for record in core.records([TickBatch(np.concatenate([at(1, trade_id=900), at(2, trade_id=30)]))]):
        core.handle(1, record)
    assert core.state.ledger.recent_ids == ([] if contiguous else ["900", "30"])
    assert core.state.ledger.texts_from == 0


# States of before


def test_a_state_that_knew_of_none_of_this_is_read() -> None:
    life = Life(params=SLOW)
    life.take(TickBatch(at(1, trade_id=8)), GapOpened(10, 12, HOUR_NS, HOUR_NS + 5, 77, "ids jumped"))
    plain = cast("dict[str, Any]", msgspec.msgpack.decode(state.dump(life.core.state)))
    for name in ("texts_from", "recent_ids", "recent_ns"):
        del plain["ledger"][name]
    del plain["ledger"]["gaps"][0]["counted"]
    assert state.load(msgspec.msgpack.encode(plain)) == life.core.state
    assert names(life.events) == ["DATA_GAP"]
