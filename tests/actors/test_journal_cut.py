"""What the archive has, the journal need not keep; what is left of it rebuilds a lost file all the same."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.journal_cut import Start, needed_from
from actors.recovery import open_pair
from market.errors import Fatal
from market.inputs import Clock, GapClosed, GapOpened, Quote, Rejected, TickBatch
from market.ticks import in_order
from market.times import NS_PER_S
from storage.hot import Left
from storage.journal import segments
from storage.proof import prove
from storage.reads import begin
from tests.actors.living import ENGINE, SMALL, STEP_NS, Living, lose, some_ticks, worked
from tests.actors.pair_support import PAIR
from tests.analytics.worlds import splits
from tests.storage.archive_support import MIDNIGHT, TABLES, TIMEFRAMES
from tests.storage.hot_rows import MINUTE

ROOT = Path(__file__).parents[2]
STEPS = ["flush", "rotate", "clock", "kill", "sweep", "cut", "lose", "gap", "quote", "reject"]

# The rule


def start(first: int, **changed: int) -> Start:
    values = {"until_ns": first * 10, "next_seq": first * 2, "next_event": first * 3, "has_gaps": False}
    return Start(first, **(values | changed))  # type: ignore[arg-type]


def cut(left: Left, *starts: Start) -> list[int]:
    return [found.first for found in needed_from(starts, left)]


def left(record: int, first: dict[str, int], ended: int = 1_000) -> Left:
    return Left(record, first, ended)


def test_a_journal_may_begin_where_nothing_older_is_left() -> None:
    chain = start(1), start(5), start(9), start(13)
    assert cut(left(20, {}), *chain) == [5, 9, 13]
    assert cut(left(20, {"ticks": 18, "events": 27, "candles_1m": 91}), *chain) == [5, 9]
    assert cut(left(20, {"ticks": 17}), *chain) == [5]
    assert cut(left(20, {"events": 26}), *chain) == [5]
    assert cut(left(20, {"order_flow": 90}), *chain) == [5]
    assert cut(left(8, {}), *chain) == [5, 9]
    assert cut(left(7, {}), *chain) == [5]
    assert cut(left(20, {}), start(1)) == []
    assert cut(left(20, {}, ended=7), *chain) == [5]


def test_a_journal_does_not_begin_inside_an_open_gap() -> None:
    assert cut(left(20, {}), start(1), start(5), start(9, has_gaps=1), start(13)) == [5, 13]


# The life of a pair


def test_the_journal_stays_short_and_the_record_whole(tmp_path: Path) -> None:
    pair = worked(tmp_path / "pair")
    assert 2 <= len(segments(tmp_path / "pair/journal")) <= 9
    assert segments(tmp_path / "pair/journal")[0].first > 50
    assert not list((tmp_path / "pair/journal").glob("*.tmp"))
    assert [row[0] for row in pair.seen()["ticks"]] == list(range(1, 261))
    claims = prove(begin(pair.files.hot.connection), pair.files.core.open_rows(), TIMEFRAMES)
    assert [claim for claim in claims if not claim.ok] == []
    pair.close()


def test_a_lost_file_is_rebuilt_above_the_archive_row_by_row(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    pair = worked(folder)
    pair.files.hot.set_cursor("redis", 17)
    pair.flush()
    pair.sweep()
    before, archived = pair.seen(), pair.files.hot.archived
    ticks, events = pair.files.hot.ticks_after(0, 999), pair.files.hot.events_after(0, 999)
    pair.close()
    lose(folder)
    again = Living(folder, ENGINE)
    assert again.seen() == before
    assert again.files.hot.archived.marks == archived.marks
    assert again.files.hot.ticks_after(0, 999).tolist() == ticks.tolist()
    assert again.files.hot.events_after(0, 999) == events
    assert again.files.hot.cursor("redis") == 17
    again.sweep()
    assert again.seen() == before
    again.close()


def test_a_sweep_after_a_restart_remembers_where_the_journal_begins(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    worked(folder).close()
    pair = Living(folder, ENGINE)
    pair.take(Clock(pair.files.core.state.ledger.watermark_ns + 5 * MINUTE))
    pair.sweep()
    before = pair.seen()
    pair.close()
    lose(folder)
    again = Living(folder, ENGINE)
    assert again.seen() == before
    again.close()


def test_a_damaged_file_is_rebuilt_above_the_archive(tmp_path: Path) -> None:
    pair = worked(tmp_path / "pair")
    before = pair.seen()
    pair.close()
    (tmp_path / "pair/trading.duckdb").write_bytes(b"this is no database")
    again = Living(tmp_path / "pair", ENGINE)
    assert again.seen() == before
    again.close()


def test_an_old_copy_of_the_file_is_rebuilt_too(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    pair = Living(folder, ENGINE)
    pair.take(TickBatch(some_ticks()[:5]))
    pair.flush()
    pair.close()
    old = (folder / "trading.duckdb").read_bytes(), (folder / "trading.duckdb.wal").read_bytes()
    shutil.rmtree(folder)
    pair = worked(folder)
    before = pair.seen()
    pair.close()
    (folder / "trading.duckdb").write_bytes(old[0])
    (folder / "trading.duckdb.wal").write_bytes(old[1])
    again = Living(folder, ENGINE)
    assert again.seen() == before
    again.close()


def test_segments_that_a_kill_left_are_taken_off(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    pair = worked(folder, every=10_000)
    pair.sweep()
    pair.rotate()
    pair.keep_ns = -60 * MINUTE
    pair.take(Clock(pair.files.core.state.ledger.watermark_ns + 15 * MINUTE))
    pair.rotate()
    pair.sweep()
    before = pair.seen()
    first = pair.files.cut.find(pair.files.hot)  # and killed before the journal heard of it
    assert first > 1
    pair.close()
    again = Living(folder, ENGINE)
    assert segments(folder / "journal")[0].first == first
    assert again.seen() == before
    again.close()


@pytest.mark.parametrize("gone", ["archived.json", "journal"])
def test_what_cannot_be_rebuilt_is_said_and_not_thrown_away(tmp_path: Path, gone: str) -> None:
    folder = tmp_path / "pair"
    worked(folder).close()
    lose(folder)
    shutil.move(folder / gone, tmp_path / gone)
    with pytest.raises(Fatal, match="the hot file is gone"):
        open_pair(folder, PAIR, ENGINE)
    shutil.rmtree(folder / gone, ignore_errors=True)
    shutil.move(tmp_path / gone, folder / gone)
    open_pair(folder, PAIR, ENGINE).close()


def test_a_journal_is_kept_from_where_its_late_ticks_were_restated(tmp_path: Path) -> None:
    ticks, pair = some_ticks(), Living(tmp_path / "pair", ENGINE)
    late = (ticks["trade_id"] >= 100) & (ticks["trade_id"] < 105)
    for part in np.split(ticks[~late], range(20, 259, 20))[:10]:
        pair.rotate()
        pair.take(TickBatch(part))
    pair.take(TickBatch(ticks[late]))
    pair.sweep()
    pair.cut()
    (first, *_), reached_ns = segments(tmp_path / "pair/journal"), int(ticks["ts_ns"][late].min())
    assert first.head().closed_ns < reached_ns
    assert first.first > 1
    before = pair.seen()
    pair.close()
    lose(tmp_path / "pair")
    again = Living(tmp_path / "pair", ENGINE)
    assert again.seen() == before
    again.close()


def test_a_late_tick_of_before_the_journal_restates_from_the_archive(tmp_path: Path) -> None:
    ticks = some_ticks()
    late = ticks["trade_id"] == 100
    plain, short = Living(tmp_path / "plain", ENGINE), Living(tmp_path / "short", ENGINE)
    for pair in (plain, short):
        for part in np.split(ticks[~late], range(20, 259, 20)):
            pair.take(TickBatch(part))
            if pair is short:
                pair.sweep()
                pair.cut()
                pair.rotate()
        pair.take(TickBatch(ticks[late]))
        pair.flush()
    assert segments(tmp_path / "short/journal")[0].first > 5
    seen, expected = short.seen(), plain.seen()
    for table in ("ticks", "order_flow", "market_profile", "candles_1m", "candles_5m", "candles_15m"):
        assert seen[table] == expected[table], table
    assert {row[2] for row in short.seen()["events"]} >= {"CANDLE_RESTATED"}
    plain.close()
    short.close()


def test_a_timeframe_is_added_from_the_archive(tmp_path: Path) -> None:
    pair = worked(tmp_path / "pair")
    ticks = pair.files.hot.ticks_after(0, 999)
    pair.close()
    again = Living(tmp_path / "pair", replace(ENGINE, timeframes_s=(60, 180, 300, 900)))
    con = again.files.hot.connection
    found = con.execute("SELECT epoch_ns(timestamp), trade_count FROM candles_3m ORDER BY 1").fetchall()
    bars, counts = np.unique(in_order(ticks)["ts_ns"] // (180 * NS_PER_S), return_counts=True)
    assert found == list(zip((bars * 180 * NS_PER_S).tolist(), counts.tolist(), strict=True))[:-1]
    again.close()


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_whatever_was_swept_cut_killed_and_lost(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut") / "pair"
    seen = some_ticks(80)
    late = draw.draw(st.dictionaries(st.integers(0, 79), st.integers(1, 60), max_size=3))
    arriving = seen[np.argsort(np.arange(80) + [late.get(i, 0) for i in range(80)], kind="stable")]
    pair, until_ns = Living(folder, ENGINE), 0
    for part in draw.draw(splits(80)):
        batch = np.sort(arriving[part], order="trade_id")
        until_ns = max(until_ns, int(batch["ts_ns"].max()))
        pair.take(TickBatch(batch))
        for step in draw.draw(st.lists(st.sampled_from(STEPS), max_size=4)):
            if step == "clock":
                until_ns += 70 * NS_PER_S
                pair.take(Clock(until_ns))
            elif step in {"kill", "lose"}:
                pair.close()
                if step == "lose":
                    lose(folder)
                pair = Living(folder, ENGINE)
            elif step == "gap":
                pair.take(GapOpened(10**6, 10**6, until_ns, until_ns, until_ns, "test"))
                pair.take(GapClosed(10**6, until_ns, 1, "test"))
            elif step == "quote":
                pair.take(Quote(0, 99.0, 1.0, 101.0, 1.0, until_ns))
            elif step == "reject":
                pair.take(Rejected(until_ns, "no JSON", b"x"))
            else:
                getattr(pair, step)()
    pair.flush()
    before = pair.seen()
    assert [row[0] for row in before["ticks"]] == list(range(1, 81))
    pair.close()
    lose(folder)
    assert_rebuilt(folder, before)
    shutil.rmtree(folder)


def assert_rebuilt(folder: Path, before: dict[str, list[tuple[object, ...]]]) -> None:
    again = Living(folder, ENGINE)
    after = again.seen()
    again.close()
    for name in (*TABLES, *SMALL):
        assert len(after[name]) == len(before[name]), name
        assert all(map(near, after[name], before[name])), name


def near(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    """Compare rows, sums to 1e-9, and not the sums' text: restated bars may be folded in other portions."""
    return all(
        math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9)
        if isinstance(x, float) and isinstance(y, float)
        else x == y or str(x).startswith("{")
        for x, y in zip(a, b, strict=True)
    )


