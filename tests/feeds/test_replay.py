from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pytest

from feeds.replay import UNSOUND, Ids, ReplayFeed, check_files, read_trades
from market.errors import UsageError
from market.inputs import Began, GapClosed, GapOpened, Input, Rejected, TickBatch

SOME_NS = 1_700_000_000_000_000_000
HEADER = "trade_id,price,size,side,ts_event_ns"
GOOD = [
    "7,100.5,0.25,BUY,1700000000000000000",
    "8,100.6,0.50,sell,1700000001000000000",
    "9,100.6,0.50,,1700000002000000000",  # a venue may not tell the side
]
BAD = [
    "10,100.6,0.5,maybe,1700000003000000000",
    "11,0,0.5,BUY,1700000003000000000",
    "12,-1,0.5,BUY,1700000003000000000",
    "13,nan,0.5,BUY,1700000003000000000",
    "14,1,inf,BUY,1700000003000000000",
    "none,1,0.5,BUY,1700000003000000000",
    "16,1,0.5,BUY,9000000000000000000",
    "17,1,0.5,BUY",
]


def written(folder: Path, *lines: str) -> Path:
    file = folder / "trades.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_what_is_no_trade_is_told_apart(tmp_path: Path) -> None:
    ticks, rejected = read_trades(written(tmp_path, HEADER, *GOOD, *BAD))
    assert ticks["trade_id"].tolist() == [7, 8, 9]
    assert ticks["side"].tolist() == [1, -1, 0]
    assert ticks["price"].tolist() == [100.5, 100.6, 100.6]
    assert len(rejected) == len(BAD)
    assert b"10,100.6,0.5,maybe,1700000003000000000" in rejected


def test_a_feed_counts_what_it_refuses(tmp_path: Path) -> None:
    feed = ReplayFeed((written(tmp_path, HEADER, *BAD),), 0, None, 0)
    out: list[Input] = []
    while not feed.finished:
        out += feed.take(1, None)
    assert {item.reason for item in out if isinstance(item, Rejected)} == {UNSOUND}
    assert not any(isinstance(item, TickBatch) for item in out)
    assert feed.status()["rejected"] == len(BAD)


def fed(feed: ReplayFeed) -> list[Input]:
    out: list[Input] = []
    while not feed.finished:
        out += feed.take(1, None)
    return out


def given(out: list[Input]) -> list[tuple[str, float]]:
    """Name the trades of a feed by id and price."""
    named: list[tuple[str, float]] = []
    for batch in (item for item in out if isinstance(item, TickBatch)):
        names = batch.ids or map(str, batch.ticks["trade_id"].tolist())
        named += zip(names, batch.ticks["price"].tolist(), strict=True)
    return named


def line(name: object, price: float, second: float) -> str:
    return f"{name},{price},0.5,buy,{SOME_NS + round(second * 1e9)}"


TEXTS = [
    line("c-9", 1, 3),
    line("b", 2, 1),
    line("007", 3, 1),  # of the same time: the order of the file stays
    line("c-9", 4, 4),  # the first in time counts
    line("7", 5, 2),
    line("", 6, 2),
    line("None", 7, 2),
    line("x" * 129, 8, 2),
    line("y" * 128, 9, 5),
]
IN_ORDER = [("b", 2.0), ("007", 3.0), ("7", 5.0), ("c-9", 1.0), ("y" * 128, 9.0)]


@pytest.mark.parametrize("contiguous", [True, False])
def test_text_ids_are_kept_by_time_and_then_as_in_the_file(tmp_path: Path, *, contiguous: bool) -> None:
    feed = ReplayFeed((written(tmp_path, HEADER, *TEXTS),), 0, None, 0, Ids(contiguous))
    out = fed(feed)
    assert given(out) == IN_ORDER
    assert {type(item) for item in out} == {TickBatch, Rejected}
    assert (feed.replayed, feed.duplicates, feed.rejected) == (5, 1, 3)


