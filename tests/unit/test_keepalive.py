"""A silent peer is asked after the time that was given, a few times, and then the connection ends."""

import socket

import pytest

from broker.keepalive import keep_alive


@pytest.mark.parametrize(("seconds", "idle", "between"), [(60.0, 60, 20), (0.2, 1, 1), (4.9, 4, 1)])
def test_silence_is_followed_by_three_questions(seconds: float, idle: int, between: int) -> None:
    with socket.socket() as handle:
        keep_alive(handle, seconds)
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        asked = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        known = {name: getattr(socket, name) for name in asked if hasattr(socket, name)}
        told = {name: handle.getsockopt(socket.IPPROTO_TCP, option) for name, option in known.items()}
    expected = {"TCP_KEEPIDLE": idle, "TCP_KEEPINTVL": between, "TCP_KEEPCNT": 3}
    assert told == {name: expected[name] for name in known}
