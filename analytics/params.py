"""The parameters of a pair's analytics, one group a fold."""

from __future__ import annotations

import msgspec

from analytics import anomaly, fvg, market_state, profile, zones


class AnalyticsParams(msgspec.Struct, frozen=True):
    profile: profile.Params = profile.Params()
    gaps: fvg.Params = fvg.Params()
    zones: zones.Params = zones.Params()
    state: market_state.Params = market_state.Params()
    outliers: anomaly.Params = anomaly.Params()
