"""Ports for servers that bind them seconds after they were chosen, and not after another daemon's server."""

from __future__ import annotations

import socket
from typing import Self


class Claim:
    """A port on loopback that was free, and is no other daemon's until `release` or this process's end.

    The claim is a name in the kernel's abstract namespace, which reaches as far as the ports do. It does not
    listen: nobody can connect to it.
    """

    def __init__(self, wanted: int) -> None:
        """Claim `wanted`, of which 0 is any; raise OSError where somebody has it."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with socket.create_server(("127.0.0.1", wanted)) as free:
                self.port: int = free.getsockname()[1]
                self._socket.bind(f"\0marketd-port-{self.port}")
        except OSError:
            self._socket.close()
            raise

    @classmethod
    def of(cls, wanted: int) -> Self:
        """Claim `wanted`, or another where somebody has it: a second daemon is welcome."""
        try:
            return cls(wanted)
        except OSError:
            return cls(0)

    def release(self) -> None:
        self._socket.close()
