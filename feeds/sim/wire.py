"""What the venue writes: payloads of streams, rows of REST, websocket frames of a server."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from feeds.sim.tape import E8, Aggregate, Trade, decimal_text
from market.times import NS_PER_MS

_BOOL = ("false", "true")


def trade_json(symbol: str, trade: Trade, event_ms: int) -> str:
    trade_id, ts_ns, price, size, maker = trade
    return (
        f'{{"e":"trade","E":{event_ms},"s":"{symbol}","t":{trade_id},"p":"{price}","q":"{size}",'
        f'"T":{ts_ns // NS_PER_MS},"m":{_BOOL[maker]},"M":true}}'
    )


def aggregate_json(symbol: str, row: Aggregate, event_ms: int) -> str:
    return (
        f'{{"e":"aggTrade","E":{event_ms},"s":"{symbol}","a":{row.id},"p":"{row.price}","q":"{row.size}",'
        f'"f":{row.first_id},"l":{row.last_id},"T":{row.ts_ns // NS_PER_MS},"m":{_BOOL[row.buyer_is_maker]},'
        '"M":true}'
    )


def book_json(symbol: str, trade: Trade, tick_e8: int) -> str:
    """Quote one tick wide around a trade: a buy took the ask, a sell the bid."""
    price_e8 = to_e8(trade.price)
    bid_e8, ask_e8 = (
        (price_e8, price_e8 + tick_e8) if trade.buyer_is_maker else (price_e8 - tick_e8, price_e8)
    )
    size = decimal_text(to_e8(trade.size))
    return (
        f'{{"u":{trade.id},"s":"{symbol}","b":"{decimal_text(max(bid_e8, 0))}","B":"{size}",'
        f'"a":"{decimal_text(ask_e8)}","A":"{size}"}}'
    )


def trade_row(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.id,
        "price": trade.price,
        "qty": trade.size,
        "quoteQty": decimal_text(to_e8(trade.price) * to_e8(trade.size) // E8),
        "time": trade.ts_ns // NS_PER_MS,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_row(row: Aggregate) -> dict[str, Any]:
    return {
        "a": row.id,
        "p": row.price,
        "q": row.size,
        "f": row.first_id,
        "l": row.last_id,
        "T": row.ts_ns // NS_PER_MS,
        "m": row.buyer_is_maker,
        "M": True,
    }


def to_e8(text: str) -> int:
    return int(Decimal(text).scaleb(8))


def combined(stream: str, payload: str) -> str:
    return f'{{"stream":"{stream}","data":{payload}}}'


def text_frame(payload: str) -> bytes:
    """Frame a text message as a server does (RFC 6455 §5.2): whole and unmasked."""
    data = payload.encode()
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + data
    return b"\x81\x7f" + size.to_bytes(8, "big") + data
