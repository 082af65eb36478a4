"""The clock of a process against a host whose clock is set, and whose processes are held up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from feeds.clock import Clock
from market.times import NS_PER_S

START_NS = 1_750_000_000 * NS_PER_S
HOUR_NS = 3_600 * NS_PER_S
SET = st.integers(-HOUR_NS, HOUR_NS)
PASSES = st.integers(0, 60 * NS_PER_S)


@dataclass
class Host:
    """Two clocks; `held_ns` passes between one reading and the next."""

    true_ns: int = START_NS
    set_ns: int = 0
    held_ns: int = 0

    def wall_ns(self) -> int:
        self.true_ns += self.held_ns
        return self.true_ns + self.set_ns

    def steady_ns(self) -> int:
        self.true_ns += self.held_ns
        return self.true_ns - START_NS


def test_a_clock_that_is_not_set_is_followed_to_the_nanosecond() -> None:
    host = Host()
    clock = Clock(host.wall_ns, host.steady_ns)
    for passed_ns in (0, 1, NS_PER_S, HOUR_NS):
        host.true_ns += passed_ns
        assert clock.now_ns() == host.true_ns


def test_set_back_it_goes_on_as_if_nothing_was() -> None:
    host = Host()
    clock = Clock(host.wall_ns, host.steady_ns)
    host.set_ns, host.true_ns = -HOUR_NS, host.true_ns + NS_PER_S
    assert clock.now_ns() == START_NS + NS_PER_S


def test_set_ahead_is_followed_at_once() -> None:
    host = Host()
    clock = Clock(host.wall_ns, host.steady_ns)
    host.set_ns = HOUR_NS
    assert clock.now_ns() == START_NS + HOUR_NS


@given(st.lists(st.tuples(SET, PASSES, PASSES), max_size=50))
def test_time_passes_at_least_as_it_does_whatever_is_set(steps: list[tuple[int, int, int]]) -> None:
    host = Host()
    clock = Clock(host.wall_ns, host.steady_ns)
    told = [(clock.now_ns(), host.true_ns)]
    for set_ns, passed_ns, held_ns in steps:
        host.set_ns, host.held_ns = set_ns, held_ns
        host.true_ns += passed_ns
        told.append((clock.now_ns(), host.true_ns))
        highest_ns = max(0, *(one[0] for one in steps))
        assert told[-1][0] <= host.true_ns + highest_ns
    assert all(b - a >= true_b - true_a for (a, true_a), (b, true_b) in pairwise(told))
