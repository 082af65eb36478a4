"""Errors, named by what the caller does about them.

MarketdError
├── Retryable            wait and try again
│   ├── RateLimited      wait as long as the server says
│   └── Unlisted         the venue does not know the symbol: wait long
├── SequenceBroken       resynchronise the pair
├── BadFrame             reject it, count it, go on
└── Fatal                stop; the supervisor restarts what can be restarted
    ├── UsageError       the user's mistake: one clear line, exit code 2
    └── Unreachable      a required server cannot be reached: exit code 3
"""


class MarketdError(Exception):
    """Root of every error that marketd raises itself."""


class Retryable(MarketdError):
    """A fault that waiting may cure."""


class RateLimited(Retryable):
    """A server that asked for less; ask again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unlisted(Retryable):
    """A symbol that the venue does not have, or not yet, or no more."""


class SequenceBroken(MarketdError):
    """A sequence that must be contiguous and is not."""

    def __init__(self, pair: str, expected: int, got: int) -> None:
        super().__init__(f"{pair}: expected {expected}, got {got}")
        self.pair, self.expected, self.got = pair, expected, got


class BadFrame(MarketdError):
    """Input of a venue that cannot be understood."""

    def __init__(self, reason: str, raw: bytes) -> None:
        super().__init__(reason)
        self.reason, self.raw = reason, raw


class Fatal(MarketdError):
    """A fault that this process cannot live with."""


class UsageError(Fatal):
    """A mistake of the user's, named by file, key or field."""


class Unreachable(Fatal):
    """A required server that does not answer."""
