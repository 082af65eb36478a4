"""Frames of any venue, one after the other: what is in each, or why it is refused. Pure."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from feeds.venue import Notice, Parsed
from market.errors import BadFrame
from market.inputs import Quote, Rejected
from market.ticks import TICK, Ticks
from market.times import NS_PER_S

RAW_LIMIT = 1024
YEAR_2009_NS = 1_230_768_000_000_000_000
MAX_AHEAD_NS = 600 * NS_PER_S
"""A trade so far ahead of this host's clock closes bars of the future: those after it would all be late."""
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

TradeId = Annotated[int, Meta(ge=0, le=2**53)]
Time = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Meta(gt=0.0, le=sys.float_info.max)]  # keeps NaN and infinity out, too

Fields: TypeAlias = tuple[tuple[str, str, Any], ...]
"""Keys, what they are called when they are wrong, and their types."""

_T = TypeVar("_T")


class Trade(NamedTuple):
    """One trade of a frame; `id` is text where the venue's ids are none to count with."""

    id: int | str
    ts_ns: int
    price: float
    size: float
    side: int  # of the taker: +1 buy, -1 sell, 0 unknown


class Seen(NamedTuple):
    """The venue named a time, and maybe its newest trade, with nothing else of interest."""

    ts_ns: int
    newest_id: int = 0


Item: TypeAlias = Trade | Quote | Notice | Seen


def sort_out(
    frames: Sequence[bytes],
    received_ns: Sequence[int],
    read: Callable[[bytes, int], Iterable[Item]],
) -> Parsed:
    """Read each frame by `read(frame, received_ns)`, which raises BadFrame for one that is refused, whole.

    The times of trades and of Seen are judged here; a Quote's and the order of trades within a frame are
    `read`'s business.
    """
    found = _Found()
    for raw, at in zip(frames, received_ns, strict=True):
        try:
            items = list(read(raw, at))
            for item in items:
                if isinstance(item, Trade | Seen):
                    judge_time(item.ts_ns, at)
        except BadFrame as bad:
            found.rejected.append(Rejected(at, bad.reason, bytes(raw[:RAW_LIMIT])))
        else:
            found.add(items, at)
    return found.parsed()


class _Found:
    def __init__(self) -> None:
        self.rejected: list[Rejected] = []
        self._trades: list[tuple[Trade, int]] = []
        self._quote: Quote | None = None
        self._notices: list[Notice] = []
        self._unknown: Counter[str] = Counter()
        self._newest_ns = self._newest_id = 0

    def add(self, items: Iterable[Item], received_ns: int) -> None:
        for item in items:
            if isinstance(item, Trade):
                self._trades.append((item, received_ns))
                self._newest_ns = max(self._newest_ns, item.ts_ns)
            elif isinstance(item, Quote):
                self._quote = item
                self._newest_ns = max(self._newest_ns, item.ts_ns)
            elif isinstance(item, Seen):
                self._newest_ns = max(self._newest_ns, item.ts_ns)
                self._newest_id = max(self._newest_id, item.newest_id)
            elif item.kind == "unknown":
                self._unknown[item.text] += item.count
            else:
                self._notices.append(item)

    def parsed(self) -> Parsed:
        ticks, ids = to_ticks(self._trades)
        notices = self._notices + [Notice("unknown", name, count=n) for name, n in self._unknown.items()]
        return Parsed(
            ticks, self._quote, self._newest_ns, self.rejected, notices, ids, newest_id=self._newest_id
        )


def to_ticks(trades: Sequence[tuple[Trade, int]]) -> tuple[Ticks, tuple[str, ...]]:
    """Make an array of trades and when each was received; text ids stand beside it, then all are text."""
    texts = any(isinstance(trade.id, str) for trade, _ in trades)
    rows = [(0 if texts else x.id, x.ts_ns, x.price, x.size, at, x.side) for x, at in trades]
    ids = tuple(str(trade.id) for trade, _ in trades) if texts else ()
    return np.array(rows, TICK), ids


def judge_time(ts_ns: int, received_ns: int) -> None:
    """Raise BadFrame for a time that cannot be that of a trade."""
    if ts_ns < YEAR_2009_NS:
        raise BadFrame("time before 2009", b"")
    if ts_ns > received_ns + MAX_AHEAD_NS:
        raise BadFrame("time in the far future", b"")


def decoded(raw: bytes) -> dict[str, Any]:
    """Decode an object without a schema; raises BadFrame."""
    try:
        body = msgspec.json.decode(raw)
    except BAD_JSON as error:
        raise BadFrame(f"not JSON: {error}", b"") from error
    if not isinstance(body, dict):
        raise BadFrame("not an object", b"")
    return body


def converted(body: object, kind: type[_T], what: str) -> _T:
    """Read what was decoded without a schema as `kind`, numbers in text too; raises BadFrame."""
    try:
        return msgspec.convert(body, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadFrame(f"{what}: {error}", b"") from error


def answer(body: bytes, kind: type[_T]) -> _T:
    """Read an answer of REST as `kind`, numbers in text too; raises BadFrame."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except BAD_JSON as error:
        raise BadFrame(f"unexpected answer: {error}", body[:RAW_LIMIT]) from error


def field(body: dict[str, Any], key: str, name: str, kind: Any) -> Any:
    """Read one field as `kind`; raises BadFrame naming it and what it holds."""
    if key not in body:
        raise BadFrame(f"no {name}", b"")
    try:
        return msgspec.convert(body[key], kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadFrame(f"{name} {cut(body[key])}", b"") from error


def fields(body: dict[str, Any], wanted: Fields) -> dict[str, Any]:
    """Read several fields; raises BadFrame naming the first that is wrong."""
    return {key: field(body, key, name, kind) for key, name, kind in wanted}


def judge_symbol(told: object, symbol: str) -> None:
    """Raise BadFrame for a frame that is of another symbol."""
    if told != symbol:
        raise BadFrame(f"symbol {cut(told)}", b"")


def cut(value: object) -> str:
    try:
        return str(value)[:40]
    except RecursionError:  # decoding nests a little deeper than writing does
        return f"deeply nested {type(value).__name__}"
