from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One outbound message, numbered per pair from 1 without a hole.

    `message` is the complete JSON text that subscribers receive; `received_ns` is this host's time of the
    input that caused it, for measuring, and no part of the message.
    """

    seq: int
    ts_ns: int
    name: str
    message: bytes
    received_ns: int
