"""Entries of a push stream: fields of text to trades, quotes and times, or why one is refused. Pure.

docs/push.md is the format. An entry with any field of a trade is a trade, one with any of a quote is a
quote, one that is neither tells the time. What is blank is not there; other fields are the collector's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple, TypeAlias

from msgspec import Meta

from feeds.frames import RAW_LIMIT, Item, Positive, Seen, Time, Trade, TradeId, cut, field, judge_time
from market.errors import BadFrame
from market.inputs import Quote, Rejected
from market.times import DAY_NS, NS_PER_MS

MAX_BEHIND_DAYS = 30  # a trade restates every bar since: days of them are a matter of seconds, years are not
MAX_ID_LENGTH = 128
SIDES = {"": 0, "b": 1, "buy": 1, "s": -1, "sell": -1}
_TRADE = {"id", "price", "size", "side"}
_QUOTE = ("bid", "bid_size", "ask", "ask_size")
_Ms = Annotated[int, Meta(ge=0, le=2**63 // NS_PER_MS - 1)]

Fields: TypeAlias = Mapping[bytes, bytes]
Entry: TypeAlias = tuple[bytes, Fields]
"""A stream id and what stands under it."""


class Told(NamedTuple):
    """What a page of entries tells: trades in their order, the latest quote, the latest time of its own.

    Trades of `old` come too late to be stored; with each is what is to be said if the record lacks it.
    """

    trades: list[Trade]
    quote: Quote | None
    clock_ns: int  # 0: no entry tells the time alone
    rejected: list[Rejected]
    old: list[tuple[Trade, Rejected]]
    newest_ns: int  # of all trades and times so far


def read(entries: Iterable[Entry], received_ns: int, newest_ns: int = 0, *, counted: bool) -> Told:
    """Read a page; `counted` says that ids are integers which rise by one, else they are text.

    `newest_ns` is the newest time of the pages before. Never raises: each entry is told or rejected, whole.
    """
    trades, quote, clock_ns, rejected = list[Trade](), None, 0, list[Rejected]()
    old = list[tuple[Trade, Rejected]]()
    for name, fields in entries:
        try:
            items = list(_items(fields, received_ns, counted=counted))
        except BadFrame as bad:
            rejected.append(Rejected(received_ns, bad.reason, _raw(name, fields)))
            continue
        for item in items:
            if isinstance(item, Quote):
                quote = item
            elif isinstance(item, Seen):
                clock_ns = max(clock_ns, item.ts_ns)
                newest_ns = max(newest_ns, clock_ns)
            elif isinstance(item, Trade) and item.ts_ns < newest_ns - MAX_BEHIND_DAYS * DAY_NS:
                old.append((item, Rejected(received_ns, _too_old(fields), _raw(name, fields))))
                break  # with its quote
            elif isinstance(item, Trade):
                trades.append(item)
                newest_ns = max(newest_ns, item.ts_ns)
    return Told(trades, quote, clock_ns, rejected, old, newest_ns)


def _items(fields: Fields, received_ns: int, *, counted: bool) -> Iterable[Item]:
    body = _text(fields)
    ts_ns = _time(body, received_ns)
    trades, quotes = not _TRADE.isdisjoint(body), any(name in body for name in _QUOTE)
    if trades:
        price, size = field(body, "price", "price", Positive), field(body, "size", "size", Positive)
        yield Trade(_id(body, counted=counted), ts_ns, price, size, _side(body))
    if quotes:
        bid, bid_size, ask, ask_size = (field(body, name, name, Positive) for name in _QUOTE)
        yield Quote(ts_ns, bid, bid_size, ask, ask_size, received_ns)
    if not (trades or quotes):
        yield Seen(ts_ns)


def _text(fields: Fields) -> dict[str, str]:
    body = {}
    for name, value in fields.items():
        try:
            body[name.decode()] = value.decode().strip()
        except UnicodeDecodeError as error:
            raise BadFrame(f"{cut(name.decode(errors='replace'))} is not UTF-8", b"") from error
    return {name: value for name, value in body.items() if value}


def _too_old(fields: Fields) -> str:
    name = _time_name(body := _text(fields))
    return f"{name} {cut(body[name])}: more than {MAX_BEHIND_DAYS} days before the newest"


def _time_name(body: Mapping[str, str]) -> str:
    return "ts_ns" if "ts_ns" in body or "ts_ms" not in body else "ts_ms"


def _time(body: dict[str, str], received_ns: int) -> int:
    name = _time_name(body)
    ts_ns = field(body, "ts_ns", name, Time) if name == "ts_ns" else field(body, name, name, _Ms) * NS_PER_MS
    try:
        judge_time(ts_ns, received_ns)
    except BadFrame as bad:
        raise BadFrame(f"{name} {cut(body[name])}: {bad.reason}", b"") from bad
    return int(ts_ns)


def _id(body: dict[str, str], *, counted: bool) -> int | str:
    if counted:
        return int(field(body, "id", "id", TradeId))
    name = str(field(body, "id", "id", str))
    if len(name) > MAX_ID_LENGTH or not name.isprintable():
        raise BadFrame(f"id {cut(name)!a}: at most {MAX_ID_LENGTH} printable characters", b"")
    return name


def _side(body: dict[str, str]) -> int:
    side = body.get("side", "").lower()
    if side not in SIDES:
        raise BadFrame(f"side {cut(side)}: buy, sell, b, s or nothing", b"")
    return SIDES[side]


def _raw(name: bytes, fields: Fields) -> bytes:
    parts = (key + b"=" + value for key, value in fields.items())
    return b" ".join([name, *parts])[:RAW_LIMIT]