def test_one_text_id_makes_all_of_them_text_in_whatever_file_it_is(tmp_path: Path) -> None:
    whole = [line(name, price, price) for price, name in enumerate((11, 12, "a", 14), 1)]
    expected = [("11", 1.0), ("12", 2.0), ("a", 3.0), ("14", 4.0)]
    assert given(fed(ReplayFeed((written(tmp_path, HEADER, *whole),), 0, None, 0))) == expected
    files = []
    for number, part in enumerate((whole[2:], whole[1:3], whole[:2])):
        (tmp_path / f"part{number}").mkdir()
        files.append(written(tmp_path / f"part{number}", HEADER, *part))
    feed = ReplayFeed(tuple(files), 0, None, 0)
    assert given(out := fed(feed)) == expected
    assert feed.duplicates == 2
    assert not any(isinstance(item, (Began, GapOpened)) for item in out)


def test_a_row_that_is_no_trade_does_not_make_ids_text(tmp_path: Path) -> None:
    out = fed(
        ReplayFeed((written(tmp_path, HEADER, line(7, 1, 1), "total,1,,,", line(9, 2, 2)),), 0, None, 0)
    )
    assert given(out) == [("7", 1.0), ("9", 2.0)]
    assert [type(item) for item in out] == [Rejected, Began, TickBatch, GapOpened, GapClosed, TickBatch]


def test_integers_that_are_not_contiguous_have_no_gaps_and_are_ordered_by_value(tmp_path: Path) -> None:
    rows = [line(90, 1, 2), line(200, 2, 1), line(30, 3, 1), line(90, 4, 2), line("-4", 5, 1)]
    feed = ReplayFeed((written(tmp_path, HEADER, *rows),), 0, None, 0, Ids(contiguous=False))
    out = fed(feed)
    assert [item.ids for item in out if isinstance(item, TickBatch)] == [()]
    assert given(out) == [("30", 3.0), ("200", 2.0), ("90", 1.0)]
    assert (feed.duplicates, feed.rejected) == (1, 1)


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("had", [0, 1, 2, 3, 4, 5_000, 9_999, 10_000])
def test_what_a_record_has_is_not_given_again(tmp_path: Path, had: int, *, texts: bool) -> None:
    names = [f"id-{n}" if texts else 10 + 3 * n for n in range(10_000)]
    # Two trades share each time, and 3,000 another: more than a record remembers.
    seconds = [n // 2 if n < 4_000 or n >= 7_000 else 2_000 for n in range(10_000)]
    file = written(
        tmp_path, HEADER, *(line(*row) for row in zip(names, range(1, 10_001), seconds, strict=True))
    )
    last_ts_ns = SOME_NS + seconds[had - 1] * 10**9 if had else 0
    recent = list(map(str, names[max(0, had - 1_024) : had]))
    feed = ReplayFeed((file,), 0, None, last_ts_ns, Ids(contiguous=False, recent=recent))
    assert [name for name, _ in given(fed(feed))] == [str(name) for name in names[had:]]
    assert feed.duplicates == had


def test_a_parquet_file_with_uuids(tmp_path: Path) -> None:
    file = tmp_path / "trades.parquet"
    with duckdb.connect() as con:
        con.execute("""
            CREATE TABLE t AS SELECT uuid() AS trade_id, range + 1.0 AS price, 1 AS size, 'SELL' AS side,
                1700000000000000000 + range // 3 AS ts_event_ns FROM range(200_000)
        """)
        con.execute(f"COPY (FROM t ORDER BY ts_event_ns, price) TO '{file}' (FORMAT parquet)")
        names = con.execute("SELECT trade_id::VARCHAR FROM t ORDER BY ts_event_ns, price").fetchall()
    assert [name for name, _ in given(fed(ReplayFeed((file,), 0, None, 0)))] == [name for (name,) in names]


def test_a_file_of_something_else_is_named_before_anything_starts(tmp_path: Path) -> None:
    for content in (b"", b"7,100.5,0.25,BUY,1700000000000000000\n", bytes(range(256)) * 40):
        file = tmp_path / "trades.csv"
        file.write_bytes(content)
        with pytest.raises(UsageError, match=f"^{file}: no trade file with the columns trade_id, price"):
            check_files([file])
    (tmp_path / "trades.parquet").write_bytes(b"PAR1 it is not")
    with pytest.raises(UsageError, match="no trade file with the columns"):
        check_files([tmp_path / "trades.parquet"])
    packed = tmp_path / "trades.csv.gz"
    packed.write_bytes(gzip.compress(f"{HEADER}\n{GOOD[0]}\n".encode()))
    check_files([packed])
