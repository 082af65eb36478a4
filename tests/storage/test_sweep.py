"""Rows move into the archive and nobody notices: every value, every number, whatever happens meanwhile."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.rows import OrderFlow, QuoteRow, Rows, TickRows
from market.ticks import TICK
from storage.archive import ArchiveDamaged, place_of
from storage.hot import HotFile
from storage.proof import prove
from storage.reads import begin
from storage.sweep import MAX_ROWS, Archived, Mark
from tests.storage.archive_support import (
    END,
    MIDNIGHT,
    TABLES,
    TIMEFRAMES,
    event,
    everything,
    files,
    filled,
    plan,
    stored,
)
from tests.storage.hot_rows import MINUTE, PAIR, T0, candle, make_ticks, open_hot
from tests.storage.record import Opened

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pair/trading.duckdb"


@pytest.fixture
def made(path: Path) -> Iterator[tuple[HotFile, Opened]]:
    hot, opened = filled(path)
    yield hot, opened
    hot.close()


def test_a_sweep_moves_what_is_old_and_readers_see_no_difference(made: tuple[HotFile, Opened]) -> None:
    hot, opened = made
    before, cutoff_ns = everything(hot, opened), END - 20 * MINUTE
    swept = hot.sweep(plan(cutoff_ns))
    assert everything(hot, opened) == before
    left = stored(hot)
    for table in TABLES:
        assert swept.tables[table].rows == len(before[table]) - len(left[table]) - len(opened.get(table, ()))
    for table in ("quotes", "order_flow", "candles_1m", "candles_5m", "candles_15m"):
        assert all(row[0] >= cutoff_ns for row in left[table])
    first_young = min(row[0] for row in before["ticks"] if row[1] >= cutoff_ns)
    assert [row[0] for row in left["ticks"]] == list(range(first_young, len(before["ticks"]) + 1))
    assert [x for x in prove(begin(hot.connection), opened, TIMEFRAMES) if not x.ok] == []


def test_a_day_has_a_folder_and_a_pair_its_files(made: tuple[HotFile, Opened], path: Path) -> None:
    hot, _ = made
    swept = hot.sweep(plan(END, "ticks"))
    found = files(path.parent / "archive")
    assert [file.parent.name for file in found] == ["date=2025-12-20", "date=2025-12-21"]
    assert all(
        str(file.relative_to(path.parent)).startswith("archive/ticks/source=binance.spot/") for file in found
    )
    assert all(file.name.startswith("BTCUSDT-00000001-00000001-") for file in found)
    assert swept.tables["ticks"].files == 2
    assert swept.tables["ticks"].bytes == sum(file.stat().st_size for file in found)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 121), st.sets(st.sampled_from(TABLES))), min_size=1, max_size=4))
def test_any_sweeps_leave_every_answer_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, sweeps: list[tuple[int, set[str]]]
) -> None:
    path = tmp_path_factory.mktemp("any") / "trading.duckdb"
    hot, opened = filled(path)
    before = everything(hot, opened)
    ticks, events = hot.ticks_after(0, 1_000), hot.events_after(0, 1_000)
    for minutes, tables in sweeps:
        hot.sweep(plan(MIDNIGHT + (minutes - 60) * MINUTE, *tables))
        assert everything(hot, opened) == before
    for after in (0, 17, 330, 799, 800):
        assert hot.ticks_after(after, 300).tolist() == ticks[after : after + 300].tolist()
        assert hot.events_after(after, 300) == events[after : after + 300]
    assert [x for x in prove(begin(hot.connection), opened, TIMEFRAMES) if not x.ok] == []
    archived = hot.archived
    hot.close()
    again = open_hot(path)
    assert (again.archived, again.last_tick_seq(), again.last_event_seq()) == (
        archived,
        len(ticks),
        len(events),
    )
    again.close()


doubles = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(10**9), 10**9).map(lambda n: n / 10**8),
    st.integers(0, 10**12).map(lambda n: n / 100),
)
times = st.integers(1, 2**62)
units = st.sampled_from([10**6, 10**3, 1])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(times, doubles, doubles, st.sampled_from([10**6, 10**3, 1])), min_size=1, max_size=8)
)
def test_values_come_back_to_the_nanosecond_and_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, float, int]]
) -> None:
    hot = open_hot(tmp_path_factory.mktemp("exact") / "trading.duckdb")
    for start in (0, 4):  # files of several types are read together
        made = Rows()
        for number, (ts_ns, price, size, unit_ns) in enumerate(rows[start : start + 4], start + 1):
            at_ns = ts_ns // unit_ns * unit_ns
            made.ticks.append(TickRows(number, np.array([(number, at_ns, price, size, ts_ns, 1)], TICK)))
            made.insert("quotes", QuoteRow(at_ns, price, size, -size, -price, ts_ns))
            ratio = None if number % 2 else size
            made.insert("order_flow", OrderFlow(number, price, size, -0.0, price, ratio, number))
        hot.flush(made, start + 1)
        hot.sweep(plan(2**62 + 1, "ticks", "quotes", "order_flow"))
    found = everything(hot, {})
    exact = struct.Struct("<dd")
    assert [(row[1], exact.pack(row[2], row[3]), row[6]) for row in found["ticks"]] == [
        (t // unit * unit, exact.pack(p, v), t) for t, p, v, unit in rows
    ]
    quotes = [
        (row[0], exact.pack(row[1], row[2]), exact.pack(row[4], row[3]), row[5]) for row in found["quotes"]
    ]
    assert sorted(quotes) == sorted(
        (t // unit * unit, exact.pack(p, v), exact.pack(-p, -v), t) for t, p, v, unit in rows
    )
    assert [struct.pack("<ddd", *row[1:4]) for row in found["order_flow"]] == [
        struct.pack("<ddd", p, v, -0.0) for _, p, v, _ in rows
    ]
    hot.close()


def test_no_row_goes_that_a_sink_has_not(made: tuple[HotFile, Opened]) -> None:
    hot, _ = made
    assert hot.sweep(plan(END, "ticks", upto=0)).tables == {}
    assert hot.sweep({"ticks": (END, 123), "events": (END, 45)}).tables["ticks"].rows == 123
    assert hot.archived == Archived(1, {"ticks": Mark(123, 1), "events": Mark(45, 1)})
    assert (stored(hot)["ticks"][0][0], stored(hot)["events"][0][0]) == (124, 46)


def test_an_event_of_this_hosts_time_does_not_hold_a_replay_back(path: Path) -> None:
    hot = open_hot(path)
    gap = event(2, T0 + 10**6 * MINUTE, "DATA_GAP")
    later = [event(n, T0 + n * MINUTE) for n in range(3, 9)]
    hot.flush(Rows(inserted={"events": [event(1, T0), gap, *later]}), 1)
    hot.sweep(plan(T0 + 6 * MINUTE, "events"))
    assert hot.archived.upto("events") == 5
    assert [e.seq for e in hot.events_after(0, 100)] == list(range(1, 9))
    hot.close()


def test_a_large_table_goes_in_parts(path: Path) -> None:
    hot = open_hot(path)
    ticks = make_ticks(MAX_ROWS + 10, step_ns=1_000)
    hot.flush(Rows(ticks=[TickRows(1, ticks)]), 1)
    first = hot.sweep(plan(T0 + 10 * MINUTE, "ticks"))
    assert (first.more, first.tables["ticks"].rows) == (True, MAX_ROWS)
    second = hot.sweep(plan(T0 + 10 * MINUTE, "ticks"))
    assert (second.more, second.tables["ticks"].rows) == (False, 10)
    assert hot.ticks_after(MAX_ROWS - 5, 100).tolist() == ticks[MAX_ROWS - 5 :].tolist()
    hot.close()


def test_a_candle_restated_after_its_sweep_is_seen_once_as_it_is_now(path: Path) -> None:
    hot = open_hot(path)
    bars = [candle(T0 + n * MINUTE) for n in range(4)]
    hot.flush(Rows(inserted={"candles_1m": [*bars]}), 1)
    hot.sweep(plan(T0 + 3 * MINUTE, "candles_1m"))
    for revision in (1, 2):
        changed = candle(T0 + MINUTE, close=1.5 + revision, revision=revision)
        hot.flush(Rows(replaced={"candles_1m": [changed]}), 1 + revision)
        seen = [(row[0], row[4], row[11]) for row in everything(hot, {})["candles_1m"]]
        others = [(T0 + n * MINUTE, 1.5, 0) for n in (0, 2, 3)]
        assert seen == sorted([*others, (T0 + MINUTE, 1.5 + revision, revision)])
        hot.sweep(plan(T0 + 2 * MINUTE, "candles_1m"))
        assert [(row[0], row[4], row[11]) for row in everything(hot, {})["candles_1m"]] == seen
    assert [row[0] for row in stored(hot)["candles_1m"]] == [T0 + 3 * MINUTE]
    hot.close()


def test_what_a_killed_sweep_left_is_not_read_and_is_removed(
    made: tuple[HotFile, Opened], path: Path
) -> None:
    hot, opened = made
    hot.sweep(plan(MIDNIGHT, "ticks"))
    before = everything(hot, opened)
    place = place_of(path.parent, PAIR)
    (file,) = place.files("ticks")
    left = place.path("ticks", file.date, (2, 2), file.crc)
    left.write_bytes(file.path.read_bytes())
    half = place.aside("ticks", file.date, "sweep")
    half.write_bytes(b"PAR1 and no more")
    hot.close()
    again = open_hot(path)
    assert everything(again, opened) == before
    again.sweep(plan(END, "quotes"))
    assert not left.exists()
    assert not half.exists()
    assert everything(again, opened) == before
    again.close()


def test_the_archive_of_a_record_that_was_moved_away_is_kept_and_not_read(path: Path) -> None:
    hot, _ = filled(path)
    for end in (MIDNIGHT, END):
        hot.sweep(plan(end))
    hot.left()
    hot.close()
    for name in ("trading.duckdb", "trading.duckdb.wal", "archived.json"):
        (path.parent / name).unlink()
    old = files(path.parent / "archive")
    again = open_hot(path)
    assert not any(everything(again, {}).values())
    assert files(path.parent / "archive") == [file.with_name(f"{file.name}.aside") for file in old]
    again.close()


def test_a_hole_in_the_archive_is_told(made: tuple[HotFile, Opened], path: Path) -> None:
    hot, _ = made
    hot.sweep(plan(END, "ticks"))
    place_of(path.parent, PAIR).files("ticks")[0].path.unlink()
    with pytest.raises(ArchiveDamaged, match="ticks missing from seq 1 on"):
        hot.ticks_after(0, 500)
    assert len(hot.ticks_after(600, 500)) == 200


@pytest.mark.parametrize("folder", ["it's [1] day*", "data"])
def test_a_folder_may_be_called_anything(tmp_path: Path, folder: str) -> None:
    hot, opened = filled(tmp_path / folder / "binance/spot/BTCUSDT/trading.duckdb")
    before = everything(hot, opened)
    hot.sweep(plan(END))
    assert everything(hot, opened) == before
    assert (tmp_path / folder / "archive/ticks").is_dir()
    hot.close()


# Kills and full disks

SWEEP_FOR_EVER = """
import sys
from pathlib import Path
from tests.storage.archive_support import plan
from tests.storage.hot_rows import T0, open_hot, some_of_each
hot = open_hot(Path(sys.argv[1]))
while True:
    hot.flush(some_of_each(hot.last_tick_seq() + 1, 20), hot.position + 1)
    hot.sweep(plan(T0 + hot.last_tick_seq() * 60 * 10**9, upto=hot.last_tick_seq() - 5))
    print(hot.position, flush=True)
