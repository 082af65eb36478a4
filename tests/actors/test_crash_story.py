"""Whatever happens to a pair, its record ends as if nothing had: 200 faults and more, from seeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.actors.crash_support import Reaper
from tests.actors.story import Story, differences

SEEDS = range(int(os.environ.get("STORY_SEED", "0")), int(os.environ.get("STORY_SEED", "0")) + 10)
FAULTS = 22


@pytest.mark.parametrize("seed", SEEDS)
def test_the_record_is_that_of_an_uninterrupted_life(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(seed, tmp_path, Reaper(monkeypatch))
    story.live(FAULTS)
    assert story.faults.total() >= FAULTS
    assert differences(story.tables(), story.plain()) == []
    assert story.faulty_claims() == []
    story.close()
