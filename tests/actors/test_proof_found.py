"""The proof of what is found in trades and bars: it holds for a true record, and each damage shows."""

# ruff: noqa: S608 - tables of ours

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.recovery import open_pair
from market.inputs import Clock, Instrument, TickBatch
from market.times import NS_PER_S
from storage.proof import prove
from storage.reads import begin
from tests.actors.pair_support import PAIR, QUICK, ByHand
from tests.actors.test_core_record import TIMEFRAMES_S, jumpy

ENGINE = replace(QUICK, timeframes_s=TIMEFRAMES_S)
TOTAL = "market_profile has a row for every minute with trades, with the volume of its session up to then"
AREA = "the last market_profile of each session has its poc and value area where ticks say"
STEPS = "market_state has a row at the end of every step, none missing"
BOUNDS = "market_state is within its bounds, regime and label are what alpha and score say"
LATEST = "mass and sentiment_score of the last market_state are those of the ticks"
FLAGS = "outlier_flag of the last 2,000 ticks is what the prices before them say"
GAPS = "fair_value_gaps of 5s are those of candles_5s, filled as far as its bars came"
ZONES = "supply_demand_zones of 5s were left by a bar, and broken by the first that closed beyond"

GAPS_TOLD = "fair_value_gaps of 5s are those that were announced"
ZONES_TOLD = "supply_demand_zones of 5s are those that were announced"
JOURNALED = "the newest ticks are those of the journal"
MADE = "meta says how profiles, gaps, zones, states and flags were made"


def said(table: str, event: str = "") -> str:
    return f"{table} is what its latest events said{event and ': '}{event}"


PROFILE_SAID, STATE_SAID, ZONES_SAID = map(said, ("market_profile", "market_state", "supply_demand_zones"))
OPENED, FILLED = said("fair_value_gaps", "FVG_OPENED"), said("fair_value_gaps", "FVG_FILLED")

