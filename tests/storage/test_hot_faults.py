"""What a kill, a torn or full disk or a foreign hand leaves is found at open, never used, never a crash."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from market.errors import Retryable, UsageError
from market.rows import Rows, TickRows
from storage.duck import mark, wal
from storage.hot import Damaged, HotFile, set_aside
from tests.storage.hot_rows import make_ticks, open_hot, some_of_each

ROOT = Path(__file__).parents[2]

FLUSH_FOR_EVER = """
import sys
from pathlib import Path
from tests.storage.hot_rows import open_hot, some_of_each
hot = open_hot(Path(sys.argv[1]))
while True:
    hot.flush(some_of_each(hot.last_tick_seq() + 1, 20), hot.position + 1)
    print(hot.position, flush=True)
"""

NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from market.errors import Retryable
from tests.storage.hot_rows import open_hot, some_of_each
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
hot = open_hot(path)
hot.flush(some_of_each(1, 20), 1)
room = path.with_name(path.name + ".wal").stat().st_size + 100
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
try:
    hot.flush(some_of_each(21, 20), 2)
    sys.exit("flushed into no room")
except Retryable:
    assert (hot.position, hot.last_tick_seq()) == (1, 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
hot.flush(some_of_each(21, 20), 2)
hot.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed file of seven flushes, the last two only in its log."""
    path = tmp_path / "pair/trading.duckdb"
    hot = open_hot(path)
    for number in range(1, 8):
        hot.flush(some_of_each(hot.last_tick_seq() + 1, 50), number)
        if number == 5:
            hot.checkpoint()
    hot.close()
    return path


def start(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_whole(hot: HotFile, each: int) -> None:
    """See that every table holds exactly `each` rows for every flush up to the position."""
    want = hot.position * each
    assert hot.last_tick_seq() == want
    for table in ("ticks", "events"):
        numbers = hot.connection.table(table).aggregate("count(*), count(DISTINCT seq), max(seq)").fetchall()
        assert numbers == [(want, want, want)]
    for table in ("candles_1m", "order_flow", "quotes", "data_gaps", "rejected"):
        assert len(hot.connection.table(table)) == hot.position


def test_a_kill_during_flushes_leaves_whole_flushes(tmp_path: Path) -> None:
    path, flushed = tmp_path / "trading.duckdb", 0
    for round_number in range(4):
        with start(FLUSH_FOR_EVER, path) as child:
            assert child.stdout is not None
            for _ in range(10 + round_number):
                flushed = int(child.stdout.readline())
            threading.Event().wait(random.Random(round_number).random() * 0.01)  # anywhere inside a flush
            child.kill()
            flushed = max([flushed, *map(int, child.stdout.read().split("\n")[:-1])])
        hot = open_hot(path)
        assert flushed <= hot.position <= flushed + 1
        assert_whole(hot, 20)
        hot.close()


def test_a_full_disk_is_retryable_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trading.duckdb"
    with start(NO_ROOM, path) as child:
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    hot = open_hot(path)
    assert hot.position == 2
    assert_whole(hot, 20)
    hot.close()


def test_a_file_that_another_process_holds_is_retryable_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "trading.duckdb"
    with start(FLUSH_FOR_EVER, path) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(Retryable, match="lock"):
            open_hot(path)
        child.send_signal(signal.SIGKILL)


def flip(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :]


def flip_text(raw: bytes, text: bytes) -> bytes:
    """Change a value: a changed length would only end the log there, as a power cut does."""
    return flip(raw, raw.index(text))


HARM: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello\n" * 9000),
    "sqlite": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(9000)),
    "zeros": lambda path: path.write_bytes(bytes(1 << 20)),
    "cut in the head": lambda path: os.truncate(path, 5000),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped in the first header": lambda path: path.write_bytes(flip(path.read_bytes(), 20)),
    "flipped in a database header": lambda path: path.write_bytes(flip(path.read_bytes(), 4096 + 10)),
    "flipped in mid log": lambda path: wal(path).write_bytes(
        flip_text(wal(path).read_bytes(), b"UnknownUnknown")
    ),
    "gone but for its log": lambda path: path.unlink(),
    "a killed checkpoint": lambda path: mark(path).touch(),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_found_and_set_aside(path: Path, harm: str) -> None:
    HARM[harm](path)
    with pytest.raises(Damaged, match=r"trading\.duckdb"):
        open_hot(path)
    set_aside(path)
    hot = open_hot(path)
    assert (hot.position, hot.last_tick_seq()) == (0, 0)
    hot.flush(some_of_each(1, 2), 1)
    hot.close()
    assert {file.name for file in path.parent.iterdir()} <= {
        "trading.duckdb",
        "trading.duckdb.wal",
        "trading.duckdb.damaged",
        "trading.duckdb.wal.damaged",
    }


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE meta SET value = 'kraken:spot:XBTUSDT' WHERE key = 'pair'", "kraken:spot:XBTUSDT"),
        ("DROP TABLE events", "events"),
        ("DROP VIEW sink_cursors; DROP TABLE meta", "meta"),
        ("DELETE FROM meta", "schema version none"),
        ("DELETE FROM meta WHERE key = 'position'", "where it stands"),
        ("UPDATE meta SET value = '17' WHERE key = 'position'", "where it stands"),
        ("DELETE FROM ticks WHERE seq = 20", "ticks"),
        ("DELETE FROM ticks WHERE seq > 300", "ticks"),
        ("DELETE FROM events WHERE seq = 350", "events"),
        ("INSERT INTO ticks FROM ticks WHERE seq = 7", "ticks"),
    ],
)
def test_rows_that_disagree_with_the_last_commit_are_damage(path: Path, statement: str, said: str) -> None:
    with duckdb.connect(path) as con:
        con.execute(statement)
    with pytest.raises(Damaged, match=said):
        open_hot(path)


