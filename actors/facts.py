"""What the folds make: rows of tables, each with the event that tells of it. Pure."""

from __future__ import annotations

from math import isclose
from typing import Any, NamedTuple

from actors.payloads import payload
from analytics import order_flow
from market.rows import Candle, FairValueGap, MarketProfile, MarketState, OrderFlow, Row, Zone

GAPS, ZONES = "fair_value_gaps", "supply_demand_zones"


class Fact(NamedTuple):
    """A row, and how it is announced: as `event`, or as `again` when it is restated; "" is not announced.

    A living row (`lives`) is a version of one that changes; the others are closed, one for each time.
    """

    table: str
    row: Any
    end_ns: int
    event: str
    again: str
    timeframe: str = ""  # of a candle
    lives: bool = False

    @property
    def key(self) -> tuple[str, Any]:
        return self.table, self.row[0] if self.lives else self.row.ts_ns

    @property
    def told(self) -> tuple[str, str, int]:
        """Say what a living row's announcement is about; zones are tested more than once."""
        return self.row[0], self.event, getattr(self.row, "touches", 0)

    @property
    def payload(self) -> bytes:
        return payload(self.row, timeframe=self.timeframe) if self.timeframe else payload(self.row)


def candle(row: Candle, width_ns: int, timeframe: str) -> Fact:
    end_ns = row.ts_ns + width_ns
    return Fact(f"candles_{timeframe}", row, end_ns, "CANDLE_CLOSED", "CANDLE_RESTATED", timeframe)


def flow(row: OrderFlow) -> Fact:
    return Fact("order_flow", row, row.ts_ns + order_flow.WIDTH_NS, "ORDER_FLOW", "ORDER_FLOW")


def profile(row: MarketProfile) -> Fact:
    return Fact("market_profile", row, row.ts_ns, "PROFILE_UPDATE", "PROFILE_UPDATE")


def state(row: MarketState) -> Fact:
    return Fact("market_state", row, row.ts_ns, "PHYSICS_UPDATE", "PHYSICS_UPDATE")


def gap(row: FairValueGap, event: str, end_ns: int) -> Fact:
    return Fact(GAPS, row, end_ns, event, event, lives=True)


def zone(row: Zone, event: str) -> Fact:
    return Fact(ZONES, row, row.updated_ns, event, event, lives=True)


def same(a: Row, b: Row) -> bool:
    """Compare counts and prices exactly, sums to 1e-9: their last bits depend on how the ticks came."""
    if a == b:
        return True
    exact = _EXACT[type(a)]
    least = 1e-9 * (a[1] + a[2]) if isinstance(a, OrderFlow) else 1e-9 if isinstance(a, MarketState) else 0.0
    return a[:exact] == b[:exact] and all(
        _close(x, y, least) for x, y in zip(a[exact:], b[exact:], strict=True)
    )


_EXACT: dict[type[Any], int] = {
    Candle: 5,
    OrderFlow: 1,
    MarketProfile: 5,
    MarketState: 1,
    FairValueGap: len(FairValueGap._fields),
    Zone: 5,
}
"""How many columns, from the first on, are prices, times or names."""


def _close(x: Any, y: Any, least: float) -> bool:
    if isinstance(x, float) and isinstance(y, float):
        return isclose(x, y, rel_tol=1e-9, abs_tol=least)
    return bool(x == y)
