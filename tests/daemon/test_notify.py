from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.notify import READY_AT_MOST_S, Judge, Notify, manager
from market.errors import UsageError

BTC, ETH = "binance:spot:BTCUSDT", "binance:spot:ETHUSDT"


def pair(records: int = 1, state: str = "streaming", **facts: Any) -> dict[str, Any]:
    """What a pair says of itself, as far as the manager's facts are made of it; each call is an answer."""
    sinks = {"redis": {"connected": True, "acked": 0, "lag": 0}}
    return {"state": state, "journal_records": records, "ticks": records, "error": "", "sinks": sinks} | facts


@pytest.fixture(params=["path", "abstract"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A manager's socket, and its name as the manager writes it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@marketd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(name.replace("@", "\0"))
        made.settimeout(5)
        yield name, made


def test_facts_arrive_together_each_on_one_line(door: tuple[str, socket.socket]) -> None:
    name, manager_socket = door
    Notify(name).tell(STATUS="two\nlines  of it", READY="1")
    assert manager_socket.recv(4096) == b"STATUS=two lines of it\nREADY=1"


def test_a_manager_that_is_gone_or_hangs_is_no_reason_to_fail(tmp_path: Path) -> None:
    Notify(str(tmp_path / "nobody")).tell(STATUS="x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hanging:
        hanging.bind(str(tmp_path / "hangs"))
        told = Notify(str(tmp_path / "hangs"))
        for _ in range(1_000):  # far more than its queue holds
            told.tell(STATUS="x" * 100)
        hanging.setblocking(False)
        assert hanging.recv(4096) == b"STATUS=" + b"x" * 100


@pytest.mark.parametrize(
    ("env", "watchdog_s"),
    [
        ({"NOTIFY_SOCKET": "/run/n"}, 0.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1500000"}, 1.5),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 1.5),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "8"}, 0.0),  # another's dog
    ],
)
def test_what_the_manager_asks_for(env: dict[str, str], watchdog_s: float) -> None:
    told = Notify.of(env, 7)
    assert told is not None
    assert told.watchdog_s == watchdog_s


def test_without_a_manager_there_is_none() -> None:
    assert Notify.of({}, 7) is None
    assert Notify.of({"NOTIFY_SOCKET": ""}, 7) is None
    with pytest.raises(UsageError, match=r"^NOTIFY_SOCKET 'vsock:2:1': expected /path or @name$"):
        Notify.of({"NOTIFY_SOCKET": "vsock:2:1"}, 7)


def test_children_do_not_learn_of_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/n")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    told = manager()
    assert told is not None
    assert told.watchdog_s == 1.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    assert manager() is None


def test_ready_comes_when_every_pair_streams_and_then_stays() -> None:
    judge = Judge(patience_s=60)
    assert "READY" not in judge.look({BTC: {}, ETH: {}}, 0)
    assert "READY" not in judge.look({BTC: pair(), ETH: pair(state="catching up")}, 1)
    assert judge.look({BTC: pair(2), ETH: pair(2)}, 2)["READY"] == "1"
    assert judge.look({BTC: pair(3), ETH: pair(3, state="connecting")}, 3)["READY"] == "1"


def test_a_symbol_that_no_venue_lists_keeps_nobody_waiting() -> None:
    facts = Judge(patience_s=60).look({BTC: pair(), ETH: pair(state="unlisted")}, 0)
    assert facts["READY"] == "1"
    assert f"not well: {ETH} (unlisted)" in facts["STATUS"]


def test_a_venue_that_is_down_delays_ready_by_a_minute_and_no_more() -> None:
    judge = Judge(patience_s=600)
    statuses = {BTC: pair(), ETH: pair(state="connecting")}
    for now_s in (0.0, READY_AT_MOST_S):
        assert "READY" not in judge.look(statuses, now_s)
    facts = judge.look(statuses, READY_AT_MOST_S + 1)
    assert facts["READY"] == "1"
    assert "1 streaming" in facts["STATUS"]
    assert f"not well: {ETH} (connecting)" in facts["STATUS"]


def fed(statuses: list[dict[str, Any]], patience_s: float = 10.0) -> list[bool]:
    """Look every 4 s at a pair, and say when the watchdog was fed."""
    judge = Judge(patience_s)
    return ["WATCHDOG" in judge.look({BTC: one}, 4.0 * n) for n, one in enumerate(statuses)]


def test_fed_while_the_journal_is_written() -> None:
    assert all(fed([pair(n) for n in range(10)]))


def test_not_fed_when_a_pair_that_should_write_does_not_until_it_does() -> None:
    written = [*range(1, 4), *[3] * 5, 4]
    assert fed([pair(n) for n in written]) == [True] * 5 + [False] * 3 + [True]


@pytest.mark.parametrize("state", ["connecting", "catching up"])
def test_a_pair_that_waits_for_its_venue_owes_a_record_too(state: str) -> None:
    assert fed([pair(7, state=state) for _ in range(6)]) == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    "quiet",
    [
        {"state": "stale"},
        {"state": "unlisted"},
        {"blocked": "no space left on device"},
    ],
)
def test_quiet_with_a_reason_is_alive(quiet: dict[str, Any]) -> None:
    assert all(fed([pair(7, **quiet) for _ in range(20)]))


def test_recovering_and_failed_pairs_say_so_and_are_alive() -> None:
    recovering, failed = (
        {"state": "recovering", "error": ""},
        {"state": "failed", "error": "the file is gone"},
    )
    assert all(fed([dict(recovering) for _ in range(20)]))
    assert all(fed([dict(failed) for _ in range(20)]))
    facts = Judge(10).look({BTC: failed}, 0)
    assert f"{BTC} (failed: the file is gone)" in facts["STATUS"]


def test_a_pair_whose_disk_has_room_again_gets_its_time() -> None:
    full = [pair(7, blocked="no space left on device") for _ in range(10)]
    assert fed([pair(7), *full, pair(7), pair(7), pair(7), pair(7)]) == [True] * 13 + [False] * 2


def test_not_fed_when_a_pair_is_silent_until_it_answers() -> None:
    last = pair(7, state="stale")
    assert fed([last, last, last, last, pair(7, state="stale")]) == [True] * 3 + [False] + [True]
    never: dict[str, Any] = {}
    assert fed([never, never, never, never]) == [True] * 3 + [False]


def test_one_stuck_pair_of_many_is_named() -> None:
    judge = Judge(patience_s=10)
    judge.look({BTC: pair(1), ETH: pair(1)}, 0)
    judge.look({BTC: pair(2), ETH: pair(2)}, 4)
    facts = judge.look({BTC: pair(3), ETH: pair(2)}, 16)
    assert "WATCHDOG" not in facts
    assert f"; stuck: {ETH} (no journal record for 12 s)" in facts["STATUS"]
    assert BTC not in facts["STATUS"]


def test_the_status_says_what_a_person_asks_first() -> None:
    judge = Judge(patience_s=10)
    judge.look({BTC: pair(ticks=0), ETH: pair(ticks=0)}, 100)
    behind = {"redis": {"connected": True, "acked": 1, "lag": 1_234}}
    facts = judge.look(
        {
            BTC: pair(ticks=3_000, latency_ms=(1.0, 2.0)),
            ETH: pair(ticks=996, latency_ms=(0.5, 3.5), sinks=behind),
        },
        102,
    )
    assert facts["STATUS"] == "2 pairs, 2 streaming, 1,998 ticks/s, journal p99 3.5 ms, redis 1,234 behind"


def test_many_pairs_in_trouble_are_counted_not_listed() -> None:
    facts = Judge(patience_s=10).look({f"a:b:C{n}": {} for n in range(9)}, 0)
    assert facts["STATUS"].count("(starting)") == 3
    assert facts["STATUS"].endswith("and 6 more")
