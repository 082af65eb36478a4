from __future__ import annotations

from dataclasses import dataclass

import orjson

from market.times import rfc3339


@dataclass(frozen=True, slots=True)
class Event:
    """One outbound fact, numbered per pair from 1 without a hole.

    `data` is JSON; `received_ns` is this host's time of the input that caused it (0 when not known), for
    measuring only.
    """

    seq: int
    ts_ns: int
    name: str
    data: bytes
    received_ns: int = 0

    def message(self, symbol: str) -> bytes:
        """Write the JSON that subscribers receive; `symbol` is the pair's alias."""
        return orjson.dumps(
            {
                "event": self.name,
                "symbol": symbol,
                "timestamp": rfc3339(self.ts_ns),
                "seq": self.seq,
                "data": orjson.Fragment(self.data),
            },
        )
