"""A day of small files becomes one, and nobody notices: no reader, not after a kill, not on a full disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from market.errors import UsageError
from market.rows import Rows
from storage.archive import ArchiveDamaged, ArchiveFile, Place, current, place_of
from storage.compact import GRACE_S, MANY, compact, compact_all, superseded, to_merge
from storage.hot import HotFile
from storage.proof import prove
from storage.reads import begin, export, seen
from tests.storage.archive_support import END, MIDNIGHT, TIMEFRAMES, everything, filled, plan
from tests.storage.hot_rows import MINUTE, PAIR, T0, candle, open_hot
from tests.storage.record import Opened

ROOT = Path(__file__).parents[2]
NOW_S = T0 / 10**9 + 7 * 86_400
LATER_S = 4_000_000_000.0

# The choice


def file(first: int, last: int, date: str = "date=2025-12-20") -> ArchiveFile:
    return ArchiveFile(Path(f"/x/{date}/S-{first:08d}-{last:08d}-00000000.parquet"), first, last, "00000000")


def test_a_day_that_is_over_becomes_one_file_and_one_that_grows_after_many() -> None:
    files = [file(n, n) for n in range(1, MANY + 1)]
    assert to_merge(files, 99, "date=2025-12-21") == [files]
    assert to_merge(files, 99, "date=2025-12-20") == []
    files.append(file(MANY + 1, MANY + 1))
    assert to_merge(files, 99, "date=2025-12-20") == [files]
    assert to_merge(files[:1], 99, "date=2025-12-21") == []


def test_what_is_not_recorded_yet_is_left_alone() -> None:
    files = [file(1, 1), file(2, 2), file(3, 3)]
    assert to_merge(files, 2, "date=2025-12-21") == [files[:2]]
    assert superseded([*files, file(1, 3)], 2) == []
    assert superseded([*files, file(1, 3)], 3) == files


def test_who_knows_of_fewer_sweeps_reads_the_files_of_before() -> None:
    files, other_day = [file(1, 1), file(2, 2), file(3, 3)], file(1, 4, "date=2025-12-21")
    merged = file(1, 3)
    assert current([*files, merged, other_day], 3) == [merged]
    assert current([*files, merged, other_day], 2) == files[:2]
    assert current([*files, merged, file(1, 4)], 9) == [file(1, 4)]


# The work


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "binance/spot/BTCUSDT/trading.duckdb"


@pytest.fixture
def made(path: Path) -> Iterator[tuple[HotFile, Opened]]:
    hot, opened = filled(path)
    for minutes in range(-50, 60, 10):
        hot.sweep(plan(MIDNIGHT + minutes * MINUTE))
    yield hot, opened
    hot.close()


def place(path: Path) -> Place:
    return place_of(path.parent, PAIR)


def test_readers_see_no_difference(made: tuple[HotFile, Opened], path: Path, tmp_path: Path) -> None:
    hot, opened = made
    before, ticks = everything(hot, opened), hot.ticks_after(0, 999)
    done = compact_all(tmp_path / "archive", NOW_S)
    assert (done.made, done.damaged) == (14, ())
    assert everything(hot, opened) == before
    assert hot.ticks_after(0, 999).tolist() == ticks.tolist()
    assert [x for x in prove(begin(hot.connection), opened, TIMEFRAMES) if not x.ok] == []
    assert compact_all(tmp_path / "archive", NOW_S).made == 0
    there = len(place(path).files("ticks"))
    compact_all(tmp_path / "archive", LATER_S)
    assert (there, len(place(path).files("ticks"))) == (13, 2)
    assert everything(hot, opened) == before
    hot.sweep(plan(END))
    assert everything(hot, opened) == before


def test_superseded_files_stay_for_a_while(made: tuple[HotFile, Opened], path: Path, tmp_path: Path) -> None:
    assert made
    compact_all(tmp_path / "archive", NOW_S)
    files = place(path).files("ticks")
    made_s = max(file.path.stat().st_mtime for file in files)
    compact_all(tmp_path / "archive", made_s + GRACE_S - 5)
    assert place(path).files("ticks") == files
    compact_all(tmp_path / "archive", made_s + GRACE_S + 5)
    assert place(path).files("ticks") == current(files, 99)


def test_the_latest_sweep_of_a_restated_candle_is_kept(path: Path, tmp_path: Path) -> None:
    hot = open_hot(path)
    for revision in range(3):
        bar = candle(T0, close=1.5 + revision, revision=revision)
        hot.flush(Rows(replaced={"candles_1m": [bar]}), 1 + revision)
        hot.sweep(plan(T0 + MINUTE, "candles_1m"))
    compact_all(tmp_path / "archive", NOW_S)
    compact_all(tmp_path / "archive", LATER_S)
    (kept,) = place(path).files("candles_1m")
    assert duckdb.read_parquet(str(kept.path)).project("close, revision").fetchall() == [(3.5, 2)]
    assert [(row[4], row[11]) for row in everything(hot, {})["candles_1m"]] == [(3.5, 2)]
    hot.close()


def test_a_reader_whose_files_were_removed_looks_again(made: tuple[HotFile, Opened], tmp_path: Path) -> None:
    hot, opened = made
    tries: list[int] = []

    def read() -> int:
        tries.append(len(tries))
        if len(tries) == 1:
            for now_s in (NOW_S, LATER_S):
                compact_all(tmp_path / "archive", now_s)
        ((count,),) = cursor.execute("SELECT count(DISTINCT hash(ticks)) FROM ticks").fetchall()
        return int(count)

    with closing(begin(hot.connection)) as cursor:
        assert (seen(cursor, opened, read, "test"), tries) == (800, [0, 1])


# Damage


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)


def ask(hot: HotFile, sql: str, out: Path) -> str:
    with closing(begin(hot.connection)) as cursor:
        export(cursor, {}, sql, "csv", out)
    return out.read_text()


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_byte_is_named_counted_and_the_rest_goes_on(
    made: tuple[HotFile, Opened], path: Path, tmp_path: Path, seed: int
) -> None:
    hot, opened = made
    bad = place(path).files("ticks")[2].path
    flip(bad, random.Random(seed).randrange(bad.stat().st_size))
    with pytest.raises(ArchiveDamaged, match=bad.name) as told:
        ask(hot, "SELECT count(*) FROM ticks", tmp_path / "out")
    assert "\n" not in str(told.value)
    with pytest.raises(ArchiveDamaged, match=bad.name):
        prove(begin(hot.connection), opened, TIMEFRAMES)
    with pytest.raises(ArchiveDamaged, match=bad.name):
        hot.ticks_after(0, 999)
    with pytest.raises(ArchiveDamaged, match=f"^1 damaged files, the first: .*{bad.name}"):
        compact(tmp_path / "archive")
    assert ask(hot, "SELECT count(*) FROM candles_1m", tmp_path / "out")
    assert bad.exists()
    kept = [file for file in current(place(path).files("ticks"), 99) if file.date == "date=2025-12-20"]
    assert [(file.first, file.last) for file in kept] == [(1, 2), (3, 3), (4, 6)]
    hot.sweep(plan(END, "ticks"))
    bad.unlink()
    rest = ask(hot, "SELECT count(*) < 800, max(seq) FROM ticks", tmp_path / "out")
    assert rest.splitlines()[1:] == ["true,800"]


def test_damage_since_a_file_was_checked_is_named_too(
    made: tuple[HotFile, Opened], path: Path, tmp_path: Path
) -> None:
    hot, _ = made
    ask(hot, "FROM ticks", tmp_path / "out")
    bad = place(path).files("ticks")[3].path
    times = bad.stat()
    raw = bad.read_bytes()
    bad.write_bytes(raw[:4] + bytes(len(raw) - 8) + raw[-4:])
    os.utime(bad, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ArchiveDamaged, match=bad.name):
        ask(hot, "FROM ticks", tmp_path / "out")
    with pytest.raises(UsageError, match="nope"):
        ask(hot, "SELECT nope FROM quotes", tmp_path / "out")


# Kills and full disks

COMPACT_FOR_EVER = """
import sys
from pathlib import Path
from storage.compact import compact_all
print("ready", flush=True)
while True:
    compact_all(Path(sys.argv[1]), 4e9)
