from __future__ import annotations

import json
import os
import subprocess
import sys

CODE = """
import logging, sys, structlog
from daemon import logs
from market.errors import UsageError
logs.configure(sys.argv[1], sys.argv[2])
log = structlog.get_logger()
log.warning("feed_stale", pair="binance:spot:BTCUSDT", silent_s=31.2)
log.debug("detail")
logging.getLogger("library").warning("mind %s", "this")
logging.getLogger("library").info("chatter")
for error in (UsageError("bad key"), ValueError("a bug")):
    secret = "hidden"
    try:
        raise error
    except Exception:
        log.exception("failed")
"""


def logged(level: str, style: str, **environment: str) -> list[str]:
    env = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    command = [sys.executable, "-c", CODE, level, style]
    ended = subprocess.run(command, env=env | environment, capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_json_lines_hold_the_facts() -> None:
    stale, library, usage, bug = (json.loads(line) for line in logged("info", "json"))
    assert (stale["event"], stale["level"], stale["pair"], stale["silent_s"]) == (
        "feed_stale",
        "warning",
        "binance:spot:BTCUSDT",
        31.2,
    )
    assert stale["timestamp"].endswith("Z")
    assert (library["event"], library["logger"]) == ("mind this", "library")
    assert usage["error"] == "bad key"
    assert "exception" not in usage
    assert "ValueError: a bug" in bug["exception"]


def test_auto_is_json_under_systemd_and_text_elsewhere() -> None:
    assert json.loads(logged("info", "auto", JOURNAL_STREAM="8:1")[0])["event"] == "feed_stale"
    text = logged("info", "auto")
    assert "feed_stale" in text[0]
    assert "silent_s=31.2" in text[0]


def test_text_tells_a_users_mistake_without_traceback_and_no_local_variables() -> None:
    text = "\n".join(logged("info", "console"))
    assert text.count("Traceback") == 1
    assert "error='bad key'" in text
    assert "hidden" not in text.replace('secret = "hidden"', "")


def test_the_level_decides() -> None:
    assert [json.loads(line)["event"] for line in logged("debug", "json")][1] == "detail"
    assert [json.loads(line)["event"] for line in logged("error", "json")] == [
        "mind this",
        "failed",
        "failed",
    ]
