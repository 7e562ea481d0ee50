"""This module lets TCP find out whether a silent peer still lives (RFC 9293, 3.8.4)."""

import socket
from typing import Any, Final

_PROBES: Final = 3  # unanswered ones that end a connection


def keep_alive(handle: Any, seconds: float) -> None:
    """Let TCP ask after ``seconds`` of silence on a socket; the options' names differ by system, and some have none."""
    idle = int(max(seconds, 1))
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", max(idle // _PROBES, 1)), ("TCP_KEEPCNT", _PROBES))
    for name, value in options:
        if hasattr(socket, name):
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
