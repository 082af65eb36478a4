"""What is told of an actor that has answered, or has not for a while."""

from __future__ import annotations

import time
from typing import Any

import pytest

from daemon.watched import UNANSWERED_S, Watched

PAIR = {"pid": 7, "state": "streaming", "error": "", "ticks": 12}
SUPERVISOR = {"pid": 8, "error": "", "lanes": 2}


def watched(status: dict[str, Any], silent_s: float) -> Watched:
    return Watched("pair:x", None, status, time.monotonic() - silent_s, restarts=3)


@pytest.mark.parametrize("status", [PAIR, SUPERVISOR])
def test_what_it_said_is_told_while_it_answers(status: dict[str, Any]) -> None:
    assert watched(status, UNANSWERED_S - 5).report == status | {"restarts": 3}


def test_a_pair_that_does_not_answer_is_silent_whatever_it_said_last() -> None:
    told = watched(PAIR, 65).report
    assert told == PAIR | {"restarts": 3, "state": "silent", "error": "no answer for 65 s"}


def test_a_supervisor_that_does_not_answer_has_no_state_but_an_error() -> None:
    assert watched(SUPERVISOR, 65).report == SUPERVISOR | {"restarts": 3, "error": "no answer for 65 s"}


def test_who_is_asked_seldom_is_not_silent_and_who_owes_an_answer_owes_it_from_the_first_question() -> None:
    assert Watched("pair:x", None, PAIR).report["state"] == "streaming"
    one = watched(PAIR, 65)
    one.asks()
    assert one.report["state"] == "silent"
    one.saw(PAIR)
    one.asks()
    assert one.report == PAIR | {"restarts": 3}


def test_one_that_has_never_answered_is_only_starting() -> None:
    assert watched({}, 65).report == {"restarts": 3}
