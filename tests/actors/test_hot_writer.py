from __future__ import annotations

from pathlib import Path

import numpy as np

from actors.hot_writer import CHECKPOINT_BYTES, HotWriter
from market.rows import Rows, TickRows
from market.ticks import TICK
from storage.hot import HotFile

TICKS = CHECKPOINT_BYTES // 40


def many(first: int) -> Rows:
    ticks = np.zeros(TICKS, TICK)
    ticks["trade_id"] = np.arange(first, first + TICKS)
    ticks["side"] = 1
    return Rows(ticks=[TickRows(first, ticks)])


async def test_a_log_that_has_grown_is_folded_into_the_file_but_not_at_every_flush(tmp_path: Path) -> None:
    wal = tmp_path / "trading.duckdb.wal"
    hot = HotFile.open(tmp_path / "trading.duckdb", "binance:spot:BTCUSDT", (60,))
    writer = HotWriter(hot, wal)
    sizes = []
    for record in (1, 2, 3):
        writer.add(many(1 + (record - 1) * TICKS), record)
        if record == 2:
            writer._checkpoint_due_s = 0.0
        await writer.flush()
        sizes.append(wal.stat().st_size if wal.exists() else 0)
    await writer.close()
    assert hot.last_tick_seq() == 3 * TICKS
    hot.close()
    assert sizes[0] > CHECKPOINT_BYTES
    assert sizes[1] < CHECKPOINT_BYTES / 100
    assert sizes[2] > CHECKPOINT_BYTES
