"""What was measured, beside what it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; `goal` is an upper bound, or a lower one with `at_least`."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def table(parts: Mapping[str, Sequence[Figure | str]], note: str) -> Table:
    """Lay out the figures of each part; a text says why there are no more of them."""
    out = Table("", "measured", "unit", "goal", "", title="marketd benchmarks", caption=note)
    for column in (1, 3):
        out.columns[column].justify = "right"
    for part, figures in parts.items():
        out.add_section()
        for figure in figures:
            if isinstance(figure, str):
                out.add_row(part, "failed", figure, style="red")
            else:
                out.add_row(f"{part}: {figure.name}", _text(figure.value), figure.unit, *_goal(figure))
    return out


def _goal(figure: Figure) -> tuple[str, str]:
    if figure.goal is None:
        return "", ""
    sign = "≥" if figure.at_least else "≤"
    return f"{sign} {_text(figure.goal)}", "[green]met[/]" if figure.met else "[red]missed[/]"


def _text(value: float) -> str:
    """Write three digits that count, or all the digits of a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
