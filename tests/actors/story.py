"""A pair's life told step by step, venue and faults made from a seed; no loop, no socket, no waiting."""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from actors.pair import splice_of
from actors.recovery import PairFiles, open_pair
from feeds.intake import Intake, IntakeRules
from feeds.requests import Request
from feeds.venues import VENUES
from market.events import Event
from market.inputs import Clock, Input, TickBatch
from market.rows import Rows
from market.times import NS_PER_S
from storage.duck import Damaged
from storage.proof import prove
from storage.reads import begin, seen
from tests.actors.crash_support import Killed, Reaper
from tests.actors.damage import damage_database, damage_journal
from tests.actors.pair_support import PAIR, QUICK
from tests.actors.story_venue import Venue, steps
from tests.storage.archive_support import plan

ENGINE = replace(QUICK, timeframes_s=(1, 5, 60))
RULES = IntakeRules(stale_after_s=30.0, close_grace_ms=2_000, quotes_interval_ms=1_000)
KEEP_NS = 45 * NS_PER_S
TOLD_OF_FAULTS = {"amended", "events", "data_gaps", "rejected", "quotes", "meta", "sink_cursors"}
SWEPT = (
    "ticks",
    "quotes",
    "order_flow",
    "events",
    "candles_1s",
    "candles_5s",
    "candles_1m",
    "market_profile",
    "market_state",
)
FAULTS = (
    *("kill",) * 6,
    *("power",) * 2,
    *("cut", "delay", "duplicate", "swap", "lose", "malformed"),
    *("refuse", "lag", "hang", "forward", "backward", "crawl"),
    *("lost file", "damaged file", "damaged journal"),
)

Tables = dict[str, list[tuple[Any, ...]]]


