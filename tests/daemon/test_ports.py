from __future__ import annotations

import socket

import pytest

from daemon.ports import Claim


def test_a_claimed_port_is_nobody_elses_though_nothing_listens_yet() -> None:
    first = Claim(0)
    second = Claim.of(first.port)
    assert first.port != second.port
    with socket.socket(socket.AF_UNIX) as stranger, pytest.raises(ConnectionRefusedError):
        stranger.connect(f"\0marketd-port-{first.port}")
    first.release()
    third = Claim.of(first.port)
    assert third.port == first.port
    second.release()
    third.release()


def test_a_port_that_somebody_listens_on_is_left_to_him() -> None:
    with socket.create_server(("127.0.0.1", 0)) as his:
        claim = Claim.of(his.getsockname()[1])
        assert claim.port != his.getsockname()[1]
        claim.release()
