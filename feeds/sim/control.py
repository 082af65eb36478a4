"""A connection's subscriptions, and the answers to its JSON requests. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@dataclass(slots=True)
class Session:
    """What a connection asked for; `streams` keeps the order of asking."""

    combined: bool
    streams: dict[str, None] = field(default_factory=dict)

    def answer(self, text: str) -> dict[str, Any]:
        """Carry out one request and give its reply, or the venue's error object.

        A stream that does not exist is acknowledged, and stays silent.
        """
        try:
            return self._carry_out(_request(text))
        except _RefusedError as refusal:
            return refusal.reply

    def _carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        methods: dict[str, Callable[[dict[str, Any]], object]] = {
            "SUBSCRIBE": lambda r: self.streams.update(dict.fromkeys(_names(r))),
            "UNSUBSCRIBE": lambda r: [self.streams.pop(name, None) for name in _names(r)] and None,
            "LIST_SUBSCRIPTIONS": lambda _: list(self.streams),
            "SET_PROPERTY": self._set_property,
            "GET_PROPERTY": self._get_property,
        }
        return {"result": methods[request["method"]](request), "id": request["id"]}

    def _set_property(self, request: dict[str, Any]) -> None:
        value = _property(request, 2)[1]
        if not isinstance(value, bool):
            raise _RefusedError(1, "Invalid value type: expected Boolean")
        self.combined = value

    def _get_property(self, request: dict[str, Any]) -> bool:
        _property(request, 1)
        return self.combined


class _RefusedError(Exception):
    def __init__(self, code: int, msg: str, **more: object) -> None:
        super().__init__(msg)
        self.reply: dict[str, Any] = {"code": code, "msg": msg, **more}


def _request(text: str) -> dict[str, Any]:
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise _RefusedError(3, f"Invalid JSON: expected value at {where}") from None
    if not isinstance(request, dict) or "method" not in request:
        raise _RefusedError(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
    if request["method"] not in METHODS:
        expected = ", ".join(f"`{method}`" for method in METHODS)
        raise _RefusedError(
            2,
            f"Invalid request: unknown variant `{request['method']}`, expected one of {expected}"
            f" at line 1 column {len(text)}",
        )
    if not _is_id(request.get("id", ...)):
        raise _RefusedError(2, "Invalid request: request ID must be an unsigned integer")
    if request.keys() - {"method", "params", "id"}:
        raise _RefusedError(2, "Invalid request: too many parameters")
    return request


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return value.isalnum() and len(value) <= 36
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return value is None


def _names(request: dict[str, Any]) -> list[str]:
    names = request.get("params")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _RefusedError(2, "Invalid request: property name must be a string")
    return names


def _property(request: dict[str, Any], count: int) -> list[Any]:
    params = request.get("params")
    if not isinstance(params, list) or len(params) < count or not isinstance(params[0], str):
        raise _RefusedError(2, "Invalid request: property name must be a string")
    if len(params) > count:
        raise _RefusedError(2, "Invalid request: too many parameters")
    if params[0] != "combined":
        raise _RefusedError(0, "Unknown property", id=request["id"])
    return params
