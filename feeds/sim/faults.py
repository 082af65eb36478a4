"""What can be made to go wrong, as values."""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

import msgspec

from feeds.sim.listing import Status

YEAR_2100_MS = 4_102_444_800_000

Flaw: TypeAlias = Literal["json", "nan", "negative", "zero", "future", "event"]


class _Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """`POST /sim/fault` takes any of these as JSON, its `kind` beside the fields."""


class Drop(_Fault, frozen=True, tag="drop"):
    """Abort connections without a close frame: at once, or in place of the frame of trade `at_id`.

    With a symbol, only those subscribed to any of its streams; `at_id` needs one.
    """

    symbol: str | None = None
    at_id: int | None = None


class Refuse(_Fault, frozen=True, tag="refuse"):
    """Abort every new websocket connection before its handshake."""

    seconds: float


class Delay(_Fault, frozen=True, tag="delay"):
    """Hold every frame for this long from now on; 0 ends it, the order is kept."""

    ms: float


class Duplicate(_Fault, frozen=True, tag="duplicate"):
    """Send the frame of a trade twice."""

    symbol: str
    trade_id: int


class Skip(_Fault, frozen=True, tag="skip"):
    """Keep trades from the streams; REST has them."""

    symbol: str
    first_id: int
    last_id: int


class Lose(_Fault, frozen=True, tag="lose"):
    """Keep trades from the streams and from REST for ever."""

    symbol: str
    first_id: int
    last_id: int


class Swap(_Fault, frozen=True, tag="swap"):
    """Send the frame of a trade after that of the next one."""

    symbol: str
    trade_id: int


class Malformed(_Fault, frozen=True, tag="malformed"):
    """Spoil the frame of trade `at_id` (None: of the next); `extra` sends the good one after it."""

    symbol: str
    flaw: Flaw
    at_id: int | None = None
    extra: bool = False


class Silence(_Fault, frozen=True, tag="silence"):
    """Send no data while connections stay open and answer pings; what happens meanwhile is not sent later.

    Of one stream (`btcusdt@trade`), or of all.
    """

    seconds: float
    stream: str | None = None


class RestStatus(_Fault, frozen=True, tag="rest_status"):
    """Answer the next `count` REST requests with an error."""

    status: Literal[429, 418, 502]
    count: int = 1
    retry_after_s: int = 1


class RestHang(_Fault, frozen=True, tag="rest_hang"):
    """Let REST requests wait until this time is over, then answer them."""

    seconds: float


class RestLag(_Fault, frozen=True, tag="rest_lag"):
    """Let REST know only what happened this long ago, from now on; 0 ends it."""

    seconds: float


class Halt(_Fault, frozen=True, tag="halt"):
    """Change a symbol's status; unless it is TRADING nothing is traded, and later trades happen later."""

    symbol: str
    status: Status = "HALT"


class Cut24h(_Fault, frozen=True, tag="cut_24h"):
    """Announce `serverShutdown` on every connection, and close each with a close frame `warn_s` later."""

    warn_s: float = 0.0


Fault: TypeAlias = (
    Drop
    | Refuse
    | Delay
    | Duplicate
    | Skip
    | Lose
    | Swap
    | Malformed
    | Silence
    | RestStatus
    | RestHang
    | RestLag
    | Halt
    | Cut24h
)
StreamFault: TypeAlias = Drop | Duplicate | Skip | Lose | Swap | Malformed


def parse_fault(raw: bytes) -> Fault:
    """Read a fault; raises ValueError naming an unknown kind or field."""
    fault: Fault = msgspec.json.decode(raw, type=Fault)
    return fault


def kind(fault: Fault) -> str:
    return str(type(fault).__struct_config__.tag)


def spoiled(payload: str, flaw: Flaw) -> str:
    """Break a trade's payload in one way."""
    if flaw == "json":
        return payload[: len(payload) // 2]
    changes: dict[str, dict[str, object]] = {
        "nan": {"p": "NaN"},
        "negative": {"p": "-1"},
        "zero": {"p": "0"},
        "future": {"T": YEAR_2100_MS},
        "event": {"e": "mystery"},
    }
    return json.dumps({**json.loads(payload), **changes[flaw]}, separators=(",", ":"))
