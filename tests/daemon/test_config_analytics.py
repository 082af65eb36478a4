from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from analytics.params import AnalyticsParams
from daemon.analytics import AnalyticsSettings
from tests.daemon.config_support import OTHER, PAIR, given_file, refusal


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_unknown_parameter_is_refused_where_it_stands() -> None:
    known = "(known: profile_bin_ticks, profile_value_area, "
    text = PAIR + "analytics.fvg_size = 1\n" + "[analytics]\natr = 1\n"
    first, second = refusal(text).split("; ")
    assert first.startswith(f"config.toml: analytics.atr: unknown key {known}")
    assert second.startswith(f"config.toml: pairs[0].analytics.fvg_size: unknown key {known}")


def parameters(text: str, env: dict[str, str] | None = None) -> list[AnalyticsParams]:
    found = [spec.params for spec in given_file(text, env).pair_specs()]
    return [params for params in found if params is not None]


def test_the_parameters_are_the_products_unless_all_pairs_or_one_have_others() -> None:
    (usual,) = parameters(PAIR)
    assert usual == AnalyticsParams()
    one, other = parameters(
        PAIR
        + "state_step_s = 60\nanalytics = { zone_atr_bars = 20, size_outlier_z = 5 }\n"
        + OTHER
        + "[analytics]\nzone_atr_bars = 10\nprofile_bin_ticks = 4\nsentiment_bullish = 0.6\n",
        {"MARKETD__ANALYTICS__FVG_MIN_GAP_TICKS": "3"},
    )
    assert (one.zones.atr_bars, other.zones.atr_bars) == (20, 10)
    assert (one.state.step_ns, other.state.step_ns) == (60 * 10**9, 10**9)
    assert (one.outliers.size.z, other.outliers.size.z) == (5.0, 4.0)
    for params in (one, other):
        assert params.profile.bin_ticks == 4
        assert (params.state.bullish, params.gaps.min_gap_ticks) == (0.6, 3.0)


def test_each_parameter_reaches_a_fold_of_its_own() -> None:
    usual = AnalyticsSettings()
    seen = {usual.params(1)}
    for one in fields(usual):
        value: Any = getattr(usual, one.name)
        other: Any = (
            not value if isinstance(value, bool) else value / 2 if isinstance(value, float) else value + 1
        )
        if one.name in {"fvg_min_gap_ticks", "fvg_min_gap_atr"}:
            other = 1.0
        seen.add(replace(usual, **{one.name: other}).params(1))
    assert len(seen) == 1 + len(fields(usual))
