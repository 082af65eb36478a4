"""The parameters of a pair's analytics as the configuration spells them: one flat table, each bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

if TYPE_CHECKING:
    from analytics import market_state, zones
    from analytics.params import AnalyticsParams

Share = Annotated[float, Meta(gt=0, le=1)]
Factor = Annotated[float, Meta(gt=0, le=1_000)]
Least = Annotated[float, Meta(ge=0, le=1_000_000)]
Bars = Annotated[int, Meta(ge=1, le=1_000)]
HalfLife = Annotated[float, Meta(ge=2, le=86_400)]
Steps = Annotated[int, Meta(ge=1, le=86_400)]
Window = Annotated[int, Meta(ge=2, le=10_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsSettings:
    """The defaults are the product's; half-lives and windows of the state are in its steps."""

    profile_bin_ticks: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    profile_value_area: Share = 0.70
    profile_va_step: Annotated[int, Meta(ge=1, le=2)] = 2
    fvg_require_middle_direction: bool = True
    fvg_min_gap_ticks: Least = 0.0
    fvg_min_gap_atr: Least = 0.0
    zone_atr_bars: Bars = 14
    zone_base_range: Factor = 1.0
    zone_base_body: Share = 0.5
    zone_base_bars: Bars = 6
    zone_impulse_body: Factor = 1.5
    zone_impulse_share: Share = 0.6
    zone_volume_bars: Bars = 20
    zone_decay: Share = 0.75
    state_fast_half_life: HalfLife = 60.0
    state_slow_half_life: HalfLife = 600.0
    state_volatility_half_life: HalfLife = 300.0
    state_momentum_steps: Steps = 60
    state_entropy_steps: Steps = 300
    state_entropy_needs: Steps = 30
    state_equilibrium_steps: Steps = 900
    state_tail_steps: Steps = 1_800
    state_tail_share: Share = 0.05
    state_tail_least: Steps = 10
    state_tail_needs: Steps = 100
    sentiment_bullish: Share = 0.55
    sentiment_bearish: Annotated[float, Meta(ge=0, lt=1)] = 0.45
    price_outlier_level: Annotated[int, Meta(ge=1, le=1_000)] = 5
    price_outlier_window: Window = 100
    price_outlier_factor: Factor = 5.0
    price_outlier_gamma: Annotated[float, Meta(gt=0, le=1)] = 0.0005
    price_outlier_gamma_ticks: Least = 2.0
    size_outlier_window: Window = 500
    size_outlier_needs: Window = 100
    size_outlier_z: Factor = 4.0

    def impossible(self) -> Iterator[tuple[str, str]]:
        """Name keys whose values are each possible, but not beside one another, with the reason."""
        if self.state_fast_half_life > self.state_slow_half_life:
            yield "state_fast_half_life", f"exceeds state_slow_half_life ({self.state_slow_half_life:g})"
        if self.state_entropy_needs > self.state_entropy_steps:
            yield "state_entropy_needs", f"exceeds state_entropy_steps ({self.state_entropy_steps})"
        if self.state_tail_needs > self.state_tail_steps:
            yield "state_tail_needs", f"exceeds state_tail_steps ({self.state_tail_steps})"
        largest = max(self.state_tail_least, int(self.state_tail_share * self.state_tail_needs))
        if largest >= self.state_tail_needs:
            yield "state_tail_needs", f"leaves no return behind the {largest} largest"
        if self.sentiment_bearish >= self.sentiment_bullish:
            yield "sentiment_bearish", f"reaches sentiment_bullish ({self.sentiment_bullish:g})"
        if self.size_outlier_needs > self.size_outlier_window:
            yield "size_outlier_needs", f"exceeds size_outlier_window ({self.size_outlier_window})"

    def params(self, state_step_s: int) -> AnalyticsParams:
        """Say the same as the folds are told it."""
        # numpy, which `marketd status` lives without
        from analytics import anomaly, fvg, price_outliers, profile, size_outliers  # noqa: PLC0415
        from analytics.params import AnalyticsParams  # noqa: PLC0415

        return AnalyticsParams(
            profile=profile.Params(self.profile_bin_ticks, self.profile_value_area, self.profile_va_step),
            gaps=fvg.Params(
                require_middle_direction=self.fvg_require_middle_direction,
                min_gap_ticks=self.fvg_min_gap_ticks,
                min_gap_atr=self.fvg_min_gap_atr,
            ),
            zones=self._zones(),
            state=self._state(state_step_s),
            outliers=anomaly.Params(
                price_outliers.Params(
                    self.price_outlier_level,
                    self.price_outlier_window,
                    self.price_outlier_factor,
                    self.price_outlier_gamma,
                    self.price_outlier_gamma_ticks,
                ),
                size_outliers.Params(self.size_outlier_window, self.size_outlier_needs, self.size_outlier_z),
            ),
        )

    def _zones(self) -> zones.Params:
        from analytics import zones  # noqa: PLC0415 - as above

        return zones.Params(
            atr_bars=self.zone_atr_bars,
            base_range=self.zone_base_range,
            base_body=self.zone_base_body,
            base_bars=self.zone_base_bars,
            impulse_body=self.zone_impulse_body,
            impulse_share=self.zone_impulse_share,
            volume_bars=self.zone_volume_bars,
            decay=self.zone_decay,
        )

    def _state(self, step_s: int) -> market_state.Params:
        from analytics import market_state  # noqa: PLC0415 - as above
        from market.times import NS_PER_S  # noqa: PLC0415

        return market_state.Params(
            step_ns=step_s * NS_PER_S,
            fast_half_life=self.state_fast_half_life,
            slow_half_life=self.state_slow_half_life,
            volatility_half_life=self.state_volatility_half_life,
            momentum_steps=self.state_momentum_steps,
            entropy_steps=self.state_entropy_steps,
            entropy_needs=self.state_entropy_needs,
            equilibrium_steps=self.state_equilibrium_steps,
            tail_steps=self.state_tail_steps,
            tail_share=self.state_tail_share,
            tail_least=self.state_tail_least,
            tail_needs=self.state_tail_needs,
            bullish=self.sentiment_bullish,
            bearish=self.sentiment_bearish,
        )
