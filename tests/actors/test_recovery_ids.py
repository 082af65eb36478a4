"""A pair whose ids are text: file, archive, journal and rebuilt file give them back as they came."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.replay import Ids, ReplayFeed
from market.inputs import GapClosed, GapOpened, TickBatch
from market.rows import Candle
from market.ticks import Ticks
from market.times import NS_PER_S
from storage.compact import compact_all
from storage.journal import segments
from storage.proof import prove
from storage.reads import begin
from tests.actors.living import ENGINE, STEP_NS, Living, lose, some_ticks
from tests.analytics.worlds import MINUTE_NS, reference_candles, same_candles, splits, ticks
from tests.storage.archive_support import TIMEFRAMES

NAMES: dict[str, Callable[[int], str]] = {
    "uuid": lambda n: str(UUID(int=n * 2**100 + 7)),
    "zeros": lambda n: f"{n:07}",
    "digits": lambda n: str(10**6 - n),  # as integers they would be in another order
    "words": lambda n: f"é{n}'\n\"\\ %",
    "long": lambda n: f"{n:x}" * 20 + "x",
}
STEPS = ["flush", "rotate", "sweep", "cut", "kill", "lose", "compact"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "binance/spot/BTCUSDT"


def steps(pair: Living, folder: Path, names: list[str]) -> Living:
    for name in names:
        if name in {"kill", "lose"}:
            pair.close()
            if name == "lose":
                lose(folder)
            pair = Living(folder, ENGINE)
        elif name == "compact":
            compact_all(folder.parents[2] / "archive")
        else:
            getattr(pair, name)()
    return pair


def assert_whole(pair: Living, arrived: Ticks, names: list[str], plain: int = 0) -> None:
    """Compare every way of reading with what came; the first `plain` ticks had integers for ids."""
    rows = [
        (seq, ts_ns, price, name)
        for seq, ts_ns, price, name in zip(
            range(1, len(names) + 1),
            arrived["ts_ns"].tolist(),
            arrived["price"].tolist(),
            names,
            strict=True,
        )
    ]
    seen = pair.seen()
    assert [(row[0], row[1], row[2], row[5]) for row in seen["ticks"]] == rows
    numbered = arrived.copy()
    numbered["trade_id"][plain:] = np.arange(plain + 1, len(names) + 1)
    for after, limit in ((0, 9_999), (max(0, plain - 3), 7), (len(names) // 2, 20)):
        part = pair.files.hot.tick_rows_after(after, limit)
        assert part.ticks.tobytes() == numbered[after : after + limit].tobytes()
        given = part.ids or tuple(map(str, part.ticks["trade_id"].tolist()))
        assert given == tuple(names[after : after + limit])
    until_ns = pair.files.core.state.ledger.watermark_ns
    bars = [Candle(*row)._replace(revision=0) for row in seen["candles_1m"] if row[10]]
    assert same_candles(bars, reference_candles(numbered, MINUTE_NS, until_ns))
    claims = prove(begin(pair.files.hot.connection), pair.files.core.open_rows(), TIMEFRAMES)
    assert [claim for claim in claims if not claim.ok] == []


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_whatever_was_swept_cut_killed_compacted_and_lost(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("ids") / "binance/spot/BTCUSDT"
    seen = draw.draw(ticks(max_size=60))
    seen["received_ns"] = seen["ts_ns"] + 5
    plain = draw.draw(st.integers(0, len(seen) // 2))
    late = draw.draw(st.dictionaries(st.integers(0, len(seen) - 1), st.integers(1, 40), max_size=4))
    late = {i: by for i, by in late.items() if i >= plain}
    arrived = seen[
        np.argsort(np.arange(len(seen)) + [late.get(i, 0) for i in range(len(seen))], kind="stable")
    ]
    name = NAMES[draw.draw(st.sampled_from(sorted(NAMES)))]
    names = [str(i) if n < plain else name(n) for n, i in enumerate(arrived["trade_id"].tolist())]
    pair = Living(folder, ENGINE)
    for part in [*([slice(0, plain)] if plain else []), *moved(draw.draw(splits(len(seen) - plain)), plain)]:
        pair.take(TickBatch(arrived[part], ids=() if part.start < plain else tuple(names[part])))
        pair = steps(pair, folder, draw.draw(st.lists(st.sampled_from(STEPS), max_size=4)))
    pair.flush()
    assert_whole(pair, arrived, names, plain)
    before = pair.seen()
    pair = steps(pair, folder, ["lose", "flush"])
    assert pair.seen()["ticks"] == before["ticks"]
    assert_whole(pair, arrived, names, plain)
    pair.close()
    shutil.rmtree(folder.parents[2])


def moved(parts: list[slice], by: int) -> Iterator[slice]:
    return (slice(part.start + by, part.stop + by) for part in parts)


@pytest.mark.parametrize("kind", ["zeros", "digits", "words"])
def test_a_late_tick_of_before_the_journal_restates_from_the_archive(folder: Path, kind: str) -> None:
    arrived = some_ticks(130)
    arrived["ts_ns"] -= np.arange(130) % 4 * STEP_NS  # four trades of each time
    arrived = np.concatenate([arrived[:60], arrived[64:], arrived[60:64]])
    names = [NAMES[kind](n) for n in range(130)]
    pair = Living(folder, ENGINE)
    for at in range(0, 126, 14):
        pair.take(TickBatch(arrived[at : at + 14], ids=tuple(names[at : at + 14])))
        if at < 112:
            pair = steps(pair, folder, ["sweep", "cut", "rotate"])
    assert segments(folder / "journal")[0].first > 5
    pair.take(TickBatch(arrived[126:], ids=tuple(names[126:])))
    pair.flush()
    assert {row[2] for row in pair.seen()["events"]} >= {"CANDLE_RESTATED"}
    assert_whole(pair, arrived, names)
    pair = steps(pair, folder, ["sweep", "compact", "lose", "flush"])
    assert_whole(pair, arrived, names)
    pair.close()


def test_gaps_without_ids_are_null_in_the_file_and_after_it_was_lost(folder: Path) -> None:
    arrived, pair = some_ticks(60), Living(folder, ENGINE)
    for at in range(0, 60, 6):
        pair.take(TickBatch(arrived[at : at + 6], ids=tuple(map(str, range(at, at + 6)))))
        at_ns, counted = int(arrived["ts_ns"][at + 5]), at % 12 == 0
        pair.take(GapOpened(at + 7, at + 7, at_ns, at_ns + 1, at_ns, "cut", counted=counted))
        if at < 48:
            pair.take(GapClosed(at + 7, at_ns + 5, 0, "", rows=3))
        if at == 30:
            pair = steps(pair, folder, ["sweep", "cut", "rotate"])
    pair.flush()
    gaps = pair.seen()["data_gaps"]
    assert [(row[1], row[6], row[8]) for row in gaps if row[1] is None] == [
        *[(None, "FILLED", 3)] * 4,
        (None, "OPEN", 0),
    ]
    assert len(gaps) == 10
    pair = steps(pair, folder, ["sweep", "lose", "flush"])
    assert pair.seen()["data_gaps"] == gaps
    claims = prove(
        begin(pair.files.hot.connection), pair.files.core.open_rows(), TIMEFRAMES, contiguous=False
    )
    assert [claim.detail for claim in claims if not claim.ok] == [
        "2 faults in 10 rows; the first at 9: is OPEN: cut"
    ]
    pair.close()


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_replay_goes_on_where_a_kill_ended_it_and_repeats_nothing(
    folder: Path, *, contiguous: bool
) -> None:
    """Replay files of text ids, and again; one side knows that ids are not contiguous, one finds out."""
    rows = [f"id-{n},1.5,2,buy,{1_700_000_000_000_000_000 + n // 5 * NS_PER_S}" for n in range(12_000)]
    files = folder.parents[2] / "b.csv", folder.parents[2] / "a.csv"
    for file, part in zip(files, (rows[:9_000], rows[8_000:]), strict=True):
        file.write_text("\n".join(["trade_id,price,size,side,ts_event_ns", *part]))
    for takes in (1, 2, 99, 99):
        pair = Living(folder, ENGINE)
        ledger = pair.files.core.state.ledger
        known = Ids(contiguous, ledger.recent_ids)
        feed = ReplayFeed(files, 0, ledger.next_id, ledger.last_ts_ns, known)
        for _ in range(takes):
            pair.take(*feed.take(1, None))
        pair.flush()
        names = [row[5] for row in pair.seen()["ticks"]]
        assert names == [row.partition(",")[0] for row in rows[: len(names)]]
        pair.close()
    assert (len(names), feed.replayed, feed.duplicates) == (12_000, 0, 13_000)
