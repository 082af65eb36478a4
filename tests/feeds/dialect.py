"""A venue's end of its protocol, for a fake that serves any venue: what each dialect has to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from feeds.venue import Venue


class FakeTrade(NamedTuple):
    """One trade as it really happened; `number` counts 1, 2, 3, and ids are made from it."""

    number: int
    ts_ns: int  # whole milliseconds
    price: float
    size: float  # as the venue counts it: contracts where it does
    side: int  # of the taker: +1 buy, -1 sell


class Dialect(Protocol):
    """Text and bytes as the real venue sends them; written from its documentation, not from our parser."""

    venue: Venue
    symbol: str

    def trade_id(self, number: int) -> int | str:
        """Give the id that trade `number` has at this venue."""
        ...

    def answers(self, path: str, message: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        """Answer what a client sent on the socket at `path`: acknowledgements, snapshots, pongs."""
        ...

    def trades(self, path: str, trades: Sequence[FakeTrade], now_ns: int) -> list[str]:
        """Tell new trades on a socket that is subscribed; nothing on one that is not for trades."""
        ...

    def quote(self, path: str, bid: float, ask: float, now_ns: int) -> list[str]:
        """Tell best bid and ask on a socket that is for quotes."""
        ...

    def heartbeat(self, path: str, tape: Sequence[FakeTrade], now_ns: int) -> list[str]:
        """Tell what the venue tells about once a second; nothing where it does not."""
        ...

    def rest(
        self, path: str, query: Mapping[str, str], tape: Sequence[FakeTrade], now_ns: int
    ) -> tuple[int, bytes]:
        """Answer a GET: HTTP status and body; 404 for a path that the venue does not have."""
        ...