LIVE = """
import sys
from pathlib import Path
from tests.actors.living import for_ever
for count in for_ever(Path(sys.argv[1])):
    print(count, flush=True)
"""


def test_kills_anywhere_and_lost_files_cost_nothing(tmp_path: Path) -> None:
    folder, rng = tmp_path / "pair", random.Random(2)
    for number in range(6):
        command = [sys.executable, "-c", LIVE, str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(3):
                least = int(child.stdout.readline())
            threading.Event().wait(rng.random() * 0.3)  # anywhere inside
            child.kill()
        if number % 3 == 2:
            lose(folder)
        pair = Living(folder, ENGINE)
        found, count = pair.seen(), pair.files.core.state.ledger.next_seq - 1
        assert count >= least
        assert [(row[0], row[1]) for row in found["ticks"]] == [
            (seq, MIDNIGHT + (seq - (seq - 1) % 7) * STEP_NS + (seq - 1) % 7 * STEP_NS)
            for seq in range(1, count + 1)
        ]
        assert [row[0] for row in found["events"]] == list(range(1, len(found["events"]) + 1))
        assert len(found["quotes"]) == count // 7
        assert count // 7 - 1 <= len(found["rejected"]) <= count // 7
        assert pair.files.hot.ticks_after(0, count)["trade_id"].tolist() == list(range(1, count + 1))
        claims = prove(begin(pair.files.hot.connection), pair.files.core.open_rows(), TIMEFRAMES)
        assert [claim for claim in claims if not claim.ok] == []
        pair.close()
    assert len(segments(folder / "journal")) < 40
    assert segments(folder / "journal")[0].first > 1
