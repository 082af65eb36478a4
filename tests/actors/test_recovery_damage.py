"""A damaged journal, alone or with the hot file: what any of them still says stays, the rest is a gap."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from actors.hot_writer import HotWriter
from actors.mending import finish
from actors.recovery import PairFiles, open_pair
from market.errors import Fatal
from market.inputs import Began, Clock, GapClosed, GapOpened, Quote, TickBatch
from market.pairs import Pair
from market.ticks import Ticks
from storage import journal as journals
from storage.duck import Damaged, mark, set_mark, translated
from storage.journal import segments
from tests.actors.damage import PAGE_BYTES, flip, remove, truncate, zero_page
from tests.actors.living import ENGINE, Living, lose, some_ticks
from tests.actors.pair_support import PAIR
from tests.actors.story import differences, everything
from tests.storage.hot_rows import MINUTE

Harm = Callable[[Path, int], None]
MORE = ("events", "data_gaps", "quotes")
Rowed = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let a pair live: three segments, an open gap and a closed one, bars closed by clocks, late ticks."""
    root = tmp_path_factory.mktemp("lived")
    pair = Living(root / "binance/spot/BTCUSDT", ENGINE)
    pair.take(Began(1))
    ticks = some_ticks(200)
    late = (ticks["trade_id"] > 60) & (ticks["trade_id"] <= 64)
    on_time = ticks[~late & (ticks["trade_id"] != 150)]
    for at in range(0, 120, 6):
        take(pair, on_time[at : at + 6])
        if at == 60:
            pair.take(GapOpened(61, 64, 0, 0, 7, "ids jumped"))
        if at in {30, 78}:
            pair.rotate()
            pair.flush()
    pair.take(TickBatch(ticks[late]), GapClosed(61, 8, 0, "given back by REST"))
    pair.take(TickBatch(on_time[120:145]), GapOpened(150, 150, 0, 0, 7, "ids jumped"))
    pair.take(TickBatch(on_time[145:]))
    pair.take(Clock(int(ticks["ts_ns"][-1]) + 7 * MINUTE))
    pair.flush()
    pair.close()
    yield root
    shutil.rmtree(root)


def take(pair: Living, ticks: Ticks) -> None:
    pair.take(Quote(0, 99.0, 1.0, 101.0, 1.0, int(ticks["ts_ns"][0])), TickBatch(ticks))


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Rowed:
    """Tell the same trades, and some more, to a pair of which nothing ever went wrong."""
    pair = Living(tmp_path_factory.mktemp("ordered") / "binance/spot/BTCUSDT", ENGINE)
    pair.take(TickBatch(some_ticks(260)))
    pair.flush()
    with closing(pair):
        return everything(pair.files)


@pytest.fixture
def folder(lived: Path, tmp_path: Path) -> Path:
    return shutil.copytree(lived, tmp_path / "one") / "binance/spot/BTCUSDT"


def chain(folder: Path) -> list[Path]:
    return [segment.path for segment in segments(folder / "journal")]


def whole(folder: Path) -> Rowed:
    """Open the pair; read all of it, events and gaps too."""
    with closing(open_pair(folder, PAIR, ENGINE)) as files:
        con = files.hot.connection
        rows = {name: con.execute(f"FROM {name} ORDER BY ALL").fetchall() for name in MORE}
        return everything(files) | rows


