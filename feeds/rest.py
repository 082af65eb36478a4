"""One GET at a time from a venue's public REST, in a thread: stdlib, because a pair's process stays lean."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from email.message import Message

from feeds.loopback import is_loopback
from market.errors import RateLimited, Retryable

TIMEOUT_S = 5.0
MAX_BODY_BYTES = 16 * 1024 * 1024
DEFAULT_RETRY_AFTER_S = 60.0


class Refused(Retryable):
    """The venue understood the question and says no; `body` is its reason."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:200].decode(errors='replace')}")
        self.status, self.body = status, body


async def get(url: str) -> bytes:
    """Fetch a body; raise RateLimited (429, 418), Refused (other 4xx) or Retryable."""
    return await asyncio.to_thread(get_now, url)


def get_now(url: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """Fetch a body, waiting for it."""
    try:
        with _opener(url).open(url, timeout=timeout_s) as reply:
            body: bytes = reply.read(MAX_BODY_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise _translated(error.code, error.headers, error.read(1024)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an odd address
        raise Retryable(f"{url}: {getattr(error, 'reason', error)}") from error
    if len(body) > MAX_BODY_BYTES:
        raise Retryable(f"{url}: answer over {MAX_BODY_BYTES} bytes")
    return body


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Go by the proxies of the environment, but not to this machine."""
    direct = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    return urllib.request.build_opener(*direct)


def _translated(status: int, headers: Message, body: bytes) -> Retryable:
    if status in {418, 429}:
        return RateLimited(f"HTTP {status}", _retry_after_s(headers))
    if 400 <= status < 500:
        return Refused(status, body)
    return Retryable(f"HTTP {status}")


def _retry_after_s(headers: Message) -> float:
    try:
        return max(0.0, float(headers.get("Retry-After", DEFAULT_RETRY_AFTER_S)))
    except ValueError:
        return DEFAULT_RETRY_AFTER_S
