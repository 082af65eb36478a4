"""Two trades as the stream and REST tell them, and their ticks."""

from __future__ import annotations

from tests.feeds.coinbase_support import AT_NS

# Messages in the form recorded in 2026-08 and documented in 2026-06.
OLDER = {
    "product_id": "BTC-USD",
    "trade_id": "1068572095",
    "price": "65083.67",
    "size": "0.00322434",
    "time": "2026-08-09T21:05:51.376358Z",
    "side": "SELL",
}
NEWER = {
    "product_id": "BTC-USD",
    "trade_id": "1068572096",
    "price": "65083.66",
    "size": "0.00100346",
    "time": "2026-08-09T21:05:51.42686Z",
    "side": "BUY",
}
FIRST = (1068572095, 1_786_309_551_376_358_000, 65083.67, 0.00322434, AT_NS, 1)
SECOND = (1068572096, 1_786_309_551_426_860_000, 65083.66, 0.00100346, AT_NS, -1)
