"""What a pair's live feed needs to know of a venue; one file for each venue answers it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from market.inputs import Quote, Rejected
from market.ticks import Ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a venue promises its clients and asks of them; its limits are for one address.

    `pages_by_id`: trades can be asked for from any id on, the page before included. `contracts`: sizes come
    in contracts, and the listing says how much of the base one is. `too_many` maps the HTTP statuses that
    mean so to the wait where the answer names none.
    """

    contiguous: bool  # trade ids rise by one
    pages_by_id: bool
    page_limit: int  # trades in one answer
    connects: int  # attempts, at most so many
    connects_per_s: float  # in so many seconds
    weight: int  # of requests, at most so much
    weight_per_s: float  # in so many seconds
    windows: bool = False  # trades can be asked for by time; of a window the newest are given
    max_life_s: float = 0.0  # a connection is cut then; 0: the venue names no time
    ping: str = ""  # what the client has to send; "": websocket's own pings do
    ping_every_s: float = 20.0
    contracts: bool = False
    too_many: Mapping[int, float] = field(default_factory=lambda: {418: 60.0, 429: 60.0})


@dataclass(frozen=True, slots=True)
class Line:
    """One socket of a pair: its path after the venue's websocket address, and what is sent when it is open.

    So many `subscribed` notices as `acks` grant all of that.
    """

    path: str
    requests: tuple[str, ...]
    acks: int = 1


@dataclass(frozen=True, slots=True)
class Ask:
    """One REST request: a path after the venue's REST address, and what it weighs."""

    path: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Listing:
    """What the venue says of a symbol; `tick_size` None where it sets no step."""

    status: str  # the venue's own word
    trading: bool
    tick_size: float | None = None
    contract_size: float = 1.0  # base units in one contract


@dataclass(frozen=True, slots=True)
class Notice:
    """What a message other than a trade or a quote says.

    `kind` is `subscribed` (request `id`, where there is one, was granted), `refused` (`code`, `text`),
    `shutdown` (the server will close soon), `alive` (a heartbeat or the answer to a ping; `text` names the
    state of the venue's engine, where it tells that) or `unknown` (`text` names the type, `count` how many of
    it).
    """

    kind: str
    text: str = ""
    id: int | str | None = None
    code: int = 0
    count: int = 1

    @property
    def subscribed(self) -> bool:
        return self.kind == "subscribed"


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """A batch of frames; ticks in order of arrival, the latest quote, the largest time the venue named.

    `ids` are the ticks' ids where the venue's are text, parallel to them; their `trade_id` is then 0.
    `newest_id` is the newest trade that the venue says there is, 0 where it says nothing.
    """

    ticks: Ticks
    quote: Quote | None
    venue_time_ns: int
    rejected: list[Rejected]
    notices: list[Notice]
    ids: tuple[str, ...] = ()
    newest_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """An answer of REST, sorted by id where ids are contiguous, else by time as the venue orders it."""

    ticks: Ticks
    ids: tuple[str, ...] = ()


class Venue(Protocol):
    """One market of a venue. Whatever comes from outside is judged here; nothing is raised but as told."""

    @property
    def rules(self) -> Rules: ...

    def lines(self, symbol: str) -> tuple[Line, ...]:
        """Say which sockets a pair needs; the first is the one that trades come over."""
        ...

    def parse(self, frames: Sequence[bytes], received_ns: Sequence[int], symbol: str) -> Parsed:
        """Read frames of one symbol. Never raises: each is ticks, a quote, a Rejected or part of a Notice."""
        ...

    def latest(self, symbol: str) -> Ask:
        """Ask for the newest trades."""
        ...

    def page(self, symbol: str, from_id: int, from_ns: int, to_ns: int = 0) -> Ask:
        """Ask for the trades from `from_id` on, itself included; `from_ns` is not after its time.

        `to_ns` ends the window, where the venue gives the newest of one; 0: there is no end.
        """
        ...

    def parse_trades(self, body: bytes, received_ns: int, symbol: str) -> Trades:
        """Read the answer to `latest` or `page`; raises BadFrame, RateLimited or Retryable."""
        ...

    def listing(self, symbol: str) -> Ask:
        """Ask what the symbol is."""
        ...

    def parse_listing(self, body: bytes, symbol: str) -> Listing:
        """Read the answer; raises BadFrame, RateLimited, Retryable, or Unlisted."""
        ...

    def is_unlisted(self, status: int, body: bytes) -> bool:
        """Tell whether a refusal (4xx) says that the symbol does not exist."""
        ...
