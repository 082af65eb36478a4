"""Every venue that is spoken, by exchange and market."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from feeds import binance_spot, binance_usdm, bybit, coinbase, coinbase_advanced, kraken, okx
from feeds.venue import Venue

VENUES: Mapping[tuple[str, str], Venue] = MappingProxyType(
    {
        ("binance", "spot"): binance_spot.VENUE,
        ("binance", "futures"): binance_usdm.VENUE,
        ("bybit", "spot"): bybit.SPOT,
        ("bybit", "futures"): bybit.LINEAR,
        ("coinbase", "spot"): coinbase.VENUE,
        ("coinbase_advanced", "spot"): coinbase_advanced.VENUE,
        ("kraken", "spot"): kraken.VENUE,
        ("okx", "spot"): okx.SPOT,
        ("okx", "futures"): okx.FUTURES,
    },
)
