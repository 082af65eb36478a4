from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from daemon.analytics import AnalyticsSettings

PAGE = (Path(__file__).parents[2] / "docs/definitions.md").read_text(encoding="utf-8")
CITED = re.compile(r"definitions §(\d+(?:\.\d+)?)")


def test_every_parameter_is_told_where_it_counts() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE))
    assert {one.name for one in fields(AnalyticsSettings)} - told == set()


def test_the_sections_that_the_code_cites_are_there() -> None:
    root = Path(__file__).parents[2]
    files = [path for folder in ("analytics", "storage") for path in (root / folder).glob("*.py")]
    cited = {number for path in files for number in CITED.findall(path.read_text(encoding="utf-8"))}
    assert len(cited) > 5
    assert {number for number in cited if not re.search(rf"^(## |\| ){number} ", PAGE, re.MULTILINE)} == set()
