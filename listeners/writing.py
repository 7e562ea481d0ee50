"""This module writes to a peer at once, where Twisted would write in the loop's next turn.

Twisted asks the system to be told when it may write, though it nearly always may: a third of all the work that a
message makes here, and more under TLS.
"""

from typing import Any

from twisted.internet.tcp import Connection


def write_now(transport: Any, data: bytes) -> None:
    """Write as much as the system takes where nothing waits to be written; the rest is written in the usual way."""
    if isinstance(transport, Connection) and transport.connected and not _waits(transport):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int):  # else the connection is lost, and `write` finds that out in the usual way
            data = data[sent:]
    if data:
        transport.write(data)


def _waits(transport: Connection) -> bool:
    return bool(transport.dataBuffer or transport._tempDataBuffer)  # noqa: SLF001 - there is no other way to know
