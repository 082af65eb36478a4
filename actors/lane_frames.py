"""What travels on a lane: `length u32 little-endian, msgpack`, without any I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

import msgspec

from market.errors import BadFrame

MAX_FRAME_BYTES = 8 * 1024 * 1024
TARGET_FRAME_BYTES = 256 * 1024
_LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()

T = TypeVar("T")
Fields: TypeAlias = dict[str, str | int | float]


class Outgoing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event on its way out: `message` is its JSON, `received_ns` the time of its cause (0: not known)."""

    seq: int
    received_ns: int
    message: bytes


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """A pair's first frame: `last_seq` is its record's newest event, `cursor` the last one acknowledged."""

    pair_key: str
    symbol: str
    last_seq: int
    cursor: int


class Events(msgspec.Struct, frozen=True, array_like=True, tag="events"):
    """Events in order, without a hole; `round` is that of the Resume they follow."""

    round: int
    events: list[Outgoing]


class Snapshot(msgspec.Struct, frozen=True, array_like=True, tag="snapshot"):
    fields: Fields


class Resume(msgspec.Struct, frozen=True, array_like=True, tag="resume"):
    """The supervisor wants every event after `after_seq`, in order; each Resume begins a new round."""

    after_seq: int
    round: int


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """The store has every event up to `seq`."""

    seq: int


class PageHello(msgspec.Struct, frozen=True, array_like=True, tag="page_hello"):
    """A pair's first frame on a lane of pages: of which stream of its rows, by the numbers of Hello."""

    pair_key: str
    symbol: str
    stream: str
    last_seq: int
    cursor: int


class Page(msgspec.Struct, frozen=True, array_like=True, tag="page"):
    """Everything of a stream that is numbered after_seq < seq <= last_seq; `body` by `storage.pages`."""

    round: int
    after_seq: int
    last_seq: int
    body: bytes


ToSupervisor: TypeAlias = Hello | Events | Snapshot
ToSink: TypeAlias = PageHello | Page
ToPair: TypeAlias = Resume | Ack
Frame: TypeAlias = ToSupervisor | ToSink | ToPair


def encode(frame: Frame) -> bytearray:
    buffer = bytearray(_LENGTH.size)
    _ENCODER.encode_into(frame, buffer, _LENGTH.size)
    _LENGTH.pack_into(buffer, 0, len(buffer) - _LENGTH.size)
    return buffer


def event_frames(round_: int, events: Sequence[Outgoing]) -> Iterator[Events]:
    """Cut events into frames of about 256 KiB."""
    part: list[Outgoing] = []
    size = 0
    for event in events:
        if part and size + len(event.message) > TARGET_FRAME_BYTES:
            yield Events(round_, part)
            part, size = [], 0
        part.append(event)
        size += len(event.message)
    if part:
        yield Events(round_, part)


class FrameReader(Generic[T]):
    """Puts frames together from any slices of the byte stream; holds at most one unfinished frame."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[T]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """Yield what became complete; raise BadFrame for a frame that is too large or not understood."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            start = at + _LENGTH.size
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_FRAME_BYTES:
                raise BadFrame(f"a frame of {length} bytes, more than {MAX_FRAME_BYTES}", b"")
            if len(buffer) < start + length:
                break
            at = start + length
            yield self._decode(bytes(buffer[start:at]))
        del buffer[:at]

    def _decode(self, body: bytes) -> T:
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise BadFrame(str(error), body[:1024]) from error


def supervisor_reader() -> FrameReader[ToSupervisor]:
    return FrameReader(msgspec.msgpack.Decoder(ToSupervisor))


def sink_reader() -> FrameReader[ToSink]:
    return FrameReader(msgspec.msgpack.Decoder(ToSink))


def pair_reader() -> FrameReader[ToPair]:
    return FrameReader(msgspec.msgpack.Decoder(ToPair))
