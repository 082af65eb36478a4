"""A configuration file written in the current folder, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config import load
from daemon.settings import Settings
from market.errors import UsageError

PAIR = '[[pairs]]\nexchange = "binance"\nmarket = "spot"\nsymbols = ["BTCUSDT"]\n'
OTHER = PAIR.replace("BTCUSDT", "ETHUSDT")


def given_file(text: str, env: dict[str, str] | None = None) -> Settings:
    Path("config.toml").write_text(text, encoding="utf-8")
    return load(None, env or {})


def refusal(text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        given_file(text, env)
    return str(caught.value)
