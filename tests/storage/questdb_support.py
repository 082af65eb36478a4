"""Questions to a QuestDB server that do not go through the store, and rows for it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np

from market.rows import Candle
from market.ticks import TICK, Ticks
from storage.embedded_questdb import EmbeddedQuestDB
from tests.support import eventually

MINUTE_NS = 60_000_000_000
DAY_NS = 1_440 * MINUTE_NS
EIGHTH = 1_723_075_200_000_000_000  # 2024-08-08


def ask(server: EmbeddedQuestDB, sql: str) -> list[Any]:
    with urlopen(f"{server.console}/exec?{urlencode({'query': sql})}", timeout=10) as answer:  # noqa: S310
        return list(json.load(answer)["dataset"])


async def settled(server: EmbeddedQuestDB) -> None:
    """Wait until SQL sees all that was acknowledged."""
    await eventually(lambda: not ask(server, "SELECT name FROM wal_tables() WHERE writerTxn < sequencerTxn"))


def ticks(*rows: tuple[int, int], side: int = 1) -> Ticks:
    return np.array([(i, ts_ns, 100.5 + i, 0.25, ts_ns, side) for i, ts_ns in rows], TICK)


def flat(ts_ns: int, price: float) -> Candle:
    return Candle(ts_ns, price, price, price, price, 0.0, 0.0, 0.0, price, 0, True, 0)


def ask_ddl(server: EmbeddedQuestDB, sql: str) -> None:
    with urlopen(f"{server.console}/exec?{urlencode({'query': sql})}", timeout=10) as answer:  # noqa: S310
        assert json.load(answer) == {"ddl": "OK"}
