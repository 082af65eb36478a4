"""A line to a venue: which of its sockets is granted, hopeless, or due for a successor."""

from __future__ import annotations

import pytest

from feeds.lines import ACK_TIMEOUT_NS, RENEW_AT, LineState
from market.times import NS_PER_S

STALE_NS = 30 * NS_PER_S


@pytest.fixture
def line() -> LineState:
    """Want two acknowledgements, and renewal after an hour."""
    return LineState(2, 30.0, 3_600.0)


def test_a_socket_is_granted_by_its_own_acknowledgements(line: LineState) -> None:
    assert (line.opened(1), line.opened(2)) == (1, 2)
    assert not line.acknowledged(1, 1)
    assert not line.acknowledged(2, 1)
    assert line.acknowledged(1, 1)
    assert not line.acknowledged(1, 1)  # only once
    assert line.granted(1)
    assert not line.granted(2)
    assert line.subscribed


def test_a_lost_socket_is_none(line: LineState) -> None:
    line.opened(1)
    line.acknowledged(1, 2)
    line.lost(1)
    line.lost(1)
    assert not line.subscribed
    assert not line.acknowledged(1, 2)
    assert not line.hopeless(1, 10**18)
    line.heard(1, 5, fed=True)
    assert not line.fed(1)
    assert line.epochs == ()


def test_a_socket_that_is_not_granted_in_time_is_hopeless(line: LineState) -> None:
    line.opened(5)
    line.heard(1, ACK_TIMEOUT_NS)
    assert not line.hopeless(1, 5 + ACK_TIMEOUT_NS)
    assert line.hopeless(1, 6 + ACK_TIMEOUT_NS)


def test_a_granted_socket_is_hopeless_when_silent_for_too_long(line: LineState) -> None:
    line.opened(0)
    line.acknowledged(1, 2)
    line.heard(1, NS_PER_S)
    assert not line.hopeless(1, NS_PER_S + STALE_NS)
    assert line.hopeless(1, 1 + NS_PER_S + STALE_NS)
    line.heard(1, STALE_NS)
    assert not line.hopeless(1, 1 + NS_PER_S + STALE_NS)
    assert not line.fed(1)
    line.heard(1, STALE_NS, fed=True)
    line.heard(1, STALE_NS)
    assert line.fed(1)


def test_the_newest_socket_is_due_before_the_venue_ends_it(line: LineState) -> None:
    assert not line.due(10**18)
    line.opened(0)
    due_ns = int(3_600 * RENEW_AT * NS_PER_S)
    assert not line.due(due_ns)
    assert line.due(due_ns + 1)
    line.opened(due_ns)
    assert not line.due(due_ns + 1)  # its successor is there
    line.lost(2)
    assert line.due(due_ns + 1)


def test_a_notice_makes_all_sockets_up_to_then_due(line: LineState) -> None:
    line.opened(0)
    line.closing(1)
    assert line.due(1)
    line.opened(1)
    line.closing(1)  # again, by the old one
    assert not line.due(2)


def test_a_venue_that_names_no_end_has_none() -> None:
    line = LineState(1, 30.0)
    line.opened(0)
    assert not line.due(10**18)
