"""Threads of a process of its own, because a process without rights cannot go back to where it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, threading
from concurrent.futures.thread import ThreadPoolExecutor
from actors.priority import Place, step_back, take
{first}

def of_all():
    print(*sorted(os.getpriority(os.PRIO_PROCESS, int(one)) for one in os.listdir("/proc/self/task")))

parked = threading.Event()
threading.Thread(target=parked.wait, daemon=True).start()
for place in ({places}):
    take(place)
    of_all()
with ThreadPoolExecutor(1, initializer=step_back) as behind:
    behind.submit(of_all).result()
"""


def told(*places: str, nice: int = 0, first: str = "") -> list[list[int]]:
    """Run the script; give the niceness of all its threads at each step."""
    script = SCRIPT.replace("{places}", "".join(f"Place.{one}, " for one in places)).replace("{first}", first)
    command = ["nice", "-n", str(nice), sys.executable, "-c", script]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    return [[int(one) for one in line.split()] for line in out.stdout.splitlines()]


def test_all_threads_take_a_place_and_one_steps_back() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert told("USUAL") == [[usual] * 2, [usual, usual, usual + 10]]
    assert told("LAST")[0] == [usual + 10] * 2


def test_niceness_has_an_end_and_nobody_fails_there() -> None:
    assert told("LAST", nice=19) == [[19, 19], [19, 19, 19]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root goes first")
def test_who_may_goes_first_until_it_takes_its_own_place() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert told("FIRST", "USUAL") == [[usual - 10] * 2, [usual] * 2, [usual, usual, usual + 10]]


def test_who_may_not_stays_where_it_is() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert told("FIRST", first="os.geteuid() or os.setuid(65534)")[0] == [usual] * 2


PUTTING = '''
import os, subprocess, sys
from actors.priority import environment, put_first
late = """
input()
import os
from actors.priority import Place, take
print(os.nice(0))
take(Place.USUAL)
print(os.nice(0))
"""
pipe, env = subprocess.PIPE, os.environ | environment()
with subprocess.Popen([sys.executable, "-c", late], env=env, stdin=pipe, stdout=pipe, text=True) as child:
    put_first(child.pid)
    print(child.communicate("\\n")[0])
'''


@pytest.mark.skipif(os.geteuid() != 0, reason="only root goes first")
def test_who_is_put_first_finds_its_own_place() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    out = subprocess.run(
        [sys.executable, "-c", PUTTING], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert out.stdout.split() == [str(usual - 10), str(usual)]
