"""Stories of a machine that keeps up, and of one that does not."""

from __future__ import annotations

import pytest

from actors.pacing import MAX_FLUSH_NS, MAX_GATHER_NS, Pacing
from market.times import NS_PER_MS, NS_PER_S

GATHER_NS, FLUSH_NS = 5 * NS_PER_MS, NS_PER_S


@pytest.fixture
def pacing() -> Pacing:
    return Pacing(GATHER_NS, FLUSH_NS)


def pauses_ms(pacing: Pacing, *late_ms: float) -> list[float]:
    return [pacing.gather_ns(int(ms * NS_PER_MS)) / NS_PER_MS for ms in late_ms]


def test_a_machine_that_keeps_up_works_as_configured(pacing: Pacing) -> None:
    assert pauses_ms(pacing, *[0.3] * 100) == [5.0] * 100
    assert pacing.flush_ns(15 * NS_PER_MS) == FLUSH_NS


def test_one_pause_that_ends_late_is_soon_forgotten(pacing: Pacing) -> None:
    first, *rest = pauses_ms(pacing, 160.0, *[0.0] * 11)
    assert first == 20.0
    assert rest == sorted(rest, reverse=True)
    assert rest[-1] == 5.0


def test_where_every_pause_ends_late_they_grow_up_to_their_bound(pacing: Pacing) -> None:
    longer = pauses_ms(pacing, *[30.0] * 60)
    assert longer == sorted(longer)
    assert longer[-1] == pytest.approx(30.0, rel=0.01)
    assert pauses_ms(pacing, *[10_000.0] * 60)[-1] == MAX_GATHER_NS / NS_PER_MS


def test_it_goes_back_to_what_is_wanted(pacing: Pacing) -> None:
    pauses_ms(pacing, *[10_000.0] * 60)
    assert pauses_ms(pacing, *[0.2] * 100)[-1] == 5.0


@pytest.mark.parametrize(("took_ms", "wait_ms"), [(100, 1_000), (200, 2_000), (499, 4_990), (5_000, 5_000)])
def test_a_flush_that_takes_long_is_followed_by_a_longer_pause(
    pacing: Pacing, took_ms: int, wait_ms: int
) -> None:
    assert pacing.flush_ns(took_ms * NS_PER_MS) == wait_ms * NS_PER_MS


def test_what_is_wanted_may_be_longer_than_any_bound() -> None:
    patient = Pacing(2 * MAX_GATHER_NS, 2 * MAX_FLUSH_NS)
    assert patient.gather_ns(60 * NS_PER_S) == 2 * MAX_GATHER_NS
    assert patient.flush_ns(60 * NS_PER_S) == 2 * MAX_FLUSH_NS


def test_who_wants_no_pause_gets_none() -> None:
    assert Pacing(0, FLUSH_NS).gather_ns(60 * NS_PER_S) == 0
