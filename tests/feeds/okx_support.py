"""Rows, instruments and answers as documented."""

from __future__ import annotations

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
