"""One GET at a time from a venue's public REST, in a thread: stdlib, because a pair's process stays lean."""

from __future__ import annotations

import asyncio
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from math import isfinite
from types import MappingProxyType
from typing import NamedTuple

from feeds.loopback import is_loopback
from market.errors import RateLimited, Retryable

TIMEOUT_S = 5.0
DEADLINE_S = 20.0  # for an answer that comes bit by bit
MAX_WAIT_S = 3 * 86_400.0
MAX_BODY_BYTES = 16 * 1024 * 1024
TOO_MANY: Mapping[int, float] = MappingProxyType({418: 60.0, 429: 60.0})
"""HTTP statuses that mean so, and the wait (s) where the answer names none."""

HEADERS: Mapping[str, str] = MappingProxyType({"User-Agent": "marketd", "Cache-Control": "no-cache"})
"""Venues ask who it is; some let public answers be cached for a second, and a hole may be younger."""


class Answer(NamedTuple):
    body: bytes
    server_s: int | None  # the server's clock; None where it does not tell


class Refused(Retryable):
    """The venue understood the question and says no; `body` is its reason."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:200].decode(errors='replace')}")
        self.status, self.body = status, body


async def get(url: str, too_many: Mapping[int, float] = TOO_MANY) -> bytes:
    """Fetch a body; raise RateLimited (the statuses of `too_many`), Refused (other 4xx) or Retryable."""
    return await asyncio.to_thread(get_now, url, too_many=too_many)


def get_now(url: str, timeout_s: float = TIMEOUT_S, too_many: Mapping[int, float] = TOO_MANY) -> bytes:
    """Fetch a body, waiting for it."""
    return answer_now(url, timeout_s, too_many).body


def answer_now(url: str, timeout_s: float = TIMEOUT_S, too_many: Mapping[int, float] = TOO_MANY) -> Answer:
    """Fetch a body and the server's time, waiting for them."""
    try:
        with _opener(url).open(url, timeout=timeout_s) as reply:
            body = _read(reply, time.monotonic() + max(timeout_s, DEADLINE_S))
            date = reply.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        with error:
            raise _translated(error.code, error.headers, error.read(1024), too_many) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an odd address
        raise Retryable(f"{url}: {getattr(error, 'reason', error)}") from error
    if len(body) > MAX_BODY_BYTES:
        raise Retryable(f"{url}: answer over {MAX_BODY_BYTES} bytes")
    return Answer(body, _epoch_s(date))


def _read(reply: http.client.HTTPResponse, until_s: float) -> bytes:
    """Read a body of any length up to a byte too many; raises TimeoutError, or what reading raises."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES and (part := reply.read1(MAX_BODY_BYTES + 1 - len(body))):
        body += part
        if time.monotonic() > until_s:
            raise TimeoutError("the answer takes too long")
    if reply.length and len(body) <= MAX_BODY_BYTES:
        raise http.client.IncompleteRead(bytes(body), reply.length)
    return bytes(body)


def _epoch_s(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Go by the proxies of the environment, but not to this machine."""
    direct = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    opener = urllib.request.build_opener(*direct)
    opener.addheaders = list(HEADERS.items())
    return opener


def _translated(status: int, headers: Message, body: bytes, too_many: Mapping[int, float]) -> Retryable:
    if status in too_many:
        return RateLimited(f"HTTP {status}", _retry_after_s(headers, too_many[status]))
    if 400 <= status < 500:
        return Refused(status, body)
    return Retryable(f"HTTP {status}")


def _retry_after_s(headers: Message, usual_s: float) -> float:
    """Read how long to wait; a date, or no number, is as if nothing was said."""
    try:
        wait_s = float(headers.get("Retry-After", usual_s))
    except ValueError:
        return usual_s
    return min(max(0.0, wait_s), MAX_WAIT_S) if isfinite(wait_s) else usual_s
