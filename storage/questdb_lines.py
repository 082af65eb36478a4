"""Rows to QuestDB by its client: acknowledged, or refused one by one with the server's reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from market.errors import Fatal, Retryable
from storage.questdb_sql import shown
from storage.questdb_url import Address

if TYPE_CHECKING:
    import pandas as pd
    import questdb


class Refusal(NamedTuple):
    row: int  # counted in its frame
    reason: str


class Lines:
    """Sends frames, each row once or, after a failure in between, again: tables drop duplicates by key."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address, self._timeout_ms = address, max(int(timeout_s * 1_000), 1)
        self._sender: questdb.Sender | None = None

    def send(self, table: str, frame: pd.DataFrame, suspect: Callable[[], None]) -> list[Refusal]:
        """Write all rows but those that the server refuses, which are returned.

        One bad row refuses its whole request, so what follows it goes out in requests of 1, 2, 4 ... rows
        until another one is found. `suspect` is called at the first, to raise if it is the table that is
        wrong; if not, it may be the connection, on which the server remembers a table that is there no more:
        the rows are sent again on another one. Raises Retryable; what was sent before it may be stored.
        """
        refusals: list[Refusal] = []
        start, step, suspected = 0, len(frame), False
        while start < len(frame):
            refused = self._send(table, frame.iloc[start : start + step])
            if refused is None:
                start, step = start + step, step * 2
                continue
            if not suspected:
                self.close()
                suspect()
                suspected = True
                continue
            if refused.row == 0:
                refusals.append(Refusal(start, refused.reason))
                start, step = start + 1, 1
            else:
                step = refused.row  # the rows before it are good: these first
        return refusals

    def close(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close(flush=False)

    def _send(self, table: str, frame: pd.DataFrame) -> Refusal | None:
        import questdb  # noqa: PLC0415 - the client is for the one process that writes to QuestDB

        try:
            sender = self._connected()
            sender.dataframe(frame, table_name=table, symbols="auto", at="timestamp")
            sender.flush()
        except questdb.QuestDBError as error:
            if refusal := row_refusal(str(error)):
                return refusal
            self.close()
            raise self._fault(error) from error
        return None

    def _connected(self) -> Any:
        import questdb  # noqa: PLC0415

        if self._sender is None:
            conf = self._address.conf(
                protocol_version="2",  # what OLDEST knows; asking would be one more way to wait
                auto_flush="off",
                request_timeout=str(self._timeout_ms),
                request_min_throughput="0",  # or a large request would wait longer than we said
                retry_timeout="0",  # retrying is the caller's
            )
            self._sender = questdb.Sender.from_conf(conf)
            self._sender.establish()  # type: ignore[no-untyped-call]  # its stub has no types here
        return self._sender

    def _fault(self, error: questdb.QuestDBError) -> Exception:
        import questdb  # noqa: PLC0415

        reason = f"QuestDB at {self._address}: {shown(error)}"
        if error.code == questdb.QuestDBErrorCode.AuthError:
            return Fatal(f"{reason}; the credentials in questdb.url are not accepted")
        if error.code == questdb.QuestDBErrorCode.ConfigError:
            return Fatal(f"questdb.url: {shown(error)}")
        return Retryable(reason)


def row_refusal(text: str) -> Refusal | None:
    """Read from a client's error which line is refused, and why; None if it is no line's own fault.

    A full disk also names a line, with the system's error number.
    """
    found = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        answer = orjson.loads(found[0]) if found else {}
    except orjson.JSONDecodeError:
        return None
    line, message = answer.get("line"), str(answer.get("message", ""))
    if not isinstance(line, int) or line < 1:
        return None
    if answer.get("code") != "invalid" and "errno: -1," not in message:
        return None
    reason = message.removeprefix("failed to parse line protocol:errors encountered on line(s):").strip()
    return Refusal(line - 1, shown(re.sub(r"^error in line \d+: ", "", reason)))