def regions(path: Path) -> dict[str, int]:
    """Name bytes of a segment: of its header, its head, and of records."""
    ends = [end for _, end in journals._payloads(path)]
    return {
        "magic": 1,
        "version": 7,
        "head's length": 8,
        "head's checksum": 12,
        "state": (16 + ends[0]) // 2,
        "first record": ends[0] + 3,
        "middle record": ends[len(ends) // 2] + 20,
        "last record": ends[-2] + 9,
        "last byte": ends[-1] - 1,
    }


REGIONS = (
    *("magic", "version", "head's length", "head's checksum", "state"),
    *("first record", "middle record", "last record", "last byte"),
)


@pytest.mark.parametrize("region", REGIONS)
def test_a_flipped_byte_costs_nothing_while_the_hot_file_is_whole(folder: Path, region: str) -> None:
    before = whole(folder)
    path = chain(folder)[REGIONS.index(region) % 3]
    flip(path, regions(path)[region])
    assert differences(before, whole(folder)) == []


@pytest.mark.parametrize(
    ("harm", "segment", "part"), [(zero_page, 1, 0.5), (truncate, 2, 0.1), (remove, 0, 0)]
)
def test_a_page_an_end_a_segment_lost_costs_nothing_while_the_hot_file_is_whole(
    folder: Path, ordered: Rowed, harm: Harm, segment: int, part: float
) -> None:
    before = whole(folder)
    path = chain(folder)[segment]
    harm(path, int(path.stat().st_size * part))
    assert differences(before, whole(folder)) == []
    goes_on(folder, before, ordered)


def test_no_journal_at_all_costs_nothing_while_the_hot_file_is_whole(folder: Path, ordered: Rowed) -> None:
    before = whole(folder)
    shutil.rmtree(folder / "journal")
    assert differences(before, whole(folder)) == []
    goes_on(folder, before, ordered)


def goes_on(folder: Path, before: Rowed, ordered: Rowed) -> None:
    """See the pair go on with the next numbers, restate what is older than its journal, and be rebuilt."""
    ticks = some_ticks(260)
    pair = Living(folder, ENGINE)
    ledger = pair.files.core.state.ledger
    assert [(gap.gap_id, gap.first_id, gap.rows_filled) for gap in ledger.gaps] == [(2, 150, 0)]
    assert (ledger.next_id, ledger.next_seq, ledger.next_event) == (201, 200, len(before["events"]) + 1)
    pair.take(TickBatch(ticks[149:150]), GapClosed(150, 9, 0, "given back by REST"))
    pair.take(TickBatch(ticks[200:]))
    pair.flush()
    found = everything(pair.files)
    pair.close()
    assert differences(found, ordered) == []
    again = whole(folder)
    lose(folder)
    assert differences(again, whole(folder)) == []


@pytest.mark.parametrize(
    ("segment", "region"),
    [(0, "first record"), (0, "middle record"), (1, "state"), (1, "middle record"), (2, "last record")],
)
def test_with_the_hot_file_lost_too_only_the_damaged_record_is_missing_and_is_a_gap(
    folder: Path, segment: int, region: str
) -> None:
    before = whole(folder)
    path = chain(folder)[segment]
    harmed = regions(path)[region]
    last = segment == 2 and region == "last record"
    flip(path, harmed)
    lose(folder)
    with closing(open_pair(folder, PAIR, ENGINE)) as files:
        found = everything(files)
        missing = {int(row[4]) for row in before["ticks"]} - {int(row[4]) for row in found["ticks"]}
        gaps = files.core.state.ledger.gaps
        told = {i for gap in gaps for i in range(gap.first_id, gap.last_id + 1)} - {150}
        assert missing <= told | {61, 62, 63, 64}
        assert len(missing) <= 55
        rows = files.hot.connection.execute("SELECT reason FROM data_gaps WHERE status = 'OPEN'").fetchall()
        assert not told or any("damaged journal" in reason for (reason,) in rows)
        assert [row.seq for row in files.hot.events_after(0, 10**6)] == list(
            range(1, files.core.state.ledger.next_event)
        )
    assert last or (folder / "journal.damaged").exists()


def test_a_second_damage_before_the_archive_has_caught_up_costs_nothing(folder: Path) -> None:
    before = whole(folder)
    flip(chain(folder)[2], 20)
    assert differences(before, whole(folder)) == []
    assert list((folder / "journal").glob("*.base"))
    lose(folder)
    assert differences(before, whole(folder)) == []
    flip(chain(folder)[0], 20)
    assert differences(before, whole(folder)) == []
    lose(folder)
    assert differences(before, whole(folder)) == []


def test_the_copy_goes_when_the_archive_has_caught_up(folder: Path) -> None:
    flip(chain(folder)[2], 20)
    pair = Living(folder, ENGINE)
    pair.keep_ns = -60 * MINUTE
    for number in range(3):
        pair.take(TickBatch(some_ticks(300)[200 + 10 * number : 210 + 10 * number]))
        pair.rotate()
        pair.sweep()
        pair.take(GapClosed(150, 9, 1, "the venue does not list them"))
        pair.cut()
    before = everything(pair.files)
    pair.close()
    lose(folder)
    assert differences(before, {name: whole(folder)[name] for name in before}) == []
    assert not list((folder / "journal").glob("*.base"))


def test_damage_that_a_restating_finds_is_mended_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.recovery.CHECKED_BYTES", 0)
    late = some_ticks()[149:150].copy()
    late["ts_ns"] = some_ticks()["ts_ns"][3] + 1
    whole_one = shutil.copytree(folder.parents[2], folder.parents[3] / "whole") / "binance/spot/BTCUSDT"
    path = chain(folder)[0]
    flip(path, regions(path)["middle record"])
    for one in (folder, whole_one):
        pair = Living(one, ENGINE)
        with suppress(journals.JournalDamaged):
            pair.take(TickBatch(late))
        pair.close()
    assert (folder / "journal.suspect").exists()
    assert differences(whole(whole_one), whole(folder)) == []
    assert (folder / "journal.damaged").exists()


def test_a_kill_between_the_two_renames_is_taken_up(folder: Path) -> None:
    before = whole(folder)
    journal, mended = folder / "journal", folder / "journal.mended"
    journal.rename(mended)
    finish(journal)
    assert differences(before, whole(folder)) == []
    shutil.copytree(journal, mended)
    chain(folder)[0].rename(mended / "half")
    shutil.copy(mended / "half", chain(folder)[0].parent / "0000000000000001.log")
    finish(journal)
    assert not mended.exists()
    assert differences(before, whole(folder)) == []


def test_a_beginning_damaged_with_the_hot_file_gone_is_said_and_nothing_thrown_away(folder: Path) -> None:
    flip(chain(folder)[0], 12)
    lose(folder)
    with pytest.raises(Fatal, match="its beginning is damaged, and the hot file is gone"):
        open_pair(folder, PAIR, ENGINE)
    assert len(chain(folder)) == 3


# Ids that are text: none of them tells that one is missing


def tell(files: PairFiles, ticks: Ticks) -> None:
    names = tuple(f"t-{number}" for number in ticks["trade_id"].tolist())
    for record in files.core.records([TickBatch(ticks, ids=names)]):
        rows = files.core.handle(files.journal.append(record), record).rows
        files.hot.flush(rows, files.journal.number)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts/binance/spot/BTCUSDT"
    with closing(open_pair(folder, PAIR, ENGINE, contiguous=False)) as files:
        for at in range(0, 60, 6):
            tell(files, some_ticks(60)[at : at + 6])
            if at == 30:
                files.journal.rotate(*files.core.snapshot())
    return folder


def test_text_ids_come_back_from_the_hot_file(texts: Path) -> None:
    with closing(open_pair(texts, PAIR, ENGINE, contiguous=False)) as files:
        before, recent = everything(files), files.core.state.ledger.recent_ids
    path = chain(texts)[1]
    flip(path, regions(path)["first record"])
    with closing(open_pair(texts, PAIR, ENGINE, contiguous=False)) as files:
        assert differences(before, everything(files)) == []
        assert files.core.state.ledger.recent_ids == recent
        tell(files, some_ticks(70)[60:])
        stored = files.hot.connection.execute("SELECT trade_id FROM ticks ORDER BY seq").fetchall()
        assert [name for (name,) in stored] == [f"t-{number}" for number in range(1, 71)]


def test_what_text_ids_cannot_tell_is_a_gap_without_ids(texts: Path) -> None:
    path = chain(texts)[1]
    flip(path, regions(path)["middle record"])
    lose(texts)
    with closing(open_pair(texts, PAIR, ENGINE, contiguous=False)) as files:
        assert len(everything(files)["ticks"]) == 54
        (gap,) = files.core.state.ledger.gaps
        assert (gap.counted, gap.reason) == (False, "a damaged journal")
        assert gap.from_ns < gap.to_ns
        rows = files.hot.connection.execute("SELECT status, first_missing_id FROM data_gaps").fetchall()
        assert rows == [("OPEN", None)]


# The hot file


def header_zeroed(path: Path, rng: random.Random) -> None:
    zero_page(path, rng.randrange(3) * PAGE_BYTES)


def block_torn(path: Path, rng: random.Random) -> None:
    """Leave a block, of metadata or rows, half as it was before it was written."""
    raw = bytearray(path.read_bytes())
    at = 3 * PAGE_BYTES + rng.randrange((len(raw) - 3 * PAGE_BYTES) // PAGE_BYTES) * PAGE_BYTES
    raw[at : at + 2_048] = bytes(2_048)
    path.write_bytes(raw)


def log_lost(path: Path, rng: random.Random) -> None:  # noqa: ARG001 - as the others
    path.with_name("trading.duckdb.wal").unlink(missing_ok=True)


@pytest.mark.parametrize("harm", [header_zeroed, block_torn, log_lost])
def test_a_damaged_hot_file_is_found_at_the_latest_when_it_is_read(
    folder: Path, harm: Callable[[Path, random.Random], None]
) -> None:
    pair = Living(folder, ENGINE)
    pair.files.hot.checkpoint()
    pair.take(TickBatch(some_ticks(210)[200:]))
    pair.flush()
    pair.close()
    before = whole(folder)
    harm(folder / "trading.duckdb", random.Random(3))
    for _ in range(
        3
    ):  # what is ruined deep inside shows only when it is read: then the file is not opened again
        try:
            after = whole(folder)
        except (Damaged, duckdb.Error):
            set_mark(folder / "trading.duckdb", there=True)
        else:
            break
    assert differences(before, after) == []


def test_the_files_of_two_pairs_changed_for_each_other(folder: Path, lived: Path, tmp_path: Path) -> None:
    eth = Pair("binance", "spot", "ETHUSDT")
    other = shutil.copytree(lived, tmp_path / "two") / "binance/spot/ETHUSDT"
    with closing(open_pair(other, eth, ENGINE)) as files:
        for record in files.core.records([TickBatch(some_ticks(50))]):
            rows = files.core.handle(files.journal.append(record), record).rows
            files.hot.flush(rows, files.journal.number)
        mine = everything(files)
    before = whole(folder)
    for name in ("trading.duckdb", "trading.duckdb.wal"):
        (folder / name).rename(tmp_path / name)
        (other / name).rename(folder / name)
        (tmp_path / name).rename(other / name)
    assert differences(before, whole(folder)) == []
    with closing(open_pair(other, eth, ENGINE)) as files:
        assert differences(mine, everything(files)) == []


async def test_damage_that_a_sweep_finds_ends_the_next_write(folder: Path) -> None:
    with closing(open_pair(folder, PAIR, ENGINE)) as files:
        writer = HotWriter(files.hot, folder / "trading.duckdb.wal")

        def ruined() -> None:
            with translated(folder / "trading.duckdb"):
                raise duckdb.IOException("Could not read enough bytes from file")

        with pytest.raises(Damaged):
            await writer.run(ruined)
        with pytest.raises(Damaged):
            writer.start()
        await writer.close()
    assert mark(folder / "trading.duckdb").exists()
    assert whole(folder)
    assert (folder / "trading.duckdb.damaged").exists()
