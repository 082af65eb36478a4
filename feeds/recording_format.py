r"""Raw frames in a form to be kept for years: JSON lines in gzip, so that any tool can read them. Pure.

A file is a chain of gzip members, each of which can be read without the others. A member is a chain of
blocks; each was flushed when it was written, and ends with the checksum of its lines:

    {"format":"marketd frames","version":1,"pair":"coinbase:spot:BTC-USD"}    at the beginning of a member
    {"ns":1786309548629007800,"connection":1,"path":"/","frame":"{\"type\": ..."}
    {"check":3735928559}    crc32 of all lines since the last of these

`ns` is when the frame was received. A frame that is not UTF-8 is in base64, as `bytes`. Where a kill or a
fault of the disk left something else, the member is read up to there, as far as checksums hold; reading goes
on with the next member.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from market.errors import UsageError

FORMAT = "marketd frames"
VERSION = 1
MEMBER_BYTES = 1024 * 1024  # of text, and at most a block more
MAX_TEXT_BYTES = 256 * 1024 * 1024  # of a member: more has not been written by us
_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_MEMBER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"  # how each of ours begins: no name, no time
_CHECK = b'{"check":'
_STEP = 64 * 1024


class Kept(NamedTuple):
    """One frame exactly as it was received, and over which connection, counted from 1, to which path."""

    received_ns: int
    connection: int
    path: str
    frame: bytes


class Packer:
    """Turn blocks of frames into what is to be appended to a file."""

    def __init__(self, pair: str, member_bytes: int = MEMBER_BYTES) -> None:
        self._member_bytes = member_bytes
        self._header = _line({"format": FORMAT, "version": VERSION, "pair": pair})
        self._zip: Any = None  # zlib does not name its type
        self._text_bytes = 0

    def block(self, frames: Iterable[Kept]) -> bytes:
        """Pack at least one frame, so that it can be read as soon as this is written."""
        lines = [_line(_fields(x)) for x in frames]
        if self._zip is None:
            self._zip, self._text_bytes = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP), 0
            lines.insert(0, self._header)
        text = b"".join(lines)
        text += _check(text)
        self._text_bytes += len(text)
        packed: bytes = self._zip.compress(text) + self._zip.flush(zlib.Z_SYNC_FLUSH)
        return packed + (self.end() if self._text_bytes >= self._member_bytes else b"")

    def end(self) -> bytes:
        """End the member, if one was begun."""
        if self._zip is None:
            return b""
        packed: bytes = self._zip.flush(zlib.Z_FINISH)
        self._zip = None
        return packed


class Unpacker:
    """Give the frames of a file in the order in which they were written.

    `torn` tells that its end was never written, `damaged` counts the members in which something is not as it
    was written. Both are known when all frames have been taken.
    """

    def __init__(self, data: bytes) -> None:
        self.pair = ""
        self.torn = False
        self.damaged = 0
        self._data = data

    def frames(self) -> Iterator[Kept]:
        """Yield them; raises UsageError for a file of another kind or of a later version."""
        at, size = self._next(0), len(self._data)
        self.torn = 0 < at == size and _MEMBER.startswith(self._data)
        if at == size and size and not self.torn:
            raise UsageError("no recording of frames")
        self.damaged = int(0 < at < size)
        while at < size:
            member = _inflated(self._data, at)
            checked = _checked(member.text)
            for line in checked.split(b"\n")[:-1]:
                if (kept := self._read(json.loads(line))) is not None:
                    yield kept
            at = member.end or self._next(at + 1)
            self.torn = at == size and not (member.end or member.faulty)
            self.damaged += not self.torn and (not member.end or len(checked) < len(member.text))

    def _next(self, at: int) -> int:
        """Find where the next member begins."""
        found = self._data.find(_MEMBER, at)
        return len(self._data) if found < 0 else found

    def _read(self, line: dict[str, Any]) -> Kept | None:
        if "format" in line:
            if (line["format"], line["version"]) != (FORMAT, VERSION):
                raise UsageError(f"frames of format {line['format']!r}, version {line['version']}")
            self.pair = line["pair"]
        if "ns" not in line:
            return None
        frame = line["frame"].encode() if "frame" in line else b64decode(line["bytes"])
        return Kept(line["ns"], line["connection"], line["path"], frame)


class _Member(NamedTuple):
    text: bytes
    end: int  # where the next begins; 0: the data ended before it did
    faulty: bool


def _inflated(data: bytes, at: int) -> _Member:
    """Read a member as far as it can be read."""
    unzip, parts, size = zlib.decompressobj(_GZIP), list[bytes](), 0
    while at < len(data) and not unzip.eof and size <= MAX_TEXT_BYTES:
        chunk, before = data[at : at + _STEP], unzip.copy()
        try:
            parts.append(unzip.decompress(chunk))
        except zlib.error:
            parts.append(_bytewise(before, chunk))
            return _Member(b"".join(parts), 0, faulty=True)
        at, size = at + len(chunk), size + len(parts[-1])
    end = at - len(unzip.unused_data) if unzip.eof else 0
    return _Member(b"".join(parts), end, faulty=size > MAX_TEXT_BYTES)


def _bytewise(unzip: Any, chunk: bytes) -> bytes:
    """Read up to the byte that cannot be right: an error takes with it what was given along with it."""
    out = bytearray()
    try:
        for i in range(len(chunk)):
            out += unzip.decompress(chunk[i : i + 1])
    except zlib.error:
        pass
    return bytes(out)


def _checked(text: bytes) -> bytes:
    """Cut a member's text after the last block up to which all checksums hold."""
    start = 0
    while (at := text.find(b"\n" + _CHECK, start) + 1) > 0 and (end := text.find(b"\n", at) + 1) > 0:
        if text[at:end] != _check(text[start:at]):
            break
        start = end
    return text[:start]


def _check(lines: bytes) -> bytes:
    return _line({"check": zlib.crc32(lines)})


def _fields(kept: Kept) -> dict[str, Any]:
    about = {"ns": kept.received_ns, "connection": kept.connection, "path": kept.path}
    try:
        return about | {"frame": kept.frame.decode()}
    except UnicodeDecodeError:
        return about | {"bytes": b64encode(kept.frame).decode()}


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
