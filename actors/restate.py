"""What changes when ticks come late: a span of the record is folded without and with them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.facts import GAPS, Fact, same
from actors.folds import Folds, Living
from actors.history import Numbered
from market.rows import Row


class Run:
    """What one way of folding a span makes of it; rows that lived before it are among it."""

    def __init__(self, folds: Folds) -> None:
        self.folds = folds
        self.facts: list[Fact] = []
        self.living: Living = folds.living()
        self.outliers: set[int] = set()  # numbers of ticks

    def step(self, part: Numbered) -> None:
        made = self.folds.step(part.ticks)
        self._note(made.facts)
        self.outliers.update(part.seq[made.flags != 0].tolist())

    def advance(self, watermark_ns: int) -> None:
        self._note(self.folds.advance(watermark_ns))

    def closed(self) -> dict[tuple[str, Any], Row]:
        return {fact.key: fact.row for fact in self.facts if not fact.lives}

    def told(self) -> dict[tuple[str, str, int], Row]:
        """Give what was announced of living rows, the last of equals."""
        return {fact.told: fact.row for fact in self.facts if fact.lives and fact.event}

    def last_words(self) -> dict[tuple[str, Any], Fact]:
        """Give the last announcement of each living row."""
        return {fact.key: fact for fact in self.facts if fact.lives and fact.event}

    def _note(self, made: list[Fact]) -> None:
        self.facts += made
        for fact in made:
            if fact.lives:
                self.living[fact.table][fact.row[0]] = fact.row


def forget_equals(before: Run, after: Run) -> None:
    """Drop the closed rows that both have alike: they are not announced, and a long span has many."""
    theirs = before.closed()
    alike = {fact.key for fact in after.facts if not fact.lives and _is_known(theirs.get(fact.key), fact)}
    for run in (before, after):
        run.facts = [fact for fact in run.facts if fact.lives or fact.key not in alike]


def changes(before: Run, after: Run) -> Iterator[tuple[Fact, bool]]:
    """Yield what is to be announced, in order; the flag says that it restates a closed row.

    The last word on each living row is then what it would have been without anything late.
    """
    closed, told, last = before.closed(), before.told(), before.last_words()
    for fact in after.facts:
        if fact.lives:
            if fact.event and not _is_known(told.get(fact.told), fact):
                last[fact.key] = fact
                yield fact, False
        elif not _is_known(closed.get(fact.key), fact):
            yield fact, fact.key in closed
    words = after.last_words()
    for (table, key), said in last.items():
        if row := after.living[table].get(key):
            word = words.get((table, key)) or _as_it_is(said, row)
            if not _is_known(said.row if said.event == word.event else None, word):
                yield word, False


def moved(before: Run, after: Run) -> Iterator[tuple[str, str, Row | None]]:
    """Yield the living rows that are others now, None for one that there never was."""
    for table, rows in after.living.items():
        known = before.living[table]
        for key, row in rows.items():
            if key not in known or not same(known[key], row):
                yield table, key, row
        for key in known.keys() - rows.keys():
            yield table, key, None


def _is_known(row: Row | None, fact: Fact) -> bool:
    return row is not None and same(row, fact.row)


def _as_it_is(said: Fact, row: Any) -> Fact:
    """Announce a row of which nothing was to be told since before the span."""
    if said.table == GAPS:
        return said._replace(row=row, event="FVG_OPENED", end_ns=row.created_ns)
    event = "ZONE_TESTED" if row.touches else "ZONE_CREATED"
    return said._replace(row=row, event=event, end_ns=row.updated_ns)
