"""What is known and what is in doubt of a record whose ids do not count. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from market.inputs import GapClosed
from market.ticks import Ticks

GIVEN = "given back by REST"
UNPROVEN = "the venue gives only its newest trades, and they do not reach back"
RECENT = 16_384  # a message of the venue may hold 1,024 trades, an answer 1,000


class Tick(NamedTuple):
    """A trade under the venue's own id, as text."""

    key: str
    row: tuple[int | float, ...]  # a TICK

    @property
    def ts_ns(self) -> int:
        return int(self.row[1])


class Recent:
    """Remember the ids stored last, at most RECENT: all later than the floor are among them.

    A record that goes on tells its last `keys`, but not of when these are.
    """

    def __init__(self, keys: Iterable[str], last_ts_ns: int) -> None:
        self._times = OrderedDict.fromkeys(keys, last_ts_ns)
        self._floor_ns = last_ts_ns - 1

    def __contains__(self, key: str) -> bool:
        return key in self._times

    def add(self, ticks: Iterable[Tick]) -> None:
        for tick in ticks:
            self._times[tick.key] = tick.ts_ns
        while len(self._times) > RECENT:
            self.disown(self._times.popitem(last=False)[1])

    def disown(self, ts_ns: int) -> None:
        """Take no trade of then or earlier for a new one."""
        self._floor_ns = max(self._floor_ns, ts_ns)

    def since(self, ts_ns: int) -> frozenset[str]:
        """Name the trades that may be of that time or later."""
        return frozenset(key for key, at_ns in self._times.items() if at_ns >= ts_ns)

    def strangers(self, page: Sequence[Tick]) -> list[int]:
        """Say which trades of an answer are not in the record: their places in it.

        What is older than all that is remembered may be in it. But not what follows a known trade: more are
        remembered than two answers hold, so that none which came after it is forgotten.
        """
        first = next((i for i, tick in enumerate(page) if tick.key in self._times), len(page))
        return [
            i
            for i, tick in enumerate(page)
            if tick.key not in self._times and (i > first or tick.ts_ns > self._floor_ns)
        ]


class Cover(NamedTuple):
    """How an answer lies over a doubt: which places of it, and whether it reaches both its ends."""

    start: int
    end: int
    back: bool
    live: bool


@dataclass(slots=True)
class Doubt:
    """Between two trades of the record others may be missing.

    The one before is of `from_ns`, a time at which the record holds `before`. The one after is `to_key` of
    `to_ns`, 0 as long as none has come. `key` is that of the gap which the record holds open for it, if live
    went on without an answer. `seen` are the ids of the last answer.
    """

    from_ns: int
    before: frozenset[str] = frozenset()
    since_ns: int = 0  # of the connection, by this host's clock
    to_ns: int = 0
    to_key: str = ""
    key: int | None = None
    rows: int = 0  # that came for the gap
    lost: bool = False  # whether something of it is not to be had
    seen: frozenset[str] = frozenset()

    def cover(self, page: Sequence[Tick]) -> Cover:
        """Lay an answer, which holds all trades from its first to its last, over the doubt."""
        known = [i for i, tick in enumerate(page) if tick.ts_ns < self.from_ns or tick.key in self.before]
        after = (i for i, tick in enumerate(page) if tick.key == self.to_key or tick.ts_ns > self.to_ns)
        start, end = known[-1] + 1 if known else 0, next(after, len(page)) if self.to_ns else len(page)
        return Cover(start, max(start, end), bool(known) or not self.from_ns, end < len(page))

    def advance(self, page: Sequence[Tick]) -> None:
        """Go on where an answer ended: nothing before that is in doubt any more."""
        last_ns = page[-1].ts_ns
        if last_ns >= self.from_ns:
            before = self.before if last_ns == self.from_ns else frozenset()
            self.from_ns = last_ns
            self.before = before | {tick.key for tick in page if tick.ts_ns == last_ns}
        self.seen = frozenset(tick.key for tick in page)

    def closed(self, now_ns: int, *, lost: bool) -> GapClosed:
        """Say how its gap ends."""
        return GapClosed(self.key or 0, now_ns, int(lost), UNPROVEN if lost else GIVEN, self.rows)


def read(ticks: Ticks, ids: Sequence[str]) -> list[Tick]:
    """Take ticks apart, with their text ids or their numbers as text."""
    keys = ids or [str(i) for i in ticks["trade_id"].tolist()]
    return [Tick(key, row) for key, row in zip(keys, ticks.tolist(), strict=True)]
