"""This module finds ports for servers that tests start, stop, and start again."""

import contextlib
import random
import socket
from typing import Final

# Below the range from which systems take ports for outgoing connections, so that nobody takes ours between two starts.
_PORTS: Final = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of 127.0.0.1 that stays free while nothing listens on it."""
    dice = random.SystemRandom()
    while True:
        port = dice.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
