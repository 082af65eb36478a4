"""Files of frames: hours, sizes, kills, and a disk that refuses."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from feeds import recording
from feeds.recording import MAX_WAITING_BYTES, Recorder, pair_of, read, recordings
from feeds.recording_format import MEMBER_BYTES, Kept
from market.errors import Retryable, UsageError
from market.times import NS_PER_S

PAIR = "coinbase:spot:BTC-USD"
NINE_NS = 1_786_309_200 * NS_PER_S  # 2026-08-09T21:00:00Z
HOUR_NS = 3_600 * NS_PER_S


def frame(at_ns: int, text: str = "x") -> Kept:
    return Kept(at_ns, 1, "/", json.dumps({"type": "match", "text": text}).encode())


def everything(folder: Path) -> list[Kept]:
    return [kept for file in recordings(folder) for kept in read(file)]


def names(folder: Path) -> list[str]:
    return [file.name.removesuffix(recording.SUFFIX) for file in recordings(folder)]


@contextmanager
def at_most(file_bytes: int) -> Iterator[None]:
    """Let the system refuse to make any file of this process longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_frames_come_back_in_order_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a" / "b", PAIR)
    kept = [
        Kept(NINE_NS + i * 10**8, 1 + i % 2, "/ws" if i % 3 else "/", bytes([i, 255 - i])) for i in range(99)
    ]
    for one in kept:
        recorder.append(one)
    recorder.close()
    with capture_logs() as logs:
        assert everything(tmp_path / "a" / "b") == kept
    assert logs == []
    assert [pair_of(file) for file in recordings(tmp_path / "a" / "b")] == [PAIR]


def test_each_hour_has_a_file_named_after_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    times = [NINE_NS - 1, NINE_NS, NINE_NS + HOUR_NS - 1, NINE_NS + HOUR_NS, NINE_NS + 30 * HOUR_NS]
    for at_ns in times:
        recorder.append(frame(at_ns))
    recorder.close()
    assert names(tmp_path) == [
        "20260809T20-00000",
        "20260809T21-00000",
        "20260809T22-00000",
        "20260811T03-00000",
    ]
    by_file = [[x.received_ns for x in read(file)] for file in recordings(tmp_path)]
    assert by_file == [times[:1], times[1:3], times[3:4], times[4:]]


def test_a_clock_that_is_set_back_begins_a_further_file_of_that_hour(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    for at_ns in (NINE_NS, NINE_NS + HOUR_NS, NINE_NS, NINE_NS + HOUR_NS):
        recorder.append(frame(at_ns))
    recorder.close()
    assert names(tmp_path) == [f"20260809T{x}" for x in ("21-00000", "21-00001", "22-00000", "22-00001")]


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR, max_file_bytes=2_000)
    kept = [frame(NINE_NS + i * NS_PER_S, os.urandom(300).hex()) for i in range(40)]
    for one in kept:
        recorder.append(one)
    recorder.close()
    sizes = [file.stat().st_size for file in recordings(tmp_path)]
    assert len(sizes) > 5
    assert all(2_000 <= size < 3_000 for size in sizes[:-1])
    assert names(tmp_path) == [f"20260809T21-{i:05d}" for i in range(len(sizes))]
    assert everything(tmp_path) == kept


def test_a_new_recorder_never_touches_what_is_there(tmp_path: Path) -> None:
    for i in range(3):
        recorder = Recorder(tmp_path, PAIR)
        recorder.append(frame(NINE_NS + i))
        recorder.close()
        if i == 1:
            recordings(tmp_path)[0].unlink()  # a number that became free is not taken again
    assert names(tmp_path) == ["20260809T21-00001", "20260809T21-00002"]
    assert [x.received_ns for x in everything(tmp_path)] == [NINE_NS + 1, NINE_NS + 2]


def test_a_frame_waits_for_a_second_or_a_block_at_most(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    recorder.append(frame(NINE_NS))
    recorder.append(frame(NINE_NS + NS_PER_S - 1))
    assert everything(tmp_path) == []
    recorder.append(frame(NINE_NS + NS_PER_S))
    assert len(everything(tmp_path)) == 3
    recorder.append(frame(NINE_NS + NS_PER_S + 1))
    assert len(everything(tmp_path)) == 3
    recorder.flush()
    assert len(everything(tmp_path)) == 4
    recorder.append(frame(NINE_NS + NS_PER_S + 2, "x" * MEMBER_BYTES))
    assert len(everything(tmp_path)) == 5
    recorder.append(frame(NINE_NS + NS_PER_S + 9))
    recorder.append(frame(NINE_NS + NS_PER_S + 8))  # a clock that was set back
    assert len(everything(tmp_path)) == 7
    recorder.close()


def test_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "pair", PAIR)
    recorder.flush()
    recorder.close()
    assert not (tmp_path / "pair").exists()


