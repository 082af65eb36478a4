"""A venue's limits, shared by all processes of a machine."""

from __future__ import annotations

import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.binance_spot import RULES
from feeds.budget import MAX_AHEAD_S, MAX_BAN_S, Budget
from feeds.turns import ROOM

NOW_S = 1_790_000_000.0


class Clock:
    """Stand still until told."""

    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits" / "venue.connects"


def starts(budget: Budget, count: int, cost: float = 1.0) -> list[float]:
    return [budget.reserve(cost) for _ in range(count)]


def test_as_many_as_fit_go_at_once_and_the_rest_in_turn(path: Path, clock: Clock) -> None:
    budget = Budget(path, 3, 10.0, clock)
    assert starts(budget, 7) == [0, 0, 0, 10, 10, 10, 20]
    clock.now_s += 15
    assert budget.reserve() == 5


def test_a_turn_counts_for_as_long_as_it_takes(path: Path, clock: Clock) -> None:
    budget = Budget(path, 3, 10.0, clock)
    for wait_s in (0, 6, 5):
        clock.now_s += wait_s
        assert budget.reserve() == 0
    assert budget.reserve() == 0  # the first is 11 s ago
    assert budget.reserve() == pytest.approx(5)


def test_what_costs_more_than_there_is_goes_alone(path: Path, clock: Clock) -> None:
    budget = Budget(path, 0.8, 1.0, clock)
    assert starts(budget, 3) == [0, pytest.approx(1.25), pytest.approx(2.5)]
    clock.now_s += 60
    assert budget.reserve() == 0


@settings(max_examples=60, deadline=None)
@given(
    amount=st.integers(1, 30),
    per_s=st.sampled_from([1.0, 5.0, 60.0]),
    calls=st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(1, 12)), max_size=14),
)
def test_no_window_holds_more_than_is_allowed(
    tmp_path_factory: pytest.TempPathFactory, amount: int, per_s: float, calls: list[tuple[float, int]]
) -> None:
    clock = Clock()
    budget = Budget(tmp_path_factory.mktemp("limits") / "x", amount, per_s, clock)
    turns = list[tuple[float, int]]()
    for pause_s, cost in calls:
        clock.now_s += pause_s
        turns.append((clock.now_s + budget.reserve(min(cost, amount)), min(cost, amount)))
    assert turns == sorted(turns, key=lambda turn: turn[0])
    for i, (at_s, cost) in enumerate(turns):
        within = [c for s, c in turns[:i] if s > at_s - per_s + 1e-6]
        assert not within or sum(within) + cost <= amount


def test_a_start_of_twenty_pairs_is_not_slowed_and_two_hundred_stay_within(path: Path, clock: Clock) -> None:
    budget = Budget(path, ROOM * RULES.connects, RULES.connects_per_s, clock)
    assert not any(starts(budget, 2 * 20))
    waits = starts(budget, 200 + 200)
    assert waits == sorted(waits)
    for begin_s in range(0, 900, 10):
        assert sum(begin_s <= wait_s < begin_s + 300 for wait_s in [0.0] * 40 + waits) <= 300
    clock.now_s += 900
    assert budget.reserve() == 0


def test_two_processes_share_one_file(path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from feeds.budget import Budget\n"
        "budget = Budget(pathlib.Path(sys.argv[1]), 50, 300.0)\n"
        "print(sum(budget.reserve() < 1 for _ in range(40)))\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    at_once = [int(process.communicate(timeout=60)[0]) for process in both]
    assert sum(at_once) == 50


def test_a_ban_is_seen_by_all(path: Path, clock: Clock) -> None:
    one, other = Budget(path, 100, 10.0, clock), Budget(path, 100, 10.0, clock)
    assert other.banned_s() == 0
    one.ban(60.0)
    one.ban(30.0)
    assert other.banned_s() == 60
    assert other.reserve() == 0  # a turn is no permission: who takes it looks for bans
    clock.now_s += 61
    assert other.banned_s() == 0


def test_a_ban_outlives_a_reboot_but_not_every_number(path: Path, clock: Clock) -> None:
    budget = Budget(path, 1, 10.0, clock)
    budget.ban(1e9)
    assert budget.banned_s() == MAX_BAN_S
    clock.now_s += MAX_BAN_S - 1
    assert Budget(path, 1, 10.0, clock).banned_s() == 1


@pytest.mark.parametrize(
    "written",
    [
        b"garbage",
        b"\xff" * 32,
        b"\xff" * 100_001,
        array("d", [NOW_S, float("nan"), NOW_S, 1.0]).tobytes(),
        array("d", [NOW_S, NOW_S + 2 * MAX_BAN_S, NOW_S + 10 * MAX_AHEAD_S, 1.0]).tobytes(),
        array("d", [NOW_S, 0.0, NOW_S, 1.0, NOW_S - 5, 1.0]).tobytes(),
        array("d", [NOW_S, 0.0, NOW_S, -1.0]).tobytes(),
        array("d", [NOW_S, 0.0, NOW_S, float("inf")]).tobytes(),
    ],
    ids=["text", "bits", "more", "nan", "far future", "disorder", "negative", "infinite"],
)
def test_what_cannot_be_is_not_believed(path: Path, clock: Clock, written: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(written)
    budget = Budget(path, 1, 10.0, clock)
    assert budget.banned_s() == 0
    assert starts(budget, 2) == [0, 10]
    assert len(path.read_bytes()) < 100


@pytest.mark.parametrize("step_s", [60.0, 2 * MAX_AHEAD_S, 86_400.0])
def test_a_clock_that_is_set_back_changes_no_wait(path: Path, clock: Clock, step_s: float) -> None:
    budget = Budget(path, 2, 10.0, clock)
    starts(budget, 2)
    budget.ban(60.0)
    clock.now_s -= step_s
    assert budget.banned_s() == 60
    assert budget.reserve() == 10


def test_a_file_is_small(path: Path, clock: Clock) -> None:
    budget = Budget(path, 4_800, 60.0, clock)
    for _ in range(2_000):
        budget.reserve(25)
        if path.stat().st_size > 16 * (4_800 // 25 + 2):
            break
    assert path.stat().st_size <= 16 * (4_800 // 25 + 2)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Budget(tmp_path / "file" / "x", 1, 1.0).reserve()
