"""SQL to QuestDB over HTTP, answered in JSON; faults are translated here."""

from __future__ import annotations

import http.client
import os
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from market.errors import Fatal, MarketdError, Retryable
from storage.questdb_url import Address

_READ_BYTES = 65_536
_SHOWN_CHARACTERS = 500
MAX_ANSWER_BYTES = 16 * 1024 * 1024
_REFUSED = {http.client.UNAUTHORIZED, http.client.FORBIDDEN}


class Sql:
    """Asks one question on one connection, answered within `timeout_s` or Retryable."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._headers, self._tls = address.headers(), address.tls()

    def within(self, timeout_s: float) -> Sql:
        """Ask the same server for answers in another time."""
        return Sql(self._address, timeout_s)

    def rows(self, sql: str) -> list[list[Any]]:
        """Ask; raises Retryable for what waiting may cure, Fatal where we are not let in."""
        status, body = self._answer(sql)
        answer = _parsed(body)
        if status == http.client.OK and answer and "error" not in answer:
            return list(answer.get("dataset", []))
        raise self._fault(status, answer)

    def export(self, sql: str, path: Path) -> None:
        """Write the rows of a query as a Parquet file, which is on the disk when this returns.

        Raises Retryable for a fault of the server or of our disk; what was written by then stays there.
        """
        connection = self._connection()
        try:
            connection.request("GET", f"/exp?fmt=parquet&query={quote(sql)}", headers=self._headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise self._fault(response.status, _parsed(response.read(_READ_BYTES)))
            with path.open("wb") as file:
                shutil.copyfileobj(response, file, _READ_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, http.client.HTTPException) as error:
            raise Retryable(f"QuestDB at {self._address}: export to {path}: {shown(error)}") from error
        finally:
            connection.close()

    def _answer(self, sql: str) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s
        connection = self._connection()
        try:
            connection.request("GET", f"/exec?query={quote(sql)}", headers=self._headers)
            response = connection.getresponse()
            return response.status, _read(response, deadline)
        except (OSError, http.client.HTTPException) as error:
            reason = shown(error) or "no answer in time"
            raise Retryable(f"QuestDB at {self._address}: {reason}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        address, timeout_s = self._address, self._timeout_s
        if self._tls:
            return http.client.HTTPSConnection(
                address.host, address.port, timeout=timeout_s, context=self._tls
            )
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)

    def _fault(self, status: int, answer: dict[str, Any]) -> MarketdError:
        told = shown(answer.get("error", f"HTTP status {status} and no SQL"))
        reason = f"QuestDB at {self._address}: {told}"
        if status in _REFUSED:
            return Fatal(f"{reason}; the credentials in questdb.url are not accepted")
        return Retryable(reason)


def shown(words: object) -> str:
    """Write a server's words as one line that a terminal can take, and no endless one."""
    line = " ".join(str(words).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:_SHOWN_CHARACTERS])


def literal(text: str) -> str:
    """Write a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Read to the end, but not for ever from a server that sends a byte now and then."""
    body = bytearray()
    while chunk := response.read1(_READ_BYTES):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("no whole answer in time")
        if len(body) > MAX_ANSWER_BYTES:
            raise Retryable("QuestDB: an answer that is too large")
    return bytes(body)


def _parsed(body: bytes) -> dict[str, Any]:
    """Read an answer's JSON; empty for what is none of QuestDB's."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