WRITE = """
import sys, pathlib
from feeds.recording import Recorder
from feeds.recording_format import Kept
recorder = Recorder(pathlib.Path(sys.argv[1]), "coinbase:spot:BTC-USD")
at_ns = 1_786_309_200_000_000_000
while True:
    at_ns += 50_000_000
    recorder.append(Kept(at_ns, 1, "/", b'{"n":%d}' % (at_ns // 50_000_000)))
    if at_ns % 1_000_000_000 == 0:
        print(at_ns, flush=True)
"""


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        told_ns = [int(child.stdout.readline()) for _ in range(500)][-1]
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    with capture_logs() as logs:
        got = everything(tmp_path)
    first_ns = got[0].received_ns
    assert [x.received_ns for x in got] == [first_ns + i * 50_000_000 for i in range(len(got))]
    assert all(x.frame == b'{"n":%d}' % (x.received_ns // 50_000_000) for x in got)
    assert got[-1].received_ns > told_ns - 2 * NS_PER_S
    assert [(x["event"], x["torn"], x["damaged"]) for x in logs] == [("recording_incomplete", True, 0)]


def test_cut_at_any_byte_a_file_gives_the_beginning(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    kept = [frame(NINE_NS + i * NS_PER_S // 2, str(i)) for i in range(9)]
    for one in kept:
        recorder.append(one)
    recorder.close()
    (file,) = recordings(tmp_path)
    whole, torn = file.read_bytes(), tmp_path / f"torn{recording.SUFFIX}"
    counts = []
    for cut in range(len(whole) + 1):
        torn.write_bytes(whole[:cut])
        with capture_logs() as logs:
            got = list(read(torn))
        assert got == kept[: len(got)]
        assert len(logs) == (0 < cut < len(whole))
        counts.append(len(got))
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 9)


def test_a_disk_that_refuses_costs_time_but_no_frame(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    kept = [frame(NINE_NS + i * NS_PER_S, os.urandom(200).hex()) for i in range(30)]
    refusals = 0
    for i, one in enumerate(kept):
        with at_most(600 if 5 <= i < 20 else 10**9):
            try:
                recorder.append(one)
            except Retryable as error:
                refusals += 1
                assert "frames cannot be recorded" in str(error)  # noqa: PT017 - most of them are none
    recorder.close()
    assert refusals > 8
    assert recorder.lost == 0
    with capture_logs() as logs:
        assert everything(tmp_path) == kept
    assert len(recordings(tmp_path)) == 2  # those that held nothing whole are gone
    assert [x["torn"] for x in logs] == [True]


def test_while_the_disk_refuses_it_is_asked_once_a_second(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    recorder = Recorder(tmp_path / "file", PAIR)
    refusals = 0
    for i in range(1_000):
        try:
            recorder.append(frame(NINE_NS + i * NS_PER_S // 100, "x" * 4_000))  # 4 blocks in all
        except Retryable:
            refusals += 1
    assert 8 <= refusals <= 12
    (tmp_path / "file").unlink()
    recorder.close()
    assert len(everything(tmp_path / "file")) == 1_000


def test_what_waits_for_the_disk_is_bounded_and_what_is_let_go_is_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    recorder = Recorder(tmp_path / "file", PAIR)
    count, text = 40, "x" * (MAX_WAITING_BYTES // 20)
    for i in range(count):
        try:
            recorder.append(frame(NINE_NS + i, text))
        except Retryable:
            continue
    (tmp_path / "file").unlink()
    recorder.close()
    got = everything(tmp_path / "file")
    assert 15 < len(got) <= 20
    assert recorder.lost == count - len(got)
    assert [x.received_ns - NINE_NS for x in got] == list(range(recorder.lost, count))


def test_the_hour_may_end_while_the_disk_refuses(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    kept = [frame(NINE_NS + HOUR_NS - 10 + i, os.urandom(200).hex()) for i in range(20)]
    recorder.append(kept[0])
    recorder.flush()
    refusals = 0
    for one in kept[1:]:
        with at_most(500):
            try:
                recorder.append(one)
            except Retryable:
                refusals += 1
    recorder.close()
    assert refusals == 1
    assert everything(tmp_path) == kept


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / f"other{recording.SUFFIX}"
    other.write_bytes(b"trade_id,price\n")
    for call in (lambda: list(read(other)), lambda: pair_of(other)):
        with pytest.raises(UsageError, match=r"other\.frames\.jsonl\.gz: no recording of frames"):
            call()
    with pytest.raises(UsageError, match=r"gone.*No such file"):
        list(read(tmp_path / "gone"))
    (tmp_path / "empty").touch()
    assert pair_of(tmp_path / "empty") == ""


def test_gunzip_reads_a_file_that_is_still_being_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, PAIR)
    recorder.append(frame(NINE_NS))
    recorder.flush()
    (file,) = recordings(tmp_path)
    got = subprocess.run(["gunzip", "--stdout", file], capture_output=True, check=False)
    lines = [json.loads(x) for x in got.stdout.splitlines()]
    assert [list(x) for x in lines] == [
        ["format", "version", "pair"],
        ["ns", "connection", "path", "frame"],
        ["check"],
    ]
    recorder.close()
    with gzip.open(file) as whole:
        assert whole.read() == got.stdout
