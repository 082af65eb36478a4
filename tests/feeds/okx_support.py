"""Messages, instruments and answers as documented."""

from __future__ import annotations

from typing import Any

from tests.feeds.json_support import raw

AT_NS = 1_723_161_600_000_000_000
MS = 1_000_000
SYMBOL = "BTC-USDT"
ROW = {  # as documented, of trades-all and of REST alike
    "instId": SYMBOL,
    "tradeId": "130639474",
    "px": "42219.9",
    "sz": "0.12060306",
    "side": "buy",
    "source": "0",
    "ts": "1630048897897",
}
TICK = (130639474, 1630048897897 * MS, 42219.9, 0.12060306, AT_NS, 1)

TICKER = {
    "instType": "SPOT",
    "instId": SYMBOL,
    "last": "9999.99",
    "lastSz": "0.1",
    "askPx": "9999.99",
    "askSz": "11",
    "bidPx": "8888.88",
    "bidSz": "5",
    "open24h": "9000",
    "high24h": "10000",
    "low24h": "8888.88",
    "volCcy24h": "2222",
    "vol24h": "2222",
    "sodUtc0": "2222",
    "sodUtc8": "2222",
    "ts": "1597026383085",
}
UPGRADE = "The connection will soon be closed for a service upgrade. Please reconnect."


def pushed(channel: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"arg": {"channel": channel, "instId": SYMBOL}, "data": list(rows)}


TRADES, TICKERS = pushed("trades-all", ROW), pushed("tickers", TICKER)


def reply(*rows: object, code: object = "0", msg: str = "") -> bytes:
    return raw({"code": code, "msg": msg, "data": list(rows)})


INSTRUMENT = {
    "instId": SYMBOL,
    "instType": "SPOT",
    "state": "live",
    "tickSz": "0.1",
    "ctType": "",
    "ctVal": "",
}
SWAP = {
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "state": "live",
    "tickSz": "0.1",
    "ctType": "linear",
    "ctVal": "0.01",
    "ctMult": "1",
    "ctValCcy": "BTC",
}
