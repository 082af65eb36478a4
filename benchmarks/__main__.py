"""Measure marketd and print one table, each figure beside its goal: `python -m benchmarks [part ...]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks import figures
from benchmarks.archive import measure_archive
from benchmarks.figures import Figure
from benchmarks.lift import measure_lift
from benchmarks.live import measure_live
from benchmarks.memory import measure_memory
from benchmarks.outages import measure_outages
from benchmarks.outages import table as outage_table
from benchmarks.questdb import measure_questdb
from benchmarks.recovery import measure_recovery
from benchmarks.replay import measure_batches, measure_replay
from benchmarks.soak import measure_soak
from benchmarks.throughput import measure_throughput
from benchmarks.vectors import measure_vectors

T = TypeVar("T")
Part = Callable[[argparse.Namespace], Iterable[Figure]]
LIFT = "lift"  # left out unless recordings are there
PARTS: dict[str, Part] = {
    "replay": lambda _: measure_replay(),
    "batch": lambda _: measure_batches(),
    "live": lambda arguments: measure_live(arguments.seconds),
    "memory": lambda _: measure_memory(),
    "recovery": lambda _: measure_recovery(),
    "questdb": lambda _: measure_questdb(),
    "vectors": lambda _: measure_vectors(),
    LIFT: lambda arguments: measure_lift(arguments.recordings),
    "throughput": lambda _: measure_throughput(),
    "archive": lambda _: measure_archive(),
    "soak": lambda arguments: measure_soak(arguments.seconds),
}
OUTAGES = "outages"
"""A part with a table of its own."""
WIDE = 200  # columns of a file or a pipe


def main() -> None:
    """Run the parts asked for, one after the other; a part that fails does not keep back the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join([*PARTS, OUTAGES])} (default: all)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="how long live, soak and each outage last (600: soak's real figure)",
    )
    parser.add_argument("--recordings", type=Path, help="the folder of recorded trades that lift reads")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - {*PARTS, OUTAGES}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    note = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before: other work makes every figure worse"
    found: dict[str, Sequence[Figure | str]] = {}
    usual = [part for part in [*PARTS, OUTAGES] if part != LIFT or arguments.recordings]
    wanted = arguments.parts or usual
    for part in [part for part in wanted if part != OUTAGES]:
        with console.status(part):
            found[part] = list(_until_it_fails(partial(PARTS[part], arguments)))
    if found:
        console.print(figures.table(found, note))
    if OUTAGES in wanted:
        with console.status(OUTAGES):
            seen = list(_until_it_fails(partial(measure_outages, arguments.seconds)))
        console.print(outage_table((one for one in seen if not isinstance(one, str)), note))
        console.print(*(one for one in seen if isinstance(one, str)), style="red")


def _until_it_fails(measure: Callable[[], Iterable[T]]) -> Iterator[T | str]:
    """Give what is measured, and at last why there is no more."""
    try:
        yield from measure()
    except Exception as error:  # noqa: BLE001 - told beside what could be measured
        yield f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


if __name__ == "__main__":
    main()
