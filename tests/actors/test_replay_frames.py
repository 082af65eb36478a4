"""Recorded frames through a whole pair: its tables are what the venue told, once, and are proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.spec import PairSpec, ReplaySource
from market.pairs import Pair
from market.times import NS_PER_S
from tests.actors.pair_support import QUICK, Tables, tables, working
from tests.feeds.test_replay_frames import DIALECTS, Script
from tests.support import eventually


async def replay(spec: PairSpec) -> Tables:
    async with working(spec) as service:
        await eventually(lambda: service.status().get("finished"), timeout_s=30)
        claims = await service.prove()
    assert [claim for claim in claims if not claim.ok] == []
    return tables(spec.folder)


def told(tmp_path: Path, market: str) -> Script:
    """Record three sessions: a good one, one that is cut, one that begins after an hour."""
    script = Script(tmp_path / "frames", market)
    script.begin()
    script.connect(1)
    for bid in range(30):
        script.trade(10, 1)
        script.quote(99 + bid / 8, 1)
    script.say(b"{", 1)
    script.trade(150)
    script.connect(2)
    script.trade(100, 2)
    script.now_ns += 100 * NS_PER_S
    script.begin()
    script.connect(1)
    script.trade(50, 1)
    return script


@pytest.mark.parametrize("market", DIALECTS)
async def test_tables_are_what_was_told_and_a_second_time_changes_nothing(
    tmp_path: Path, market: str
) -> None:
    script = told(tmp_path, market)
    folder, source = tmp_path / "data" / script.pair.path, ReplaySource(tuple(script.files))
    engine = replace(QUICK, timeframes_s=(5, 60))
    contiguous = script.venue.rules.contiguous
    spec = PairSpec(script.pair, script.pair.key, folder, source, engine, contiguous=contiguous)
    first = await replay(spec)
    stored = [row[5] for row in first["ticks"]]
    assert len(stored) == len(set(stored))
    assert set(stored) >= {script.ids[k] for k in [*range(300), *range(450, 600)]}
    assert len(first["quotes"]) >= 25
    assert len(first["rejected"]) == 1
    assert {row[6] for row in first["data_gaps"]} == {"UNFILLABLE"}
    again = await replay(spec)
    for table in ("ticks", "quotes", "rejected", "data_gaps", "candles_5s", "market_state"):
        assert again[table] == first[table], table


async def test_frames_of_one_pair_may_be_recorded_as_another(tmp_path: Path) -> None:
    script = told(tmp_path, "kraken:spot")
    pair = Pair("mine", "spot", "COPY")
    spec = PairSpec(pair, pair.key, tmp_path / "copy", ReplaySource(tuple(script.files)), QUICK)
    assert len((await replay(spec))["ticks"]) >= 450
