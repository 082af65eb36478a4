from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from feeds.sim.listing import Listing

_INTEGER = "^[0-9]{1,20}$"


class RefusedError(Exception):
    """A request that the venue answers with 400, a code and a message."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code = code


class Query:
    """Read a request's parameters as the venue does; every method raises RefusedError."""

    def __init__(self, given: Mapping[str, str], allowed: Iterable[str]) -> None:
        self._given = given
        if len(set(given)) < len(given):
            raise RefusedError(-1101, "Duplicate values for a parameter detected.")
        read = len(set(given).intersection(allowed))
        if read < len(given):
            msg = (
                f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(given)}'."
            )
            raise RefusedError(-1104, msg)

    def text(self, name: str, *, mandatory: bool = False) -> str | None:
        value = self._given.get(name)
        if value == "" and not mandatory:
            raise RefusedError(-1105, f"Parameter '{name}' was empty.")
        if not value and mandatory:
            msg = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
            raise RefusedError(-1102, msg)
        return value

    def integer(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.match(_INTEGER, value):
            msg = f"Illegal characters found in parameter '{name}'; legal range is '{_INTEGER}'."
            raise RefusedError(-1100, msg)
        if int(value) >= 2**63:
            raise RefusedError(-1108, f"Parameter '{name}' overflowed.")
        return int(value)

    def limit(self, most: int = 1_000) -> int:
        value = self.integer("limit")
        if value is None:
            return 500
        if not 0 < value <= most:
            raise RefusedError(-1130, "Data sent for parameter 'limit' is not valid.")
        return value

    def listing(self, listings: Mapping[str, Listing], symbol: str | None = None) -> Listing:
        """Find the listing of `symbol`, or of the parameter of that name."""
        name = symbol or self.text("symbol", mandatory=True)
        if name is None or name not in listings:
            raise RefusedError(-1121, "Invalid symbol.")
        return listings[name]
