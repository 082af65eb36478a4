"""What the shell has to do after a record: write the rows, announce the events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
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

    def tell(self, ledger: Ledger, made: Iterable[Fact], cause: Ticks = EMPTY) -> None:
        """Write what the folds made, and announce it; `cause` are the ticks that closed it."""
        for fact in made:
            if fact.lives:
                self.rows.keep(fact.table, fact.row[0], fact.row)
            else:
                self.rows.insert(fact.table, fact.row)
            if fact.event:
                received_ns = _received(cause, fact.end_ns)
                self.announce(ledger, fact.event, fact.end_ns, fact.payload, received_ns)

    def keep(self, living: Living) -> None:
        """Write living rows as they are now."""
        for table, keyed in living.items():
            for key, row in keyed.items():
                self.rows.keep(table, key, row)


def _received(cause: Ticks, end_ns: int) -> int:
    """Return when the first tick at or after `end_ns` was received."""
    if not len(cause):
        return 0
    at = int(np.searchsorted(cause["ts_ns"], end_ns))
    return int(cause["received_ns"][at]) if at < len(cause) else 0
