"""Logs are named facts with values: one JSON line each under systemd, coloured text on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from market.errors import UsageError


def configure(level: str, style: Literal["auto", "json", "console"]) -> None:
    """Write this process's facts, and its libraries' warnings, to stderr; call it in each process."""
    as_json = style == "json" or (style == "auto" and "JOURNAL_STREAM" in os.environ)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _no_trace_of_usage,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, *_rendering(as_json)],
        ),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("marketd").setLevel(level.upper())
    structlog.configure(
        processors=[*shared, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: logging.getLogger("marketd"),
        cache_logger_on_first_use=True,
    )


def _rendering(as_json: bool) -> list[Processor]:  # noqa: FBT001  the one switch there is
    if as_json:
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(lambda fact, **_: orjson.dumps(fact, default=str).decode()),
        ]
    plain = structlog.dev.plain_traceback  # the pretty one shows local variables, secrets among them
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _no_trace_of_usage(_logger: WrappedLogger, _method: str, fact: EventDict) -> EventDict:
    """Tell a user's mistake by its message alone."""
    error = fact.get("exc_info")
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, UsageError):
        del fact["exc_info"]
        fact["error"] = str(error)
    return fact
