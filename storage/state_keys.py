"""Keys that hold a pair's newest market state, beside the events, on the same connection to Redis."""

from __future__ import annotations

from collections.abc import Mapping

from hiredis import pack_command
from redis.exceptions import ResponseError

from market.errors import Retryable
from storage.bus import Bus


class StateBus(Bus):
    """A bus that also keeps `physics:state:{symbol}`, which does not expire."""

    async def keep(self, states: Mapping[str, bytes]) -> dict[str, str]:
        """Replace the states of these symbols; return the refused ones with the reason."""
        if self._lost:
            raise Retryable("the connection to Redis was lost; resume_points says where to go on")
        commands = [_set(symbol, state) for symbol, state in states.items()]
        replies = zip(states, await self._ask(commands), strict=True)
        return {symbol: str(reply) for symbol, reply in replies if isinstance(reply, ResponseError)}


def _set(symbol: str, state: bytes) -> bytes:
    words = (b"SET", f"physics:state:{symbol}", state)
    packed: bytes = pack_command(words)  # type: ignore[arg-type]  # its stub allows one word only
    return packed