"""

NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from market.errors import Retryable
from tests.storage.archive_support import END, everything, files, filled, plan
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
hot, opened = filled(path)
before, archive = everything(hot, opened), path.parent / "archive"
hot.sweep(plan(END - 100 * 60 * 10**9))
kept = files(archive)
for room in (100, 2_000, 6_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        hot.sweep(plan(END))
        sys.exit("swept into no room")
    except Retryable as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert hot.archived.sweep == 1
    assert files(archive) == kept
    assert everything(hot, opened) == before
hot.sweep(plan(END))
assert hot.archived.sweep == 2
assert everything(hot, opened) == before
"""


def run(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_kill_anywhere_in_a_sweep_doubles_nothing_and_loses_nothing(path: Path) -> None:
    rng = random.Random(11)
    for _ in range(8):
        with run(SWEEP_FOR_EVER, path) as child:
            assert child.stdout is not None
            child.stdout.readline()
            threading.Event().wait(rng.random() * 0.15)  # anywhere inside
            child.kill()
        hot = open_hot(path)
        found, count = everything(hot, {}), 20 * hot.position
        for table in ("ticks", "events"):
            assert [row[0] for row in found[table]] == list(range(1, count + 1))
        bars = [T0 + (20 * n + 1) * MINUTE for n in range(hot.position)]
        for table in ("candles_1m", "candles_15m", "order_flow"):
            assert [row[0] for row in found[table]] == bars
        assert len(found["quotes"]) == hot.position
        assert [tick[0] for tick in hot.ticks_after(0, count).tolist()] == list(range(1, count + 1))
        assert hot.archived.sweep > 0
        hot.close()


def test_a_full_disk_stops_a_sweep_and_nothing_else(path: Path) -> None:
    with run(NO_ROOM, path) as child:
        out, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    assert len(out.splitlines()) == 3
