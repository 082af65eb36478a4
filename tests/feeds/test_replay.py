from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from feeds.replay import UNSOUND, ReplayFeed, check_files, read_trades
from market.errors import UsageError
from market.inputs import Input, Rejected, TickBatch

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
    "x,1,0.5,BUY,1700000003000000000",
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
