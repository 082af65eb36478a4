from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from feeds.sim.connection import Connection
from feeds.sim.plan import Abort, FaultPlan, Sent
from feeds.sim.stream import Message


class Hub:
    """Who listens to what, and the frames on their way there."""

    def __init__(self, faults: FaultPlan) -> None:
        self.connections: set[Connection] = set()
        self.listeners: dict[str, set[Connection]] = {}
        self._asked: dict[Connection, set[str]] = {}
        self._faults = faults
        self._delayed: deque[tuple[float, str, Sequence[Sent]]] = deque()  # bounded by the delay

    def update(self, connection: Connection) -> None:
        """Take note of what a connection listens to now."""
        self.connections.add(connection)
        before, after = self._asked.get(connection, set()), set(connection.session.streams)
        self._asked[connection] = after
        for stream in after - before:
            self.listeners.setdefault(stream, set()).add(connection)
        for stream in before - after:
            self._unlisten(stream, connection)

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        for stream in self._asked.pop(connection, set()):
            self._unlisten(stream, connection)

    def abort(self, symbol: str | None) -> None:
        """Abort the connections that listen to a symbol, or all."""
        prefix = "" if symbol is None else f"{symbol.lower()}@"
        for connection in list(self.connections):
            if symbol is None or any(name.startswith(prefix) for name in connection.session.streams):
                connection.abort()
                self.remove(connection)

    def publish(self, symbol: str, items: Sequence[Sent]) -> None:
        """Send to whoever listens, at once or after the delay in force; the order is kept."""
        loop = asyncio.get_running_loop()
        if not self._faults.delay_s and not self._delayed:
            self._send(symbol, items)
            return
        due_s = loop.time() + self._faults.delay_s
        if self._delayed:
            due_s = max(due_s, self._delayed[-1][0])
        self._delayed.append((due_s, symbol, items))
        self._faults.done["delay"] += len(items)
        loop.call_at(due_s, self._send_oldest)

    def _send_oldest(self) -> None:
        _, symbol, items = self._delayed.popleft()
        self._send(symbol, items)

    def _send(self, symbol: str, items: Sequence[Sent]) -> None:
        messages: list[Message] = []
        for item in items:
            if isinstance(item, Abort):
                self._send_messages(messages)
                messages = []
                self.abort(symbol)
            else:
                messages.append(item)
        self._send_messages(messages)

    def _send_messages(self, messages: list[Message]) -> None:
        streams = {message.stream for message in messages}
        for connection in {c for stream in streams for c in self.listeners.get(stream, ())}:
            connection.send(messages)

    def _unlisten(self, stream: str, connection: Connection) -> None:
        listeners = self.listeners[stream]
        listeners.discard(connection)
        if not listeners:
            del self.listeners[stream]
