from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from feeds.sim.control import Session
from feeds.sim.stream import Message
from feeds.sim.wire import combined, text_frame


@dataclass(frozen=True, slots=True)
class Limits:
    """The venue's, as documented; a connection that leaves `write_buffer_bytes` unread is aborted."""

    ping_interval_s: float = 20.0
    pong_timeout_s: float = 60.0
    messages_per_s: int = 5
    streams: int = 1_024
    weight_per_minute: int = 6_000
    write_buffer_bytes: int = 16 * 1024 * 1024


class Connection:
    """One client's websocket: what it asked for, its pings, its limits."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        session: Session,
        limits: Limits,
        stats: Counter[str],
    ) -> None:
        self.session = session
        self._ws, self._transport, self._limits, self._stats = ws, transport, limits, stats
        self._loop = asyncio.get_running_loop()
        self._incoming_s: deque[float] = deque(maxlen=limits.messages_per_s + 1)
        self._unanswered: set[bytes] = set()  # bounded: a connection lives pong_timeout_s without answers
        self._answered_s = self._loop.time()

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def send(self, messages: Iterable[Message]) -> None:
        """Write those of the messages that it subscribed to, in one system call."""
        streams, wrapped = self.session.streams, self.session.combined
        self._write(
            [
                text_frame(combined(m.stream, m.payload) if wrapped else m.payload)
                for m in messages
                if m.stream in streams
            ],
        )

    def announce(self, stream: str, payload: str) -> None:
        """Write an event that needs no subscription."""
        self._write([text_frame(combined(stream, payload) if self.session.combined else payload)])

    def abort(self) -> None:
        self._transport.abort()

    async def close(self, code: int, reason: bytes = b"") -> None:
        await self._ws.close(code=code, message=reason)

    async def run(self, changed: Callable[[], None]) -> None:
        """Answer requests until the connection ends; `changed` is called after each."""
        pinging = asyncio.create_task(self._ping())
        try:
            if len(self.session.streams) > self._limits.streams:
                await self.close(WSCloseCode.POLICY_VIOLATION, b"Too many streams")
            async for message in self._ws:
                await self._receive(message)
                changed()
        finally:
            pinging.cancel()

    async def _receive(self, message: WSMessage) -> None:
        now_s = self._loop.time()
        self._incoming_s.append(now_s)
        if len(self._incoming_s) > self._limits.messages_per_s and now_s - self._incoming_s[0] < 1:
            await self.close(WSCloseCode.POLICY_VIOLATION, b"Too many requests")
        elif message.type is WSMsgType.PING:
            await self._ws.pong(message.data)
        elif message.type is WSMsgType.PONG and bytes(message.data) in self._unanswered:
            self._unanswered.clear()
            self._answered_s = now_s
        elif message.type is WSMsgType.TEXT:
            await self._answer(message.data)

    async def _answer(self, text: str) -> None:
        reply = self.session.answer(text)
        self._write([text_frame(json.dumps(reply, separators=(",", ":")))])
        if len(self.session.streams) > self._limits.streams:
            await self.close(WSCloseCode.POLICY_VIOLATION, b"Too many streams")

    async def _ping(self) -> None:
        try:
            while self._loop.time() - self._answered_s < self._limits.pong_timeout_s:
                await asyncio.sleep(self._limits.ping_interval_s)
                payload = str(time.time_ns() // 1_000_000).encode()
                self._unanswered.add(payload)
                await self._ws.ping(payload)
            self._stats["pong_timeouts"] += 1
            await self.close(WSCloseCode.POLICY_VIOLATION, b"Pong timeout")
        except ConnectionError:
            self._transport.abort()  # the client is gone; its reader ends by itself

    def _write(self, frames: list[bytes]) -> None:
        if not frames or self._transport.is_closing():
            return
        data = b"".join(frames)
        self._transport.write(data)
        self._stats["frames"] += len(frames)
        self._stats["bytes"] += len(data)
        if self._transport.get_write_buffer_size() > self._limits.write_buffer_bytes:
            self._stats["slow_clients"] += 1
            self._transport.abort()
