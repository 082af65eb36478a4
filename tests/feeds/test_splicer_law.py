"""The splicer: every id is stored once or named missing, whatever the venue does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.requests import Latest, Request
from feeds.splicer import RETRY_MAX_NS, WAIT_NS, Splicer
from market.inputs import Began, GapClosed, GapOpened, Input, TickBatch
from market.ticks import Ticks
from market.times import NS_PER_S
from tests.feeds.splicer_support import T0, ticks


@dataclass
class Book:
    """Check each input as it comes, as a reader of the record would."""

    began: int | None = None
    seen: Counter[int] = field(default_factory=Counter)
    gaps: dict[int, GapOpened] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    restarts: int = 0

    @property
    def edge(self) -> int:
        """The next id in order, behind everything stored or named missing."""
        gaps = (gap.last_id + 1 for gap in self.gaps.values())
        return max([self.began or 0, max(self.seen, default=-1) + 1, *gaps])

    def take(self, inputs: list[Input]) -> None:
        for item in inputs:
            match item:
                case Began():
                    assert self.began is None
                    self.began = item.trade_id
                case GapOpened():
                    assert item.first_id == self.edge <= item.last_id
                    self.gaps[item.first_id] = item
                case GapClosed():
                    gap = self.gaps[item.first_id]
                    inside = sum(self.seen[i] for i in range(gap.first_id, gap.last_id + 1))
                    assert self.restarts or item.missing == gap.last_id - gap.first_id + 1 - inside
                    assert item.first_id not in self.closed
                    self.closed.add(item.first_id)
                case TickBatch():
                    self.ticks(item.ticks["trade_id"].tolist())

    def ticks(self, ids: list[int]) -> None:
        assert self.began is not None
        assert ids == sorted(ids)
        for trade_id in ids:
            assert trade_id == self.edge or any(g.first_id <= trade_id <= g.last_id for g in self.open())
            self.seen[trade_id] += 1
            assert self.seen[trade_id] == 1

    def open(self) -> list[GapOpened]:
        return [gap for first, gap in self.gaps.items() if first not in self.closed]

    def restarted(self) -> Splicer:
        """Begin again with what the record tells."""
        self.restarts += 1
        done = [gap.last_id + 1 for first, gap in self.gaps.items() if first in self.closed]
        next_id = max([self.began or 0, max(self.seen, default=-1) + 1, *done])
        gaps = [
            (
                g.first_id,
                g.last_id,
                max([g.first_id, *(i + 1 for i in self.seen if g.first_id <= i <= g.last_id)]),
                g.from_ns,
            )
            for g in self.open()
        ]
        splicer = Splicer(None if self.began is None else next_id, gaps, T0)
        splicer.connected()
        return splicer


@dataclass
class Venue:
    """Trades, a stream that loses, repeats and swaps them, a REST that fails, lags and knows not all."""

    lost: set[int]  # REST does not have them
    newest: int
    page: int = 7

    def answer(self, request: Request, known: int) -> Ticks:
        have = [i for i in range(1, known + 1) if i not in self.lost]
        if isinstance(request, Latest):
            return ticks(*have[-1:])
        return ticks(*[i for i in have if i >= request.from_id][: self.page])


STEP = st.tuples(
    st.sampled_from(
        ["trade", "trade", "trade", "cut", "answer", "answer", "fail", "pause", "long pause", "stop", "kill"]
    ),
    st.integers(1, 6),  # how many trades
    st.sets(st.integers(0, 5)),  # which of them the stream drops
    st.sampled_from(["plain", "plain", "repeat", "swap", "hold"]),
    st.integers(0, 12),  # how far REST lags
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(STEP, max_size=60),
    st.sets(st.integers(1, 150), max_size=20),
    st.one_of(st.none(), st.just(6)),
)
def test_every_id_is_stored_once_or_in_a_closed_gap(
    steps: list[tuple[str, int, set[int], str, int]], lost: set[int], next_id: int | None
) -> None:
    venue, book, splicer = Venue(lost, newest=5), Book(began=next_id), Splicer(next_id)
    now_ns, request, held = 0, None, list[int]()
    splicer.connected()
    for kind, count, dropped, manner, lag in steps:
        now_ns += NS_PER_S // 10
        request = request or splicer.request(now_ns)
        if kind == "trade":
            ids = [venue.newest + 1 + k for k in range(count) if k not in dropped]
            venue.newest += count
            if manner == "hold":  # frames that come after later ones
                held, ids = ids, held
            ids = {"repeat": ids + ids[-2:], "swap": ids[::-1]}.get(manner, ids)
            book.take(splicer.live(ticks(*ids), now_ns))
        elif kind == "cut":
            splicer.connected()
        elif kind == "answer" and request:
            book.take(splicer.answered(request, venue.answer(request, venue.newest - lag), now_ns))
            request = None
        elif kind == "fail" and request:
            book.take(splicer.failed(now_ns, lag * NS_PER_S))
            request = None
        elif kind in {"stop", "kill"}:
            book.take(splicer.drain(now_ns) if kind == "stop" else [])
            splicer, request = book.restarted(), None
        elif "pause" in kind:
            now_ns += WAIT_NS + 1 if kind == "long pause" else NS_PER_S
        book.take(splicer.tick(now_ns))
        assert not len(splicer._waiting) or now_ns - splicer._waiting_since_ns <= WAIT_NS
    settle(splicer, venue, book, now_ns, request)


def settle(splicer: Splicer, venue: Venue, book: Book, now_ns: int, request: Request | None) -> None:
    """Let REST work and trades happen until nothing is open; then every id is accounted for."""
    splicer.connected()
    for _ in range(600):
        now_ns += RETRY_MAX_NS
        if request := request or splicer.request(now_ns):
            book.take(splicer.answered(request, venue.answer(request, venue.newest), now_ns))
            request = None
        venue.newest += 1
        book.take(splicer.live(ticks(venue.newest), now_ns))
        if splicer.settled and not splicer.open_holes:
            break
    assert splicer.settled
    assert not splicer.open_holes
    assert not book.open()
    assert book.began is not None
    excused = {i for first, gap in book.gaps.items() for i in range(first, gap.last_id + 1)}
    for trade_id in range(book.began, venue.newest + 1):
        assert book.seen[trade_id] == 1 or (trade_id in excused and trade_id in venue.lost)
