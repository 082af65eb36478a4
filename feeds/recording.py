"""Files of raw frames: one for each hour of a pair, a further one when it is full or a recorder begins anew.

A file's name is the hour in UTC in which its first frame was received, and a number; by name they are in the
order of writing, as long as the clock is not set back over an hour.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from feeds.recording_format import MEMBER_BYTES, Kept, Packer, Unpacker
from market.errors import Retryable, UsageError
from market.times import NS_PER_S

FLUSH_NS = NS_PER_S
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_WAITING_BYTES = 16 * 1024 * 1024
SUFFIX = ".frames.jsonl.gz"
_HOUR_NS = 3_600 * NS_PER_S
_OVERHEAD_BYTES = 256  # of a frame that waits, about

log = structlog.get_logger(__name__)


class Recorder:
    """Write the frames of one pair; what is flushed survives a kill, what is closed a power cut.

    Frames wait for a second or a block. As long as the disk refuses them they wait on, at most
    MAX_WAITING_BYTES of them: then the oldest are let go, and counted in `lost`.
    """

    def __init__(self, folder: Path, pair: str, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self.lost = 0
        self._folder, self._pair, self._max_file_bytes = folder, pair, max_file_bytes
        self._packer = Packer(pair)
        self._waiting: deque[Kept] = deque()
        self._waiting_bytes = 0
        self._since_ns = 0  # they wait, by the clock of the frames, or when they were last refused
        self._refused = False
        self._file: Path | None = None
        self._fd = -1
        self._hour = 0
        self._bytes = 0  # of whole blocks in the open file

    def append(self, kept: Kept) -> None:
        """Take a frame, and write what waits if it is time. Raises Retryable, and still has the frame."""
        try:
            if self._ends_hour(kept):
                self.close()
        finally:
            self._take(kept)
        is_due = not 0 <= kept.received_ns - self._since_ns < FLUSH_NS  # also when the clock was set back
        if is_due or (self._waiting_bytes >= MEMBER_BYTES and not self._refused):
            self.flush()

    def flush(self) -> None:
        """Write what waits; to be called each second, for frames that no other follows. Raises Retryable."""
        if not self._waiting:
            return
        try:
            if self._file is None:
                self._open()
            packed = self._packer.block(self._waiting)
            self._write(packed)
        except OSError as error:
            self._refused, self._since_ns = True, self._waiting[-1].received_ns
            self._leave()
            raise self._refusal(error) from error
        self._refused, self._bytes = False, self._bytes + len(packed)
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._bytes >= self._max_file_bytes:
            self.close()

    def close(self) -> None:
        """End the file, if one is open, and see it on the disk. Raises Retryable."""
        self.flush()
        if self._file is None:
            return
        try:
            self._write(self._packer.end())
            os.fsync(self._fd)
        except OSError as error:
            raise self._refusal(error) from error
        finally:
            self._leave()

    def _ends_hour(self, kept: Kept) -> bool:
        hour = kept.received_ns // _HOUR_NS
        if self._file is not None:
            return hour != self._hour
        return bool(self._waiting) and not self._refused and hour != self._waiting[0].received_ns // _HOUR_NS

    def _take(self, kept: Kept) -> None:
        if not self._waiting:
            self._since_ns = kept.received_ns
        self._waiting.append(kept)
        self._waiting_bytes += _weight(kept)
        while self._waiting_bytes > MAX_WAITING_BYTES and len(self._waiting) > 1:
            self._waiting_bytes -= _weight(self._waiting.popleft())
            self.lost += 1

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._hour = self._waiting[0].received_ns // _HOUR_NS
        name = datetime.fromtimestamp(self._hour * _HOUR_NS // NS_PER_S, UTC).strftime("%Y%m%dT%H")
        last = max(self._folder.glob(f"{name}-[0-9][0-9][0-9][0-9][0-9]{SUFFIX}"), default=None)
        number = int(last.name[len(name) + 1 :][:5]) + 1 if last else 0
        file = self._folder / f"{name}-{number:05d}{SUFFIX}"
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._file, self._bytes = file, 0

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def _leave(self) -> None:
        """Have no open file; one that holds nothing whole is no file."""
        file, self._file, self._packer = self._file, None, Packer(self._pair)
        if file is None:
            return
        with suppress(OSError):  # on a disk that refuses, an unread beginning may stay
            os.close(self._fd)
            if not self._bytes:
                file.unlink()

    def _refusal(self, error: OSError) -> Retryable:
        return Retryable(f"{self._folder}: frames cannot be recorded: {error.strerror or error}")


def _weight(kept: Kept) -> int:
    return len(kept.frame) + _OVERHEAD_BYTES


def recordings(folder: Path) -> list[Path]:
    """List the files of a pair in the order of writing."""
    return sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.name)


def pair_of(file: Path) -> str:
    """Tell whose frames a file holds, "" if it holds none. Raises UsageError."""
    unpacker = Unpacker(_content(file))
    next(_named(file, unpacker), None)
    return unpacker.pair


def read(file: Path) -> Iterator[Kept]:
    """Yield a file's frames in the order in which they were written.

    What a kill tore off or a disk damaged is left out and told. Raises UsageError for a file of another kind.
    """
    unpacker = Unpacker(_content(file))
    yield from _named(file, unpacker)
    if unpacker.torn or unpacker.damaged:
        log.warning("recording_incomplete", file=str(file), torn=unpacker.torn, damaged=unpacker.damaged)


def _named(file: Path, unpacker: Unpacker) -> Iterator[Kept]:
    try:
        yield from unpacker.frames()
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def _content(file: Path) -> bytes:
    """Read a file whole: at most MAX_FILE_BYTES and a block."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
