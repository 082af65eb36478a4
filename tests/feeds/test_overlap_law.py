"""Ids that do not count: every trade once, and what may be missing lies in a gap that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.overlap import AUDIT_NS, TRUST_NS, Overlap
from feeds.splicer import RETRY_MAX_NS, TOLD_NS, WAIT_NS
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.overlap_support import T0, Record, Traded, told

PAGE = 7
REMEMBERED = 4 * PAGE  # ids that a record tells when it goes on
LAG_MAX_S = 9

KINDS = [
    *["trade"] * 4,
    *["answer"] * 4,
    *["cut", "connect", "connect"],
    *["fail", "pause", "audit", "long pause", "stop", "kill", "torn kill"],
]
MANNERS = ["plain", "plain", "repeat", "swap", "hold", "one time", "one time"]


class Step(NamedTuple):
    kind: str
    size: int  # how many trades, how much of a record survives
    dropped: set[int]  # which of the trades the stream drops
    manner: str
    lag_s: int  # how far REST lags
    page: int  # how much it gives


STEP = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.integers(1, 9),
    st.sets(st.integers(0, 8), max_size=2),
    st.sampled_from(MANNERS),
    st.integers(0, LAG_MAX_S),
    st.integers(1, PAGE),
)


@dataclass
class World:
    """A venue, the socket to it, and the record that is made."""

    texts: bool
    now_ns: int = T0
    happened: list[Traded] = field(default_factory=list)
    connected: bool = False
    held: list[Traded] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)  # inside a living connection
    brought: set[str] = field(default_factory=set)  # by the socket
    shown: set[str] = field(default_factory=set)  # by REST, and owed
    record: Record = field(default_factory=Record)
    overlap: Overlap = field(default_factory=lambda: Overlap(1))

    def trade(self, count: int, dropped: set[int], manner: str) -> None:
        at_ns = self.now_ns
        new = []
        for k in range(count):
            at_ns += 0 if manner == "one time" else NS_PER_MS
            new.append(Traded(len(self.happened) + k, at_ns, self.texts))
        self.now_ns = at_ns
        self.happened += new
        if not self.connected:
            return
        self.dropped |= {x.key for k, x in enumerate(new) if k in dropped}
        brought = [x for k, x in enumerate(new) if k not in dropped]
        if manner == "hold":  # frames that come after later ones, unless the connection ends before
            self.held, brought = brought, self.held
        brought = {"repeat": brought + brought[-2:], "swap": brought[::-1]}.get(manner, brought)
        self.brought |= {x.key for x in brought}
        ticks, ids = told(brought)
        self.record.take(self.overlap.live(ticks, self.now_ns, ids=ids))

    def answer(self, lag_s: int, size: int) -> None:
        if not (request := self.overlap.request(self.now_ns)):
            return
        known = [x for x in self.happened if x.ts_ns <= self.now_ns - lag_s * NS_PER_S]
        page = known[-size:]
        self._owe(page)
        ticks, ids = told(page)
        self.record.take(self.overlap.answered(request, ticks, self.now_ns, ids))

    def cut(self) -> None:
        self.dropped |= {x.key for x in self.held}
        self.connected, self.held = False, []

    def connect(self) -> None:
        self.cut()
        self.connected = True
        self.overlap.connected()

    def restart(self, keep: int | None = None) -> None:
        """Go on with what the record tells; of what was last said only the first `keep` are in it."""
        self.cut()
        last = self.overlap.drain(self.now_ns) if keep is None or keep % 2 else []
        self.record.take(last if keep is None else last[: keep // 2])
        self.shown &= self.record.stored.keys()
        record, overlap_gaps = self.record, [(k, g.from_ns, g.to_ns) for k, g in self.record.gaps.items()]
        self.overlap = Overlap(
            record.next_seq, list(record.stored)[-REMEMBERED:], record.last_ts_ns, gaps=overlap_gaps
        )

    def _owe(self, page: list[Traded]) -> None:
        """What follows a trade of the record is owed, and what is later than all of it."""
        stored = self.record.stored
        first = next((i for i, x in enumerate(page) if x.key in stored), len(page))
        self.shown |= {
            x.key for i, x in enumerate(page) if i > first or (stored and x.ts_ns > self.record.last_ts_ns)
        }


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEP, min_size=5, max_size=60), texts=st.booleans())
def test_every_trade_is_stored_once_or_may_be_missing_in_a_gap_that_says_so(
    steps: list[Step], *, texts: bool
) -> None:
    live_through(steps, texts=texts)


def test_so_it_is_in_many_long_lives() -> None:
    for seed in range(400):
        chance = Random(seed)
        steps = [
            Step(
                chance.choice(KINDS),
                chance.randint(1, 9),
                set(chance.sample(range(9), chance.choice([0, 0, 0, 1, 2]))),
                chance.choice(MANNERS),
                chance.choice([0, 0, 0, 1, 5, LAG_MAX_S]),
                chance.choice([PAGE, PAGE, PAGE, 3, 1]),
            )
            for _ in range(chance.randint(5, 60))
        ]
        live_through(steps, texts=bool(seed % 2))


def live_through(steps: list[Step], *, texts: bool) -> None:
    world = World(texts)
    for kind, size, dropped, manner, lag_s, page in steps:
        world.now_ns += 0 if manner == "one time" else NS_PER_S // 10
        if kind == "trade":
            world.trade(size, dropped, manner)
        elif kind == "answer":
            world.answer(lag_s, page)
        elif kind == "fail" and world.overlap.request(world.now_ns):
            world.record.take(world.overlap.failed(world.now_ns, lag_s * NS_PER_S))
        elif kind == "cut":
            world.cut()
        elif kind == "connect":
            world.connect()
        elif kind == "stop" or "kill" in kind:
            world.restart({"stop": None, "kill": 0}.get(kind, size))
        else:
            world.now_ns += {"audit": AUDIT_NS, "long pause": WAIT_NS + 1}.get(kind, NS_PER_S)
        world.record.take(world.overlap.tick(world.now_ns))
        waiting = world.overlap._waiting
        assert not waiting or world.now_ns - world.overlap._waiting_since_ns <= WAIT_NS
    settle(world)


def settle(world: World) -> None:
    """Let REST work and trades happen one by one until nothing is in doubt; then all is accounted for."""
    world.connect()
    for _ in range(8):
        world.now_ns += max(RETRY_MAX_NS, TRUST_NS, TOLD_NS, AUDIT_NS) + 1
        world.answer(0, PAGE)
        world.trade(1, set(), "plain")
        world.now_ns += NS_PER_S
        world.answer(0, PAGE)
        world.record.take(world.overlap.tick(world.now_ns))
    record = world.record
    assert world.overlap.settled
    assert not world.overlap.open_holes
    assert not record.gaps
    lost = [(g.from_ns, g.to_ns) for g, c in record.past if c.missing]
    filled = [(g.from_ns, g.to_ns) for g, c in record.past if not c.missing]
    for x in world.happened:
        if x.key in record.stored or x.ts_ns <= record.began_ns:
            continue
        excused = any(from_ns <= x.ts_ns <= to_ns for from_ns, to_ns in lost)
        assert excused or (x.key in world.dropped and x.key not in world.shown), x
        assert excused or not any(from_ns < x.ts_ns < to_ns for from_ns, to_ns in filled), x
    assert record.stored.keys() <= {x.key for x in world.happened}
    older = {key for key, ts_ns in record.stored.items() if ts_ns < record.began_ns}
    assert older <= world.brought  # what was before the beginning is not asked for
    assert all(record.stored[x.key] == x.ts_ns for x in world.happened if x.key in record.stored)
