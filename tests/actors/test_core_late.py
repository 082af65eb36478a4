"""PairCore: what comes hours or days late restates bars at a bounded cost, and the rest goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors import past
from market.inputs import Clock, Input, Instrument, TickBatch
from market.rows import Candle
from market.ticks import Ticks
from market.times import DAY_NS, NS_PER_S
from storage.proof import prove
from storage.reads import begin
from tests.actors.core_support import HOUR_NS, Life, assert_announced, assert_complete, at, data
from tests.actors.pair_support import QUICK, ByHand, Tables, candles, tables
from tests.actors.test_core_record import START_NS, assert_same_record, in_one_go, jumpy
from tests.actors.test_core_record import TIMEFRAMES_S as NARROW_S
from tests.analytics.worlds import reference_candles, same_candles

TEN_DAYS_S = 864_000
KNOWN = Instrument(0.01)
ENGINE = replace(QUICK, timeframes_s=(60, 300, 900))


def effects_of(life: Life, late: Ticks) -> int:
    """Let ticks come; count the rows that this made."""
    made = [life.core.handle(number, record) for number, record in recorded(life, TickBatch(late))]
    for effects in made:
        life.write(effects.rows)
        life.events += effects.events
    return sum(
        len(rows)
        for effects in made
        for kind in (effects.rows.inserted, effects.rows.replaced, effects.rows.living)
        for rows in kind.values()
    )


def recorded(life: Life, *inputs: Input) -> list[tuple[int, list[Input]]]:
    """Journal what is to be handled."""
    records = list(life.core.records(inputs))
    assert len(records) == 1
    life.memory.records += records
    return [(len(life.memory.records), records[0])]


@pytest.mark.parametrize("rotates", [False, True])
def test_a_trade_ten_days_late_restates_bars_and_the_market_state_goes_on(rotates: bool) -> None:  # noqa: FBT001
    here = [at(10 * k, 100 + k % 7 / 4) for k in range(30)]
    life, ordered = Life(), Life()
    for one in (life, ordered):
        one.take(KNOWN, TickBatch(np.concatenate(here[:20])))
    if rotates:
        life.rotate()
    late = at(-TEN_DAYS_S, 99.0, trade_id=1_000_000)
    assert effects_of(life, late) < 100_000
    since_ns = life.core.state.ledger.since_ns
    assert since_ns == HOUR_NS + 190 * NS_PER_S
    if rotates:
        life.rotate()
    for one in (life, ordered):
        one.take(TickBatch(np.concatenate(here[20:])), Clock(HOUR_NS + 400 * NS_PER_S))
    seen = np.concatenate([late, *here])
    assert_complete(life, seen, HOUR_NS + 400 * NS_PER_S)
    assert_announced(life)
    assert life.rows("market_state") == ordered.rows("market_state")
    assert life.rows("market_profile")[0].total_volume == 1.0
    told = [e for e in life.events if e.name == "PHYSICS_UPDATE"]
    assert [data(e)["mass"] for e in told] == [row.mass for row in ordered.rows("market_state")]


def test_trades_a_little_late_after_one_that_was_very_late_end_in_the_same_bars() -> None:
    here = [at(10 * k, 100 + k % 7 / 4) for k in range(60)]
    life, late = Life(), at(-TEN_DAYS_S, 99.0, trade_id=1_000_000)
    order = [*here[:20], late, *here[22:30], here[20], *here[31:50], here[30], here[21], *here[50:]]
    for number, one in enumerate(order):
        life.take(TickBatch(one))
        if number == 30:
            life.rotate()
            life.take(Clock(HOUR_NS + 310 * NS_PER_S))
    assert_complete(life, np.concatenate([late, *here]), HOUR_NS + 590 * NS_PER_S)
    assert_announced(life)


@pytest.mark.parametrize(("steps", "is_whole"), [(past.MAX_STEPS, True), (past.MAX_STEPS + 1, False)])
def test_as_many_steps_as_the_bound_are_made_again(steps: int, is_whole: bool) -> None:  # noqa: FBT001
    life = Life((900,))
    life.take(TickBatch(at(0, 100.0, trade_id=1)))
    life.rotate()
    life.take(TickBatch(at(10, 100.0, trade_id=2)))
    life.take(TickBatch(at(10 - steps, 101.0, trade_id=3)))
    assert (life.core.state.ledger.since_ns == 0) == is_whole
    assert len(life.rows("market_state")) == (steps if is_whole else 10)


def test_steps_count_from_where_the_way_back_begins() -> None:
    life = Life((900,))
    life.take(TickBatch(at(-7 * 3_600, 100.0, trade_id=1)))
    life.rotate()
    life.take(TickBatch(at(10, 100.0, trade_id=2)))
    life.take(TickBatch(at(0, 101.0, trade_id=3)))  # the only state is seven hours old
    assert life.core.state.ledger.since_ns == HOUR_NS + 10 * NS_PER_S


def test_what_is_within_the_bound_is_what_it_always_was() -> None:
    seen = jumpy(11, 500)
    late = np.zeros(1, seen.dtype)
    late["ts_ns"], late["trade_id"], late["price"], late["size"] = START_NS - 1_800 * NS_PER_S, 1, 100.0, 2.0
    life, until_ns = Life(NARROW_S), int(seen["ts_ns"].max())
    life.take(KNOWN)
    for part in (*np.array_split(seen, 7), late):
        life.take(TickBatch(part))
        life.rotate()
    assert life.core.state.ledger.since_ns == 0
    assert_same_record(life, in_one_go(np.concatenate([late, seen]), until_ns, KNOWN))


def begun(folder: Path) -> tuple[ByHand, Ticks, Ticks]:
    """Let a pair live for an hour, and give the trade that comes ten days late and what follows."""
    pair, seen = ByHand(folder, ENGINE), jumpy(5, 3_000)
    pair.take(KNOWN)
    for part in np.split(seen[:2_000], range(137, 2_000, 137)):
        pair.take(TickBatch(part))
        pair.rotate()
    late = seen[:1].copy()
    late["ts_ns"], late["trade_id"] = late["ts_ns"] - 10 * DAY_NS, int(seen["trade_id"][0]) - 1
    return pair, late, seen


def assert_proven(pair: ByHand) -> None:
    proven = prove(begin(pair.files.hot.connection), pair.files.core.open_rows(), ENGINE.timeframes_s)
    assert [claim for claim in proven if not claim.ok] == []


def ended(pair: ByHand, folder: Path, rest: Ticks) -> Tables:
    pair.take(TickBatch(rest))
    pair.flush()
    assert_proven(pair)
    pair.close()
    return tables(folder)


def assert_in_order(read: Tables, seen: Ticks) -> None:
    for timeframe_s in ENGINE.timeframes_s:
        found: list[Candle] = [row._replace(revision=0) for row in candles(read, timeframe_s)]
        assert same_candles(found, reference_candles(seen, timeframe_s * NS_PER_S, int(seen["ts_ns"].max())))
    assert len(read["events"]) < 100_000
    assert [row[0] for row in read["events"]] == list(range(1, len(read["events"]) + 1))


def test_a_record_with_a_trade_ten_days_late_is_proven(tmp_path: Path) -> None:
    pair, late, seen = begun(tmp_path / "pair")
    pair.take(TickBatch(late))
    assert_in_order(ended(pair, tmp_path / "pair", seen[2_000:]), np.concatenate([late, seen]))


def test_a_journal_that_a_trade_ten_days_late_had_ended_goes_on(tmp_path: Path) -> None:
    pair, late, seen = begun(tmp_path / "pair")
    pair.flush()
    for record in pair.files.core.records([TickBatch(late)]):
        pair.files.journal.append(record)  # and nothing more: the fold never came back
    pair.close()
    again = ByHand(tmp_path / "pair", ENGINE)
    assert_in_order(ended(again, tmp_path / "pair", seen[2_000:]), np.concatenate([late, seen]))
