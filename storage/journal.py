"""The pair's write-ahead log: segments of checksummed records, each segment begun by the core's state.

A record is `length u32, crc32 u32, payload`; the payload is `number u64, body`. Numbers rise by one over all
segments. The first record of a segment is its head: the number of the last record folded into the state, the
time up to which that state has closed bars, and the state. A segment appears whole (written aside, synced,
renamed), so only the last one can have a torn tail. Anything else that is not whole is damage; what is whole
around it can be read by `survey` and `Segment.found`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from market.errors import Fatal, Retryable
from market.inputs import Input
from storage import codec
from storage.durable import sync_path

MAGIC = b"MDJRNL\x00\x01"
MAX_RECORD_BYTES = 256 * 1024 * 1024
BUFFER_BYTES = 256 * 1024
SEARCH_BYTES = 1024 * 1024
_FRAME = struct.Struct("<II")
_NUMBER = struct.Struct("<Q")
_HEAD = struct.Struct("<Qq")


class JournalDamaged(Fatal):
    """What was once whole is not: a record inside the chain fails its checksum, or a segment is gone."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}; restore it, or move the pair's folder away to begin anew")


class Piece(NamedTuple):
    """What is whole of a segment: its head, if it is, and the numbers of its records."""

    segment: Segment
    head: Head | None
    numbers: list[int]


class Head(NamedTuple):
    """The state at the beginning of a segment."""

    number: int  # of the last record folded into it
    closed_ns: int  # bars before this time are closed in it
    state: bytes


class Record(NamedTuple):
    number: int
    inputs: list[Input]


@dataclass(frozen=True, slots=True)
class Segment:
    path: Path

    @property
    def first(self) -> int:
        """Number of the first record it may hold."""
        return int(self.path.stem)

    def head(self) -> Head:
        for payload, _ in _payloads(self.path):
            number, closed_ns = _HEAD.unpack_from(payload)
            return Head(number, closed_ns, payload[_HEAD.size :])
        raise JournalDamaged(f"{self.path}: its head is damaged")

    def records(self) -> Iterator[Record]:
        """Yield the whole records; stop at the first that is torn."""
        for index, (payload, _) in enumerate(_payloads(self.path)):
            if index:
                body = memoryview(payload)[_NUMBER.size :]
                yield Record(_NUMBER.unpack_from(payload)[0], codec.decode(body))

    def checked(self) -> tuple[int, int]:
        """Return where the whole records end, and the number that comes next; raises JournalDamaged."""
        expected, end = self.first - 1, 0
        for payload, end in _payloads(self.path):  # noqa: B007 - the last end is returned
            if (number := _NUMBER.unpack_from(payload)[0]) != expected:
                raise JournalDamaged(f"{self.path}: holds record {number} in place of {expected}")
            expected += 1
        if not end:
            raise JournalDamaged(f"{self.path}: its head is damaged")
        return end, expected

    def found(self, above: int = 0) -> Iterator[Record]:
        """Yield every whole record numbered above `above`, in order, whatever is damaged between them."""
        for number, body in self._found(max(above, self.first - 1)):
            yield Record(number, codec.decode(body))

    def piece(self) -> Piece:
        """Say what is whole."""
        try:
            head = self.head()
        except JournalDamaged:
            head = None
        return Piece(self, head, [number for number, _ in self._found(self.first - 1)])

    def holds_after(self, offset: int, number: int) -> bool:
        """Tell whether a record numbered above `number` is whole anywhere behind `offset`."""
        return _search(self.path.read_bytes(), offset, number) is not None

    def cut_at(self, number: int) -> bytes:
        """Read the file up to the end of a record, behind which it is damaged."""
        ends = {_NUMBER.unpack_from(payload)[0]: end for payload, end in _payloads(self.path)}
        with self.path.open("rb") as file:
            return file.read(ends[number])  # the head has the number of the record before

    def _found(self, number: int) -> Iterator[tuple[int, memoryview]]:
        data = self.path.read_bytes()
        found = _search(data, 0, number)
        while found is not None:
            length, _ = _FRAME.unpack_from(data, found)
            at = found + _FRAME.size
            (number,) = _NUMBER.unpack_from(data, at)
            yield number, memoryview(data)[at + _NUMBER.size : at + length]
            found = _search(data, at + length, number)

    def whole_bytes(self) -> int:
        """Length of the file up to the end of its last whole record."""
        end = 0
        for _, end in _payloads(self.path):  # noqa: B007 - only the last end matters
            pass
        return end


