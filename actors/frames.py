"""One timeframe of a pair: its candles, and what is found in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from actors import facts
from actors.facts import Fact
from analytics import candles, fvg, zones
from analytics.panes import Pane
from analytics.params import AnalyticsParams
from market.rows import Candle, Row, timeframe_text
from market.times import NS_PER_S


class Frame(msgspec.Struct):
    """Gaps or zones that are None are not followed."""

    candles: candles.State
    gaps: fvg.State | None = None
    zones: zones.State | None = None

    @property
    def width_ns(self) -> int:
        return self.candles.bars.width_ns

    @property
    def timeframe(self) -> str:
        return timeframe_text(self.width_ns // NS_PER_S)

    def step(self, panes: Sequence[Pane]) -> list[Fact]:
        return self._facts(candles.step(self.candles, panes))

    def advance(self, watermark_ns: int) -> list[Fact]:
        return self._facts(candles.advance(self.candles, watermark_ns))

    def living(self) -> Iterable[tuple[str, str, Row]]:
        """Show the gaps and zones that may still change, with table and key."""
        if self.gaps is not None:
            yield from ((facts.GAPS, row.gap_id, row) for row in fvg.open_gaps(self.gaps))
        if self.zones is not None:
            yield from ((facts.ZONES, row.zone_id, row) for row in zones.active(self.zones))

    def _facts(self, closed: Sequence[Candle]) -> list[Fact]:
        if not closed:
            return []
        width_ns, timeframe = self.width_ns, self.timeframe
        made = [facts.candle(row, width_ns, timeframe) for row in closed]
        if self.gaps is not None:
            made += [
                facts.gap(change.row, change.event, row.ts_ns + width_ns)
                for row in closed
                for change in fvg.step(self.gaps, [row])
            ]
        if self.zones is not None:
            made += [facts.zone(change.row, change.event) for change in zones.step(self.zones, closed)]
        return made


def new(timeframe_s: int, params: AnalyticsParams, *, whole: bool = True) -> Frame:
    """Begin a timeframe; without `whole` its candles only."""
    width_ns, name = timeframe_s * NS_PER_S, timeframe_text(timeframe_s)
    if not whole:
        return Frame(candles.init(width_ns))
    gaps = fvg.init(width_ns, name, params.gaps, 0.0)
    return Frame(candles.init(width_ns), gaps, zones.init(width_ns, name, params.zones))
