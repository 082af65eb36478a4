"""A pair worked by hand that sweeps, and lets go of journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from market.inputs import Quote, Rejected, TickBatch
from market.ticks import Ticks
from tests.actors.pair_support import QUICK, ByHand
from tests.storage.archive_support import MIDNIGHT, TABLES, TIMEFRAMES, Seen, everything, plan
from tests.storage.hot_rows import MINUTE, make_ticks

ENGINE = replace(QUICK, timeframes_s=TIMEFRAMES)
SMALL = {name: f"SELECT * FROM {name} ORDER BY ALL" for name in ("data_gaps", "rejected")}  # noqa: S608 - ours
STEP_NS = 17_000_000_003


def some_ticks(count: int = 260) -> Ticks:
    return make_ticks(count, first_id=1, start_ns=MIDNIGHT - 40 * MINUTE + 17, step_ns=STEP_NS)


class Living(ByHand):
    """A pair that sweeps what is `keep_ns` old, and lets go of journal."""

    keep_ns = 3 * MINUTE

    def sweep(self) -> None:
        self.flush()
        core = self.files.core
        cutoff_ns = core.state.ledger.watermark_ns - self.keep_ns
        self.files.hot.sweep(plan(cutoff_ns, *TABLES, "market_profile", "market_state"), core.living())

    def cut(self) -> None:
        for path in self.files.journal.drop_before(self.files.cut.find(self.files.hot)):
            path.unlink()

    def seen(self) -> Seen:
        found = everything(self.files.hot, self.files.core.open_rows())
        con = self.files.hot.connection
        return found | {name: con.execute(sql).fetchall() for name, sql in SMALL.items()}


def lose(folder: Path) -> None:
    for name in ("trading.duckdb", "trading.duckdb.wal"):
        (folder / name).unlink(missing_ok=True)


def worked(folder: Path, every: int = 20) -> Living:
    """Let a pair live: ticks, quotes, something rejected, sweeps, and a new segment now and then."""
    pair = Living(folder, ENGINE)
    ticks = some_ticks()
    for at in range(0, len(ticks), 5):
        last_ns = int(ticks["ts_ns"][at])
        pair.take(Quote(0, 99.0, 1.0, 101.0, 1.0, last_ns), TickBatch(ticks[at : at + 5]))
        if at % 30 == 0:
            pair.take(Rejected(last_ns, "no JSON", b"%d" % at))
        if at % every == 0:
            pair.sweep()
            pair.cut()
            pair.rotate()
    pair.flush()
    return pair


def for_ever(folder: Path) -> Iterator[int]:
    """Live on from wherever a kill ended it; tell how many ticks are journaled."""
    pair = Living(folder, ENGINE)
    while True:
        next_id = pair.files.core.state.ledger.next_seq
        ticks = make_ticks(7, next_id, MIDNIGHT + next_id * STEP_NS, STEP_NS)
        pair.take(Quote(0, 99.0, 1.0, 101.0, 1.0, int(ticks["ts_ns"][0])), TickBatch(ticks))
        pair.take(Rejected(int(ticks["ts_ns"][0]), "no JSON", b"%d" % next_id))
        pair.sweep()
        pair.cut()
        pair.rotate()
        yield next_id + 6
