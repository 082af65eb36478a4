"""How a record's analytics were made, as its file says: what a proof of them begins with."""

from __future__ import annotations

import duckdb
import msgspec


class _Profile(msgspec.Struct):
    bin_ticks: int
    va_share: float


class _Gaps(msgspec.Struct):
    require_middle_direction: bool
    min_gap_ticks: float
    min_gap_atr: float


class _State(msgspec.Struct):
    step_ns: int
    fast_half_life: float
    slow_half_life: float
    bullish: float
    bearish: float


class _Prices(msgspec.Struct):
    level: int
    window: int
    factor: float
    gamma: float
    gamma_ticks: float


class _Outliers(msgspec.Struct):
    price: _Prices


class Made(msgspec.Struct):
    """How a record's analytics were made, since `since_ns`."""

    since_ns: int
    profile: _Profile
    gaps: _Gaps
    state: _State
    outliers: _Outliers


def made(cursor: duckdb.DuckDBPyConnection) -> Made | None:
    """Read what the file says of it; None: it does not, or nothing that can be read."""
    found = cursor.execute("SELECT value FROM meta WHERE key = 'analytics'").fetchall()
    try:
        return msgspec.json.decode(found[0][0], type=Made) if found else None
    except msgspec.MsgspecError:
        return None
