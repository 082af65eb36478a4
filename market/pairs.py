from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from market.errors import UsageError

MAX_LENGTH = 64
MARKETS = ("spot", "futures", "dex")


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Identify what is followed: venue, market and the venue's own symbol.

    Raises UsageError for an unknown market and for a part that cannot stand in a key or a path.
    """

    exchange: str
    market: str
    symbol: str

    def __post_init__(self) -> None:
        if self.market not in MARKETS:
            raise UsageError(f"market {self.market!r}: one of {', '.join(MARKETS)}")
        for name, part, cased in (
            ("exchange", self.exchange, self.exchange.lower()),
            ("symbol", self.symbol, self.symbol.upper()),
        ):
            if reason := _refusal(part, cased):
                raise UsageError(f"{name} {part!r}: {reason}")

    @classmethod
    def parse(cls, text: str) -> Pair:
        """Read `binance:spot:BTCUSDT` or `binance/spot/BTCUSDT`, in any case."""
        parts = text.replace("/", ":").split(":")
        if len(parts) != 3:
            raise UsageError(f"pair {text!r}: expected exchange:market:SYMBOL")
        return cls(parts[0].lower(), parts[1].lower(), parts[2].upper())

    @property
    def key(self) -> str:
        return f"{self.exchange}:{self.market}:{self.symbol}"

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.exchange, self.market, self.symbol)

    def __str__(self) -> str:
        return self.key


def _refusal(part: str, cased: str) -> str | None:
    if not part:
        return "is empty"
    if len(part) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if part != cased:
        return f"expected {cased!r}"
    if part in {".", ".."} or any(c in "/:\\" or c.isspace() or not c.isprintable() for c in part):
        return "may not hold '/', ':', '\\', blanks or unprintable characters, nor be '.' or '..'"
    return None