def test_a_foreign_database_is_damage(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "trading.duckdb") as con:
        con.execute("CREATE TABLE meta AS SELECT 1 AS something")
    with pytest.raises(Damaged):
        open_hot(tmp_path / "trading.duckdb")


def test_a_later_schema_is_the_users_to_solve(path: Path) -> None:
    with duckdb.connect(path) as con:
        con.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    with pytest.raises(UsageError, match=r"trading\.duckdb: schema version 2; this marketd knows 1"):
        open_hot(path)


def test_a_torn_log_falls_back_to_the_last_whole_flush(path: Path) -> None:
    os.truncate(wal(path), wal(path).stat().st_size - 7)
    hot = open_hot(path)
    assert hot.position == 6
    assert_whole(hot, 50)
    hot.close()


@pytest.mark.parametrize("seed", range(12))
def test_any_flipped_byte_is_damage_or_harmless(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    target = rng.choice([path, wal(path)])
    raw = target.read_bytes()
    target.write_bytes(flip(raw, rng.randrange(min(len(raw), 20_000))))
    try:
        hot = open_hot(path)
    except Damaged:
        return
    assert_whole(hot, 50)
    hot.close()


@pytest.fixture
def large(tmp_path: Path) -> Iterator[HotFile]:
    hot = open_hot(tmp_path / "trading.duckdb")
    for number in range(20):
        hot.flush(Rows(ticks=[TickRows(hot.last_tick_seq() + 1, make_ticks(16_384))]), number + 1)
    yield hot
    hot.close()


def test_readers_in_other_threads_do_not_stop_the_writer(large: HotFile) -> None:
    faults: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                with large.connection.cursor() as cursor:
                    ((count, last),) = cursor.execute("SELECT count(*), max(seq) FROM ticks").fetchall()
                    assert count == last
        except (duckdb.Error, AssertionError) as fault:
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(60):
            large.flush(some_of_each(large.last_tick_seq() + 1, 10), large.position + 1)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert faults == []


def test_a_checkpoint_waits_for_the_reader_of_an_older_snapshot(large: HotFile) -> None:
    with large.connection.cursor() as cursor:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        before = cursor.execute("SELECT count(*), sum(price) FROM ticks").fetchall()
        large.flush(some_of_each(large.last_tick_seq() + 1, 10), large.position + 1)
        with pytest.raises(Retryable, match="CHECKPOINT"):
            large.checkpoint()
        assert cursor.execute("SELECT count(*), sum(price) FROM ticks").fetchall() == before
    large.checkpoint()