LAST_PROFILE = "timestamp = (SELECT max(timestamp) FROM market_profile)"
A_STATE = "timestamp = (SELECT timestamp FROM market_state ORDER BY timestamp OFFSET 500 LIMIT 1)"
LAST_STATE = "timestamp = (SELECT max(timestamp) FROM market_state)"
A_GAP = "gap_id = (SELECT min(gap_id) FROM fair_value_gaps WHERE timeframe = '5s' AND status = '{}')"
A_ZONE = "zone_id = (SELECT min(zone_id) FROM supply_demand_zones WHERE timeframe = '5s' AND status = '{}')"
LAST_TICK = "seq = (SELECT max(seq) FROM ticks)"
FLAGGED = "seq = (SELECT arg_max(seq, timestamp) FROM ticks WHERE outlier_flag = 1)"
DAMAGE: dict[str, tuple[str, set[str]]] = {
    "a profile gone": (f"DELETE FROM market_profile WHERE {LAST_PROFILE}", {TOTAL, PROFILE_SAID}),
    "all profiles gone": ("DELETE FROM market_profile", {TOTAL, PROFILE_SAID}),
    "a profile too many": (
        (
            "INSERT INTO market_profile SELECT * REPLACE (timestamp + INTERVAL 1 MINUTE AS timestamp) "
            f"FROM market_profile WHERE {LAST_PROFILE}"
        ),
        {TOTAL, AREA, PROFILE_SAID},
    ),
    "a profile's volume": (
        f"UPDATE market_profile SET total_volume = total_volume * 1.00001 WHERE {LAST_PROFILE}",
        {TOTAL, PROFILE_SAID},
    ),
    "a profile's poc": (
        f"UPDATE market_profile SET poc = value_area_low WHERE {LAST_PROFILE}",
        {AREA, PROFILE_SAID},
    ),
    "a value area too small": (
        f"UPDATE market_profile SET value_area_low = poc, value_area_high = poc WHERE {LAST_PROFILE}",
        {AREA, PROFILE_SAID},
    ),
    "a profile never announced": (
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events WHERE event = 'PROFILE_UPDATE')",
        {"events.seq counts 1, 2, 3 without hole or double", PROFILE_SAID},
    ),
    "a step gone": (f"DELETE FROM market_state WHERE {A_STATE}", {STEPS, STATE_SAID}),
    "the last step gone": (f"DELETE FROM market_state WHERE {LAST_STATE}", {STEPS, STATE_SAID}),
    "all steps but the first gone": (
        "DELETE FROM market_state WHERE timestamp > (SELECT min(timestamp) FROM market_state)",
        {STEPS, STATE_SAID},
    ),
    "all steps gone": ("DELETE FROM market_state", {STEPS, STATE_SAID}),
    "a step too many": (
        (
            "INSERT INTO market_state SELECT * REPLACE (timestamp + INTERVAL 1 SECOND AS timestamp) "
            f"FROM market_state WHERE {LAST_STATE}"
        ),
        {LATEST, STATE_SAID},
    ),
    "a step twice": (f"INSERT INTO market_state FROM market_state WHERE {A_STATE}", {STEPS, STATE_SAID}),
    "a regime": (f"UPDATE market_state SET regime = 'Levi' WHERE {A_STATE}", {BOUNDS, STATE_SAID}),
    "a label": (f"UPDATE market_state SET sentiment_label = 'Bull' WHERE {A_STATE}", {BOUNDS, STATE_SAID}),
    "an entropy": (f"UPDATE market_state SET entropy = 1.5 WHERE {A_STATE}", {BOUNDS, STATE_SAID}),
    "a momentum": (f"UPDATE market_state SET momentum = momentum + 1e-9 WHERE {A_STATE}", {STATE_SAID}),
    "the last mass": (
        f"UPDATE market_state SET mass = mass * 1.0001 WHERE {LAST_STATE}",
        {LATEST, STATE_SAID},
    ),
    "a gap gone": (f"DELETE FROM fair_value_gaps WHERE {A_GAP.format('FILLED')}", {GAPS, GAPS_TOLD}),
    "all gaps gone": ("DELETE FROM fair_value_gaps WHERE timeframe = '5s'", {GAPS, GAPS_TOLD}),
    "a gap's edge": (
        f"UPDATE fair_value_gaps SET top = top + 1 WHERE {A_GAP.format('FILLED')}",
        {GAPS, OPENED},
    ),
    "a gap filled too soon": (
        f"UPDATE fair_value_gaps SET filled_at = created_at WHERE {A_GAP.format('FILLED')}",
        {GAPS, FILLED},
    ),
    "a gap's percentage": (
        f"UPDATE fair_value_gaps SET filled_pct = filled_pct + 0.1 WHERE {A_GAP.format('PARTIAL')}",
        {GAPS},
    ),
    "a gap said to be open": (
        f"UPDATE fair_value_gaps SET status = 'OPEN' WHERE {A_GAP.format('PARTIAL')}",
        {GAPS},
    ),
    "a gap without bars": (
        (
            "INSERT INTO fair_value_gaps SELECT * REPLACE ('5s:2024-08-08T00:00:00Z' AS gap_id) "
            "FROM fair_value_gaps WHERE timeframe = '5s' LIMIT 1"
        ),
        {GAPS, GAPS_TOLD},
    ),
    "a zone broken by nothing": (
        (
            f"UPDATE supply_demand_zones SET status = 'BROKEN', broken_at = updated_at "
            f"WHERE {A_ZONE.format('TESTED')}"
        ),
        {ZONES, ZONES_SAID},
    ),
    "a zone broken too late": (
        (
            f"UPDATE supply_demand_zones SET broken_at = broken_at + INTERVAL 5 SECOND "
            f"WHERE {A_ZONE.format('BROKEN')}"
        ),
        {ZONES, ZONES_SAID},
    ),
    "a zone's strength": (
        f"UPDATE supply_demand_zones SET strength = strength * 0.9 WHERE {A_ZONE.format('BROKEN')}",
        {ZONES_SAID},
    ),
    "a zone of no bar": (
        (
            f"UPDATE supply_demand_zones SET created_at = created_at - INTERVAL 1 DAY "
            f"WHERE {A_ZONE.format('BROKEN')}"
        ),
        {ZONES, ZONES_SAID},
    ),
    "a zone gone": (f"DELETE FROM supply_demand_zones WHERE {A_ZONE.format('BROKEN')}", {ZONES_TOLD}),
    "all zones gone": ("DELETE FROM supply_demand_zones WHERE timeframe = '5s'", {ZONES_TOLD}),
    "a zone too many": (
        (
            "INSERT INTO supply_demand_zones SELECT * REPLACE ('5s:2024-08-08T00:00:00Z' AS zone_id) "
            f"FROM supply_demand_zones WHERE {A_ZONE.format('BROKEN')}"
        ),
        {ZONES_TOLD},
    ),
    "a tick's time": (
        f"UPDATE ticks SET timestamp = timestamp + INTERVAL 1 MICROSECOND WHERE {LAST_TICK}",
        {JOURNALED},
    ),
    "when a tick was received": (
        f"UPDATE ticks SET received_at = received_at + INTERVAL 1 MICROSECOND WHERE {LAST_TICK}",
        {JOURNALED},
    ),
    "neighbours exchanged": (
        (
            "UPDATE ticks SET price = o.price, volume = o.volume, side = o.side FROM ticks o "
            "WHERE ticks.seq IN (11, 12) AND o.seq = 23 - ticks.seq"
        ),
        {JOURNALED},
    ),
    "an outlier that is none": (f"UPDATE ticks SET outlier_flag = 0 WHERE {FLAGGED}", {FLAGS}),
    "a flag too many": (
        f"UPDATE ticks SET outlier_flag = 1 WHERE {FLAGGED.replace('= 1', '= 0')}",
        {FLAGS},
    ),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let a pair live with late ticks, clocks and restarts until there is something of everything."""
    folder = tmp_path_factory.mktemp("original") / "pair"
    pair, ticks = ByHand(folder, ENGINE), jumpy(4, 3_000)
    late = np.zeros(len(ticks), np.bool_)
    late[900:960] = True
    pair.take(Instrument(0.01))
    for part in (*np.split(ticks[~late], range(137, 2_900, 137)), ticks[late]):
        pair.take(TickBatch(part))
        pair.rotate()
    pair.take(Clock(int(ticks["ts_ns"][-1]) + 3 * NS_PER_S))
    pair.flush()
    pair.files.hot.checkpoint()
    pair.close()
    return folder


@pytest.fixture
def pair(original: Path, tmp_path: Path) -> Iterator[ByHand]:
    shutil.copytree(original, tmp_path / "pair")
    living = ByHand(tmp_path / "pair", ENGINE)
    yield living
    living.close()


def claims(pair: ByHand) -> dict[str, str]:
    """Give the claims that fail, with the reason."""
    proven = prove(begin(pair.files.hot.connection), pair.files.core.open_rows(), TIMEFRAMES_S)
    return {claim.text: claim.detail for claim in proven if not claim.ok}


def test_a_true_record_is_proven(pair: ByHand) -> None:
    proven = prove(begin(pair.files.hot.connection), pair.files.core.open_rows(), TIMEFRAMES_S)
    assert [claim for claim in proven if not claim.ok] == []
    compared = {claim.text: int(claim.detail.split()[0].replace(",", "")) for claim in proven}
    for text in (
        MADE,
        GAPS_TOLD,
        ZONES_TOLD,
        TOTAL,
        AREA,
        STEPS,
        BOUNDS,
        LATEST,
        FLAGS,
        GAPS,
        ZONES,
        OPENED,
        FILLED,
        STATE_SAID,
    ):
        assert compared[text] > 0, text


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_fails_its_claims_and_no_other(pair: ByHand, damage: str) -> None:
    sql, texts = DAMAGE[damage]
    ((changed,),) = pair.files.hot.connection.execute(sql).fetchall()
    assert changed
    assert claims(pair).keys() == texts


@pytest.mark.parametrize("lost", ["DELETE FROM meta", "UPDATE meta SET value = '{}'"])
def test_a_record_that_does_not_say_how_it_was_made_is_not_proven(pair: ByHand, lost: str) -> None:
    pair.files.hot.connection.execute(f"{lost} WHERE key = 'analytics'")
    assert claims(pair).keys() == {MADE}
    for table in ("market_state", "market_profile", "fair_value_gaps", "supply_demand_zones"):
        pair.files.hot.connection.execute(f"DELETE FROM {table}")
    assert claims(pair).keys() == {MADE}


def test_a_record_is_proven_whoever_rebuilds_it(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "pair")
    (folder / "trading.duckdb").unlink()
    (folder / "trading.duckdb.wal").unlink(missing_ok=True)
    files = open_pair(folder, PAIR, ENGINE)
    proven = prove(begin(files.hot.connection), files.core.open_rows(), TIMEFRAMES_S)
    assert [claim for claim in proven if not claim.ok] == []
    files.close()