class Story:
    """`work` holds every folder the pair ever lived in, `announced` every event that anyone was told."""

    def __init__(self, seed: int, work: Path, reaper: Reaper) -> None:
        self.rng, self.venue = random.Random(seed), Venue(seed)
        self.faults: Counter[str] = Counter()
        self.announced: list[Event] = []
        self._work, self._reaper, self._lives = work, reaper, 0
        self._skew_ns = 0  # of the pair's clock
        self._hanging = self._down = 0  # steps for which REST hangs, and no connection is made
        self.root = work / "0"
        self.root.mkdir(parents=True)
        reaper.durable.learn(self.root)
        self._open()

    @property
    def folder(self) -> Path:
        return self.root / "binance/spot/BTCUSDT"

    @property
    def now_ns(self) -> int:
        return self.venue.now_ns + self._skew_ns

    def _open(self) -> None:
        self.files: PairFiles = open_pair(self.folder, PAIR, ENGINE)
        ledger = self.files.core.state.ledger
        venue = VENUES[PAIR.exchange, PAIR.market]
        self._intake = Intake(venue, PAIR.symbol, splice_of(ledger, venue, 0), RULES, stale=ledger.stale)
        self._pending, self._asked = Rows(), list[Request]()
        self._connected = False
        self._remembers()
        self._catch_up()

    def _remembers(self) -> None:
        """See every event that was announced in the record, as it was announced."""
        found = self.files.hot.events_after(0, len(self.announced))
        told = [(event.seq, event.ts_ns, event.name) for event in self.announced]
        assert [(row.seq, row.ts_ns, row.event) for row in found] == told
        for row, event in zip(found, self.announced, strict=True):
            assert near(orjson.loads(row.data), orjson.loads(event.data)), (row, event)

    def step(self, pause_ns: int) -> None:
        """Let time pass, and the pair do what its engine would."""
        self.venue.now_ns += pause_ns
        self._hanging, self._down = max(0, self._hanging - 1), max(0, self._down - 1)
        if not self._connected and not self._down:
            self._intake.lines[0].opened(self.now_ns)
            self.venue.connect()
            self._connected, self._epoch = True, self._intake.lines[0].opened_count
        if self._connected:
            self.venue.trade()
        closes_ns = self.files.core.next_close_ns
        self.take(self._brought() + self._answered() + self._intake.tick(self.now_ns, closes_ns))
        if request := self._intake.splicer.request(self.now_ns):
            self._asked.append(request)

    def _brought(self) -> list[Input]:
        arrivals = self.venue.frames(self.now_ns)
        epochs = [self._epoch] * len(arrivals.frames) if arrivals else []
        return self._intake.frames(0, arrivals._replace(epochs=epochs), self.now_ns) if arrivals else []

    def _answered(self) -> list[Input]:
        if self._hanging or not self._asked:
            return []
        ticks = self.venue.answer(request := self._asked.pop(), self.now_ns)
        if ticks is None:
            return self._intake.splicer.failed(self.now_ns)
        return self._intake.splicer.answered(request, ticks, self.now_ns)

    def take(self, inputs: list[Input]) -> None:
        files = self.files
        for record in files.core.records(inputs):
            effects = files.core.handle(files.journal.append(record), record)
            self._pending.extend(effects.rows)
            for event in effects.events:
                self._announce(event)

    def _announce(self, event: Event) -> None:
        assert event.seq == len(self.announced) + 1
        self.announced.append(event)

    def flush(self) -> None:
        rows, self._pending = self._pending, Rows()
        self.files.hot.flush(rows, self.files.journal.number)

    def rotate(self) -> None:
        self.flush()
        self.files.journal.rotate(*self.files.core.snapshot())

    def sweep(self) -> None:
        self.flush()
        files = self.files
        files.hot.sweep(plan(files.core.state.ledger.watermark_ns - KEEP_NS, *SWEPT), files.core.living())
        for path in files.journal.drop_before(files.cut.find(files.hot)):
            path.unlink()

    def checkpoint(self) -> None:
        self.flush()
        self.files.hot.checkpoint()

    def work(self) -> None:
        """Do of what an engine does beside, sometimes this and sometimes that."""
        draw = self.rng.random()
        deeds = (0.35, self.flush), (0.45, self.rotate), (0.55, self.sweep), (0.58, self.checkpoint)
        for upto, deed in deeds:
            if draw < upto:
                deed()
                return

    def live(self, faults: int) -> None:
        """Live through so many faults, and then until everything is in the record."""
        for pause_ns in steps(self.rng):
            try:
                if self.rng.random() < 0.4:
                    self._suffer(self.rng.choice(FAULTS), pause_ns)
                else:
                    self.step(pause_ns)
                    self.work()
            except Damaged:  # the file was ruined before, and that shows only now
                self.files.close()
                self._reopen()
            if self.faults.total() >= faults:
                break
        self._recover()

    def _suffer(self, fault: str, pause_ns: int) -> None:
        match fault:
            case "kill":
                self._ended(pause_ns, lambda into: shutil.copytree(self.root, into))
            case "power":
                self._ended(pause_ns, lambda into: self._reaper.durable.restore(self.root, into, self.rng))
            case "lost file" | "damaged file" | "damaged journal":
                self._ruined(fault)
            case "cut":
                self.venue.cut()
                self._intake.lines[0].lost(self._epoch if self._connected else 0)
                self._connected, self._down = False, self.rng.randint(0, 4)
            case "refuse":
                self.venue.refuses = self.rng.randint(1, 6)
            case "lag":
                self.venue.lag_ns = self.rng.randint(0, 12) * NS_PER_S
            case "hang":
                self._hanging = self.rng.randint(1, 25)
            case "forward" | "backward" | "crawl":
                most_s = {"forward": 120, "backward": -400, "crawl": 3}[fault]
                skew_ns = self._skew_ns + int(self.rng.random() * most_s * NS_PER_S)
                self._skew_ns = min(max(skew_ns, -500 * NS_PER_S), 400 * NS_PER_S)
            case _ if not (self._connected and self.venue.spoil(fault, self.rng, pause_ns)):
                return
        self.faults[fault] += 1

    def _ended(self, pause_ns: int, left: Callable[[Path], object]) -> None:
        """End this life at any call to the disk, or after its work; `left` makes what the next one finds."""
        corpse = self._next_folder()
        try:
            with self._reaper.armed(self.rng.choice([2, 5, 12, 40, 90]), lambda: left(corpse)):
                self.step(pause_ns)
                self.work()
                self.sweep()
                self.rotate()
        except Killed:
            pass
        else:
            left(corpse)
        self.files.close()
        self._move(corpse)
        self.venue.cut()
        self._again()

    def _next_folder(self) -> Path:
        self._lives += 1
        return self._work / str(self._lives)

    def _move(self, corpse: Path) -> None:
        shutil.rmtree(self.root)
        self.root = corpse
        self._reaper.durable.learn(corpse)

    def _again(self) -> None:
        """Open what is left; one in three is killed at that too."""
        if self.rng.random() < 0.33:
            corpse = self._next_folder()
            try:
                with self._reaper.armed(self.rng.randint(1, 30), lambda: shutil.copytree(self.root, corpse)):
                    self._open()
            except Killed:
                self.faults["kill"] += 1
                self._move(corpse)
            else:
                return
        self._open()

    def _ruined(self, fault: str) -> None:
        """Ruin a file between two lives; what was only in the journal may be announced again otherwise."""
        if self.rng.random() < 0.7:
            self.flush()
        known = self.files.hot.last_event_seq()
        self.files.close()
        if fault == "lost file":
            for path in self.folder.glob("trading.duckdb*"):
                path.unlink()
        elif fault == "damaged file":
            damage_database(self.folder / "trading.duckdb", self.rng)
        else:
            damage_journal(self.folder / "journal", self.rng)
            del self.announced[known:]
        self._reopen()

    def _reopen(self) -> None:
        """Begin again as a pair does whose engine has failed."""
        self.venue.cut()
        self._open()

    def _catch_up(self) -> None:
        """Hear what a life had no time to announce, or what is announced again, from the record."""
        last = self.files.core.state.ledger.next_event - 1
        rows = self.files.hot.events_after(len(self.announced), last)
        self.announced += [Event(*row) for row in rows]

    def _recover(self) -> None:
        """Let nothing go wrong any more, until all that was traded is in the record."""
        self.venue.lag_ns = self.venue.refuses = self._hanging = self._down = 0
        for _ in range(3_000):
            self.step(NS_PER_S // 2)
            if self._intake.splicer.settled and not self._intake.splicer.open_holes and self._connected:
                break
        self.flush()
        self._remembers()

    def tables(self) -> Tables:
        return everything(self.files)

    def plain(self) -> Tables:
        """Tell the same trades to a pair of which nothing ever went wrong."""
        ledger = self.files.core.state.ledger
        ids = [row[4] for row in self.tables()["ticks"]]
        first, last = min(map(int, ids)), (ledger.next_id or 0) - 1
        files = open_pair(self._work / "plain/binance/spot/BTCUSDT", PAIR, ENGINE)
        with closing(files):
            rows = Rows()
            ticks = TickBatch(self.venue.ticks(first, last))
            for record in files.core.records([ticks, Clock(ledger.watermark_ns)]):
                rows.extend(files.core.handle(files.journal.append(record), record).rows)
            files.hot.flush(rows, files.journal.number)
            return everything(files)

    def faulty_claims(self) -> list[object]:
        with closing(begin(self.files.hot.connection)) as cursor:
            claims = prove(cursor, self.files.core.open_rows(), ENGINE.timeframes_s)
        return [claim for claim in claims if not claim.ok]

    def close(self) -> None:
        self.files.close()
        shutil.rmtree(self._work)


def everything(files: PairFiles) -> Tables:
    """Read every table as a query does, without what tells when and how often something was learned."""
    with closing(begin(files.hot.connection)) as cursor:

        def read() -> Tables:
            found = cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            names = {name for (name,) in found} - TOLD_OF_FAULTS
            return {name: cursor.execute(_select(cursor, name)).fetchall() for name in names}

        return seen(cursor, files.core.open_rows(), read, "story")


def _select(cursor: Any, table: str) -> str:
    described = cursor.execute(f"DESCRIBE {table}").fetchall()
    unsaid = {"seq", "received_at", "revision"}
    kinds = {name: kind for name, kind, *_ in described if name not in unsaid}
    columns = [f"epoch_ns({name})" if kind == "TIMESTAMP_NS" else name for name, kind in kinds.items()]
    order = "len(trade_id), trade_id" if table == "ticks" else "ALL"
    return f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"  # noqa: S608 - ours


def differences(a: Tables, b: Tables) -> list[str]:
    """Name the first row of each table that is not the same in both, sums to 1e-9."""
    out = [f"{name} is only in one" for name in a.keys() ^ b.keys()]
    for name in sorted(a.keys() & b.keys()):
        if len(a[name]) != len(b[name]):
            out.append(f"{name} has {len(a[name])} and {len(b[name])} rows")
        out += [f"{name}: {x} {y}" for x, y in zip(a[name], b[name], strict=False) if not near(x, y)][:1]
    return out


def near(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(near, a, b))
    return bool(a == b)
