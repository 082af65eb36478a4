"""`marketd demo` as a newcomer meets it: in a terminal, in a pipe, ended by itself and by Ctrl-C."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.daemon.support import MARKETD, STOP_S, environment, left
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)  # a busy machine starts a daemon in a minute

LAST = re.compile(
    r"kept ([\d,]+) trades of 2 pairs in data/demo until the next demo; ask:\r?\n"
    r"  \S*marketd query --config data/demo/config.toml binance:spot:BTCUSDT 'FROM candles_1m'\r?\n\Z"
)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(MARKETD), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=100
    )


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.said = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            [str(MARKETD), *arguments],
            cwd=folder,
            env=environment() | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - Ctrl-C goes to its group
        )
        os.close(slave)
        os.set_blocking(self._master, False)

    def read(self) -> str:
        """Give all that was said so far."""
        with suppress(OSError):  # nothing new, or nobody there any more
            while chunk := os.read(self._master, 65_536):
                self.said += chunk.decode()
        return self.said

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    made = Terminal(folder, *arguments)
    try:
        yield made
    finally:
        made.close()


def kept(folder: Path, pair: str) -> int:
    config, sql = "data/demo/config.toml", "SELECT count(*) FROM ticks"
    asked = run(folder, "query", pair, sql, "--config", config, "--format", "csv")
    return int(asked.stdout.splitlines()[1])


async def test_in_a_pipe_it_writes_lines_and_ends_in_time(tmp_path: Path) -> None:
    ended = await asyncio.to_thread(run, tmp_path, "demo", "--seconds", "4", "--pairs", "2")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["binance:spot:BTCUSDT", "binance:spot:ETHUSDT"]
    assert "note=streaming" in [line for line in lines if line.startswith("binance:spot:")][-1]
    said = LAST.search(ended.stdout)
    assert said
    assert left(tmp_path) == []
    stored = sum(kept(tmp_path, f"binance:spot:{symbol}") for symbol in ("BTCUSDT", "ETHUSDT"))
    assert stored == int(said[1].replace(",", "")) > 0


async def test_in_a_terminal_it_shows_a_table_until_ctrl_c(tmp_path: Path) -> None:
    earlier = tmp_path / "data/demo/binance/spot/OLDUSDT"
    earlier.mkdir(parents=True)
    (tmp_path / "data/demo/.marketd-demo").touch()
    with terminal(tmp_path, "demo", "--pairs", "2") as shown:
        await eventually(lambda: shown.read().count("streaming") >= 6, STOP_S)
        assert shown.read().index("BTCUSDT") < shown.read().index("ETHUSDT")
        shown.press(b"\x03")
        assert await asyncio.to_thread(shown.process.wait, STOP_S) == 0
        assert LAST.search(shown.read())
        assert "Traceback" not in shown.said
    assert left(tmp_path) == []
    assert not earlier.exists()


def test_it_never_clears_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "data/demo/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    ended = run(tmp_path, "demo", "--seconds", "1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"marketd: {mine.parent}: is not empty and not of an earlier demo\n"
    assert mine.read_text() == "precious"
