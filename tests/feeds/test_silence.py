"""Silence: when it is a fault, when the market's, and when it is asked about."""

from __future__ import annotations

from itertools import pairwise

import pytest

from feeds.silence import CHECK_MAX_NS, VERDICT_NS, Silence
from market.inputs import FeedRecovered, FeedStale
from market.times import NS_PER_S

AFTER_NS = 30 * NS_PER_S
T = 1_000 * NS_PER_S
WHY = "connected, but nothing comes"


@pytest.fixture
def silence() -> Silence:
    """Have heard something at T."""
    silence = Silence(30.0, stale=False)
    assert silence.heard(T) == []
    silence.traded(T)
    return silence


def tick(silence: Silence, now_ns: int, *, checking: bool = False, missed: bool = False) -> list[object]:
    return list(silence.tick(now_ns, "not connected", checking=checking, missed=missed))


def test_it_is_asked_about_once_it_is_long_enough(silence: Silence) -> None:
    assert not silence.wonders(T + AFTER_NS - 1)
    assert silence.wonders(T + AFTER_NS)
    silence.heard(T + AFTER_NS)
    assert not silence.wonders(T + AFTER_NS)


def test_it_counts_from_the_first_look_at_the_clock() -> None:
    silence = Silence(30.0, stale=False)
    assert not silence.wonders(T)
    assert silence.wonders(T + AFTER_NS)


def test_a_halted_market_is_no_fault_and_asked_about_ever_less_often(silence: Silence) -> None:
    now_ns = T + AFTER_NS
    silence.halts(now_ns)
    assert (silence.halted, silence.stale) == (True, False)
    assert not silence.wonders(now_ns + 2 * AFTER_NS - 1)
    now_ns += 2 * AFTER_NS
    assert silence.wonders(now_ns)
    for _ in range(10):
        silence.halts(now_ns)
        now_ns += CHECK_MAX_NS
    assert silence.wonders(now_ns)
    assert tick(silence, now_ns) == []
    silence.heard(now_ns)
    assert (silence.halted, silence.stale) == (False, False)
    assert silence.wonders(now_ns + AFTER_NS)


def test_a_market_without_trades_is_no_fault(silence: Silence) -> None:
    now_ns = T + AFTER_NS
    silence.suspects(now_ns, WHY)
    assert not silence.wonders(now_ns)
    assert tick(silence, now_ns + 1, checking=True) == []
    assert tick(silence, now_ns + 2) == []
    assert not silence.stale
    assert not silence.wonders(now_ns + 2 * AFTER_NS)
    assert silence.wonders(now_ns + 2 + 2 * AFTER_NS)


def test_a_market_with_trades_that_do_not_come_is_a_fault(silence: Silence) -> None:
    now_ns = T + AFTER_NS
    silence.suspects(now_ns, WHY)
    assert tick(silence, now_ns + NS_PER_S, missed=True) == [FeedStale(now_ns + NS_PER_S, 31.0, WHY)]
    assert silence.stale
    assert not silence.wonders(now_ns + NS_PER_S)
    assert tick(silence, now_ns + CHECK_MAX_NS, missed=True) == []
    assert silence.heard(now_ns + CHECK_MAX_NS) == [FeedRecovered(now_ns + CHECK_MAX_NS)]


@pytest.mark.parametrize("suspected", [True, False])
def test_without_an_answer_it_is_a_fault(silence: Silence, *, suspected: bool) -> None:
    if suspected:
        silence.suspects(T + AFTER_NS, WHY)
    assert tick(silence, T + AFTER_NS + VERDICT_NS - 1, checking=True) == []
    (stale,) = tick(silence, T + AFTER_NS + VERDICT_NS, checking=True)
    assert stale == FeedStale(T + AFTER_NS + VERDICT_NS, 40.0, WHY if suspected else "not connected")


def test_an_answer_that_comes_after_something_did_is_none(silence: Silence) -> None:
    silence.heard(T + AFTER_NS - 1)
    silence.halts(T + AFTER_NS)
    assert not silence.halted
    silence.suspects(T + AFTER_NS, WHY)
    assert tick(silence, T + AFTER_NS, missed=True) == []
    assert silence.fails(T + AFTER_NS, WHY) == []
    assert not silence.stale


def test_a_feed_that_was_stale_before_a_restart_recovers() -> None:
    silence = Silence(30.0, stale=True)
    assert not silence.wonders(T + CHECK_MAX_NS)
    assert silence.heard(T) == [FeedRecovered(T)]


def test_trades_that_do_not_come_are_asked_for_ever_less_often(silence: Silence) -> None:
    now_ns, asked = T, list[int]()
    while now_ns < T + 7_200 * NS_PER_S:
        now_ns += NS_PER_S
        if silence.checks(now_ns):
            asked.append((now_ns - T) // NS_PER_S)
    assert asked[:4] == [30, 90, 210, 450]
    assert {b - a for a, b in pairwise(asked[5:])} == {600}
    silence.deaf()
    assert silence.checks(asked[-1] * NS_PER_S + T + AFTER_NS)
    silence.traded(now_ns)
    assert not silence.checks(now_ns + AFTER_NS - 1)
    assert silence.checks(now_ns + AFTER_NS)