"""

NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from market.errors import Retryable
from storage.compact import compact_all
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
root = Path(sys.argv[1])
before = sorted(root.rglob("*.*"))
resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
try:
    compact_all(root, 4e9)
    sys.exit("merged into no room")
except Retryable:
    assert sorted(root.rglob("*.*")) == before
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert compact_all(root, 4e9).made > 0
"""


def run(script: str, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_kill_anywhere_in_a_compaction_doubles_nothing_and_loses_nothing(
    made: tuple[HotFile, Opened], tmp_path: Path
) -> None:
    hot, opened = made
    before, rng = everything(hot, opened), random.Random(3)
    for minutes in range(0, 24, 4):
        with run(COMPACT_FOR_EVER, tmp_path / "archive") as child:
            assert child.stdout is not None
            child.stdout.readline()
            threading.Event().wait(rng.random() * 0.3)  # anywhere inside
            hot.sweep(plan(MIDNIGHT + (50 + minutes) * MINUTE))
            assert everything(hot, opened) == before
            child.kill()
        assert everything(hot, opened) == before
    compact_all(tmp_path / "archive", LATER_S)
    assert not list((tmp_path / "archive").rglob("*.tmp"))
    assert everything(hot, opened) == before


def test_a_full_disk_stops_a_compaction(made: tuple[HotFile, Opened], tmp_path: Path) -> None:
    hot, opened = made
    before = everything(hot, opened)
    with run(NO_ROOM, tmp_path / "archive") as child:
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert everything(hot, opened) == before
