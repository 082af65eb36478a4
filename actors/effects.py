"""What the shell has to do after a record: write the rows, announce the events. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from actors.facts import Fact
from actors.folds import Living
from actors.state import Ledger
from market.events import Event
from market.rows import EventRow, Rows
from market.ticks import EMPTY, Ticks


@dataclass(slots=True)
class Effects:
    rows: Rows = field(default_factory=Rows)
    events: list[Event] = field(default_factory=list)

    def announce(self, ledger: Ledger, name: str, ts_ns: int, data: bytes, received_ns: int = 0) -> None:
        """Give an event the next number."""
        self.events.append(Event(ledger.next_event, ts_ns, name, data, received_ns))
        self.rows.insert("events", EventRow(ledger.next_event, ts_ns, name, data))
        ledger.next_event += 1

    def tell(self, ledger: Ledger, made: Sequence[Fact], cause: Ticks = EMPTY) -> None:
        """Write what the folds made, and announce it; `cause` are the ticks that closed it."""
        if not made:
            return
        for fact, received_ns in zip(made, _received(cause, made), strict=True):
            if fact.lives:
                self.rows.keep(fact.table, fact.row[0], fact.row)
            else:
                self.rows.insert(fact.table, fact.row)
            if fact.event:
                self.announce(ledger, fact.event, fact.end_ns, fact.payload, received_ns)

    def keep(self, living: Living) -> None:
        """Write living rows as they are now."""
        for table, keyed in living.items():
            for key, row in keyed.items():
                self.rows.keep(table, key, row)


def _received(cause: Ticks, made: Sequence[Fact]) -> list[int]:
    """Say of each when the first tick at or after its end was received, 0 where none was."""
    if not len(cause):
        return [0] * len(made)
    at = np.searchsorted(np.ascontiguousarray(cause["ts_ns"]), [fact.end_ns for fact in made])
    received_ns = [*cause["received_ns"].tolist(), 0]
    return [received_ns[i] for i in at.tolist()]