def _payloads(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield (payload, end offset) of each whole record."""
    with path.open("rb", buffering=BUFFER_BYTES) as file:
        end = len(MAGIC)
        if file.read(end) != MAGIC:
            raise JournalDamaged(f"{path}: is damaged, or of another version")
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            length, check = _FRAME.unpack(frame)
            if not 0 < length <= MAX_RECORD_BYTES:
                return
            payload = file.read(length)
            if len(payload) != length or crc32(payload) != check:
                return
            end += _FRAME.size + length
            yield payload, end


def _search(data: bytes, offset: int, number: int) -> int | None:
    """Find where at or behind `offset` the next whole record begins that is numbered above `number`."""
    if _is_whole(data, offset, number):
        return offset
    first = offset + _FRAME.size
    for start in range(first, len(data) - _NUMBER.size + 1, SEARCH_BYTES):
        size = min(SEARCH_BYTES, len(data) - _NUMBER.size + 1 - start)
        numbers = np.ndarray(size, "<u8", data, start, (1,))  # of eight bytes from every byte on
        for at in np.flatnonzero((numbers > number) & (numbers <= number + len(data))).tolist():
            if _is_whole(data, start + at - _FRAME.size, number):
                return int(start + at - _FRAME.size)
    return None


def _is_whole(data: bytes, at: int, number: int) -> bool:
    behind = at + _FRAME.size
    if len(data) < behind + _NUMBER.size or _NUMBER.unpack_from(data, behind)[0] <= number:
        return False
    length, check = _FRAME.unpack_from(data, at)
    fits = _NUMBER.size <= length <= len(data) - behind
    return bool(fits and crc32(data[behind : behind + length]) == check)


def survey(folder: Path) -> list[Piece]:
    """Say of every segment, oldest first, what is whole."""
    return [segment.piece() for segment in segments(folder)]


def segments(folder: Path) -> list[Segment]:
    """List the segments of a journal, oldest first."""
    return sorted((Segment(p) for p in folder.glob("*.log")), key=lambda s: s.first)


def read(chain: Sequence[Segment]) -> Iterator[Record]:
    """Yield the records of consecutive segments; raise JournalDamaged at a hole in their numbers."""
    expected = chain[0].first if chain else 0
    for segment in chain:
        if segment.first != expected:
            raise JournalDamaged(f"{segment.path}: begins at record {segment.first}, {expected} is missing")
        for record in segment.records():
            if record.number != expected:
                raise JournalDamaged(f"{segment.path}: holds record {record.number} in place of {expected}")
            expected += 1
            yield record


def check(chain: Sequence[Segment]) -> None:
    """Raise JournalDamaged unless the segments follow each other and all in them is whole."""
    expected = chain[0].first if chain else 0
    for segment in chain:
        if segment.first != expected:
            raise JournalDamaged(f"{segment.path}: begins at record {segment.first}, {expected} is missing")
        at, expected = segment.checked()
        if segment is not chain[-1] and at != segment.path.stat().st_size:
            raise JournalDamaged(f"{segment.path}: record {expected} is damaged")


class Journal:
    """The writing end. Appending is durable when `append` returns (with `sync`)."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        """Open the last segment at its last whole record; `rotate` must come first where there is none.

        What is cut off there can only be a record whose append never returned, or, without `sync`, the end of
        what a power cut left. Raises JournalDamaged if it is anything else.
        """
        self._folder, self._sync = folder, sync
        self._fd = -1
        self.number = 0
        self.bytes = 0
        self.cut_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        sync_path(folder.parent)
        for stray in folder.glob("*.tmp"):
            stray.unlink()
        if chain := segments(folder):
            self._reopen(chain[-1])

    @property
    def synced(self) -> bool:
        """Whether every record is on the disk when `append` returns."""
        return self._sync

    @property
    def is_new(self) -> bool:
        return self._fd < 0

    def append(self, inputs: Sequence[Input]) -> int:
        """Write one record and sync it; return its number.

        Raises Retryable if the disk refuses it (nothing of it stays), Fatal if a sync failed: then nobody
        knows what is on the disk until the file is opened again.
        """
        payload = _NUMBER.pack(self.number + 1) + codec.encode(inputs)
        self._write(_frame(payload))
        self.number += 1
        return self.number

    def rotate(self, closed_ns: int, state: bytes) -> None:
        """Begin a new segment with the core's state after the last record.

        Raises Retryable if the disk refuses it (the old segment goes on), Fatal if a sync failed.
        """
        payload = _HEAD.pack(self.number, closed_ns) + state
        whole = MAGIC + _frame(payload)
        path = self._folder / f"{self.number + 1:016d}.log"
        _write_aside(path, whole)
        self.close()
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND)
        self.bytes = len(whole)

    def drop_before(self, first: int) -> list[Path]:
        """Take the segments before record `first` off the journal; the caller unlinks the files returned.

        That takes the disk a while, so it is for another thread. What a kill leaves is taken off at the next
        start by whoever noted `first`, or removed as a stray.
        """
        gone = [segment.path for segment in segments(self._folder)[:-1] if segment.first < first]
        return [path.rename(path.with_suffix(".tmp")) for path in gone]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _reopen(self, last: Segment) -> None:
        self.number = last.head().number
        for record in read([last]):
            self.number = record.number
        self.bytes = last.whole_bytes()
        self.cut_bytes = last.path.stat().st_size - self.bytes
        if self.cut_bytes and last.holds_after(self.bytes, self.number + 1):
            raise JournalDamaged(f"{last.path}: record {self.number + 1} is damaged, not all after it are")
        self._fd = os.open(last.path, os.O_RDWR | os.O_APPEND)
        if self.cut_bytes:
            os.ftruncate(self._fd, self.bytes)
            os.fdatasync(self._fd)

    def _write(self, frame: bytes) -> None:
        try:
            written = os.write(self._fd, frame)
            if written != len(frame):
                raise OSError(28, "No space left on device")  # noqa: TRY301 - a short write says only that
        except OSError as error:
            os.ftruncate(self._fd, self.bytes)
            raise Retryable(f"{self._folder}: {error.strerror}") from error
        if self._sync:
            self._sync_or_die()
        self.bytes += len(frame)

    def _sync_or_die(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise Fatal(f"{self._folder}: sync failed: {error.strerror}") from error


def _frame(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), crc32(payload)) + payload


def _write_aside(path: Path, content: bytes) -> None:
    """Let a file appear whole or not at all."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise Retryable(f"{path}: {error.strerror}") from error
    try:
        sync_path(path.parent)
    except OSError as error:
        raise Fatal(f"{path.parent}: sync failed: {error.strerror}") from error
