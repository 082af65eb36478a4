"""Every venue's dialect, and waits cut short."""

from __future__ import annotations

import pytest

from feeds import connection, overlap, pace, silence, splicer
from feeds.intake import IntakeRules
from market.times import NS_PER_S
from tests.feeds.dialect import Dialect
from tests.feeds.dialects import binance_spot, binance_usdm, bybit, kraken, okx
from tests.feeds.dialects.coinbase import CoinbaseDialect
from tests.feeds.dialects.coinbase_advanced import CoinbaseAdvancedDialect
from tests.feeds.venue_listener import Listener

DIALECTS: dict[str, Dialect] = {
    "binance-spot": binance_spot.DIALECT,
    "binance-usdm": binance_usdm.DIALECT,
    "bybit-spot": bybit.SPOT,
    "bybit-linear": bybit.LINEAR,
    "coinbase": CoinbaseDialect(),
    "coinbase-advanced": CoinbaseAdvancedDialect(),
    "kraken": kraken.DIALECT,
    "okx-spot": okx.SPOT,
    "okx-futures": okx.FUTURES,
}
SNAPSHOTS = {"coinbase-advanced", "kraken"}  # begin with the newest trades, so that a short cut is no jump
IMPATIENT = IntakeRules(stale_after_s=0.4, close_grace_ms=200, quotes_interval_ms=50)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what takes seconds take a tenth."""
    monkeypatch.setattr(connection, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    monkeypatch.setattr(pace, "RETRY_NS", NS_PER_S // 50)
    monkeypatch.setattr(pace, "RETRY_MAX_NS", NS_PER_S // 10)
    for module in (splicer, overlap):
        monkeypatch.setattr(module, "TOLD_NS", NS_PER_S // 5)
    monkeypatch.setattr(silence, "VERDICT_NS", NS_PER_S // 5)
    monkeypatch.setattr(overlap, "AUDIT_NS", NS_PER_S // 5)
    monkeypatch.setattr(overlap, "TRUST_NS", NS_PER_S // 5)


def shorten_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let live ticks wait for a hole for a fifth of a second."""
    for module in (splicer, overlap):
        monkeypatch.setattr(module, "WAIT_NS", NS_PER_S // 5)


def all_filled(seen: Listener) -> bool:
    return all(gap.closed is not None and not gap.closed.missing for gap in seen.gaps)
