"""Called by `ray start` itself, in its own process, before it starts anything (RAY_START_HOOK)."""

from __future__ import annotations

from typing import Any

PATH = "daemon.ray_hook.without_client_server"


def without_client_server(params: Any, _head: bool) -> None:  # noqa: FBT001  Ray calls it so
    """Leave out the server for remote drivers (45 MB and a public port), which no option can."""
    params.ray_client_server_port = None
