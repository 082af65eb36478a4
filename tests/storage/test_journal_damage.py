"""The journal under torn tails, flipped bytes, a full disk and kills."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from market.errors import Retryable
from storage.journal import Journal, JournalDamaged, Record, Segment, check, read, segments, survey
from tests.disk_support import small_disk
from tests.storage.journal_support import batch, begun, fill, numbers, plain

ROOT = Path(__file__).parents[2]

APPEND_FOR_EVER = """
import sys
from pathlib import Path
from storage.journal import Journal
from tests.storage.journal_support import batch
journal = Journal(Path(sys.argv[1]), sync=True)
if journal.is_new:
    journal.rotate(-1, b"state 0")
while True:
    number = journal.append([batch(journal.number + 1)])
    print(number, flush=True)
    if number % 50 == 0:
        journal.rotate(number, b"state %d" % number)
"""

NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from market.errors import Retryable
from storage.journal import Journal, segments
from tests.storage.journal_support import batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
journal = Journal(folder, sync=True)
journal.rotate(-1, b"state")
journal.append([batch(1)])

def refused(do):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    try:
        do()
    except Retryable:
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        return
    sys.exit("there was no room")

for spare in (0, 1, 30):
    limit = journal.bytes + spare
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    refused(lambda: journal.append([batch(2)]))
    refused(lambda: journal.rotate(5, b"s" * limit))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert journal.append([batch(2)]) == 2
journal.rotate(5, b"state")
assert journal.append([batch(3)]) == 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with begun(folder) as journal:
        yield journal


def last_file(folder: Path) -> Path:
    return segments(folder)[-1].path


def test_a_tail_torn_at_any_byte_is_cut_at_the_last_whole_record(folder: Path, journal: Journal) -> None:
    fill(journal, 5, rotate_after=(2,))
    path, end = last_file(folder), journal.bytes
    fill(journal, 1)
    journal.close()
    whole = path.read_bytes()
    for length in range(end, len(whole)):
        path.write_bytes(whole[:length])
        opened = Journal(folder, sync=True)
        assert (opened.number, opened.cut_bytes, path.stat().st_size) == (5, length - end, end)
        assert opened.append([batch(6)]) == 6
        opened.close()
        assert path.read_bytes() == whole


def test_a_tail_of_zeros_is_cut(folder: Path, journal: Journal) -> None:
    fill(journal, 3)
    journal.close()
    with last_file(folder).open("ab") as file:
        file.write(bytes(100))  # as a power cut leaves it
    opened = Journal(folder, sync=True)
    assert (opened.number, opened.cut_bytes) == (3, 100)
    opened.close()


def test_a_flipped_byte_anywhere_is_found(folder: Path, journal: Journal) -> None:
    fill(journal, 6, rotate_after=(3,))
    journal.close()
    files = [s.path for s in segments(folder)]
    for path in files:
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            assert found(folder), f"byte {at} of {path.name}"
        path.write_bytes(whole)
    assert not found(folder)


def found(folder: Path) -> bool:
    """Read all as recovery does; tell whether the damage was named, or cut off as a torn last record."""
    sizes = [s.path.stat().st_size for s in segments(folder)]
    opened = None
    try:
        opened = Journal(folder, sync=True)
        for segment in segments(folder):
            segment.head()
        read_to = numbers(folder)[-1]
    except JournalDamaged:
        return True
    finally:
        if opened is not None:
            opened.close()
    cut = opened.cut_bytes > 0
    assert read_to == (5 if cut else 6)
    assert [s.path.stat().st_size for s in segments(folder)][:-1] == sizes[:-1]
    return cut


def test_what_is_whole_around_damage_is_found(folder: Path, journal: Journal) -> None:
    fill(journal, 12, rotate_after=(6,))
    journal.close()
    first, second = (segment.path for segment in segments(folder))
    check(segments(folder))
    for path in (first, second):
        whole = path.read_bytes()
        numbered = {record.number: plain(record.inputs[0]) for record in Segment(path).records()}
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            piece = Segment(path).piece()
            lost = numbered.keys() - {*piece.numbers}
            assert len(lost) + (piece.head is None) == 1, f"byte {at}"
            found = {record.number: plain(record.inputs[0]) for record in Segment(path).found()}
            assert found == {number: numbered[number] for number in piece.numbers}
            if path == first or not lost or max(lost) < 12:  # the last of all could be torn
                with pytest.raises(JournalDamaged):
                    check(segments(folder)) if path == first else Journal(folder, sync=True)
        path.write_bytes(whole)
    assert [piece.numbers for piece in survey(folder)] == [list(range(1, 7)), list(range(7, 13))]


def test_a_missing_segment_is_found(folder: Path, journal: Journal) -> None:
    fill(journal, 9, rotate_after=(3, 6))
    segments(folder)[1].path.unlink()
    with pytest.raises(JournalDamaged, match="4 is missing"):
        list(read(segments(folder)))


def test_another_file_is_refused(folder: Path, journal: Journal) -> None:
    journal.close()
    last_file(folder).write_bytes(b"not a journal at all, but long enough")
    with pytest.raises(JournalDamaged, match="is damaged, or of another version; restore it"):
        Journal(folder, sync=True)


def run(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_leaves_nothing_half_written_and_goes_on_with_room(folder: Path) -> None:
    with run(NO_ROOM, folder) as child:
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    assert numbers(folder) == [1, 2, 3]
    assert not list(folder.glob("*.tmp"))


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        journal = Journal(disk / "journal", sync=True)
        journal.rotate(-1, b"state")
        (disk / "ballast").write_bytes(bytes(40_000))
        with pytest.raises(Retryable, match="No space left"):
            fill(journal, 1_000)
        written = journal.number
        assert (
            segments(disk / "journal")[0].whole_bytes()
            == journal.bytes
            == last_file(disk / "journal").stat().st_size
        )
        with pytest.raises(Retryable, match="No space left"):
            journal.rotate(0, bytes(30_000))
        assert [p.suffix for p in (disk / "journal").iterdir()] == [".log"]
        (disk / "ballast").unlink()
        assert journal.append([batch(written + 1)]) == written + 1
        journal.rotate(0, bytes(3_000))
        journal.append([batch(written + 2)])
        assert numbers(disk / "journal") == list(range(1, written + 3))
        journal.close()


def test_kills_lose_nothing_that_was_acknowledged(folder: Path) -> None:
    acknowledged = 0
    for round_number in range(6):
        with run(APPEND_FOR_EVER, folder) as child:
            assert child.stdout is not None
            for _ in range(40 + round_number):
                line = child.stdout.readline()
                assert line, child.stderr.read() if child.stderr else ""
            threading.Event().wait(random.Random(round_number).random() * 0.01)  # anywhere inside an append
            child.kill()
            acknowledged = max(int(line), *map(int, child.stdout.read().split("\n")[:-1]), 0)
        journal = Journal(folder, sync=True)
        assert acknowledged <= journal.number <= acknowledged + 1
        journal.close()
        assert_whole(list(read(segments(folder))), segments(folder))


@pytest.mark.parametrize("damaged", [1, 2, 5])
def test_damage_with_whole_records_behind_it_is_no_torn_tail(
    folder: Path, journal: Journal, damaged: int
) -> None:
    fill(journal, 12)
    journal.close()
    path = segments(folder)[0].path
    raw = bytearray(path.read_bytes())
    size = len(raw) // 14
    middle = len(raw) // 2
    raw[middle : middle + damaged * size] = bytes(b ^ 0x5A for b in raw[middle : middle + damaged * size])
    path.write_bytes(raw)
    with pytest.raises(JournalDamaged):
        Journal(folder, sync=True)
    assert path.read_bytes() == bytes(raw)


def assert_whole(records: list[Record], chain: list[Segment]) -> None:
    assert [r.number for r in records] == list(range(1, len(records) + 1))
    for record in records:
        assert [plain(x) for x in record.inputs] == [plain(batch(record.number))]
    for segment in chain:  # a head is whole or not there
        assert segment.head().state == b"state %d" % (segment.first - 1)


def test_a_half_written_head_is_forgotten(folder: Path, journal: Journal) -> None:
    fill(journal, 3)
    journal.close()
    (folder / "0000000000000004.tmp").write_bytes(b"MDJRNL\x00\x01half")
    opened = Journal(folder, sync=True)
    assert (opened.number, [p.suffix for p in folder.iterdir()]) == (3, [".log"])
    opened.close()
