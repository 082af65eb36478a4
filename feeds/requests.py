"""What a record asks its venue for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Latest:
    """Ask the venue for its newest trades."""


@dataclass(frozen=True, slots=True)
class Page:
    """Ask the venue for trades from `from_id` on, as many as it gives at once.

    Hints for venues that are asked by time: none of these trades is before `from_ns`; where the venue gives
    the newest of a window, this ends at `to_ns`.
    """

    from_id: int
    from_ns: int = field(default=0, compare=False)
    to_ns: int = field(default=0, compare=False)


Request: TypeAlias = Latest | Page


@dataclass(frozen=True, slots=True)
class Courtesy:
    """How far before its first subscription a record begins: what lacks there is no gap.

    `page` is what the venue gives at once from any id on, 0 where it cannot be asked so; `windows` says that
    it is asked by time, and gives the newest trades of a window.
    """

    back_ns: int = 0
    page: int = 0
    windows: bool = False
