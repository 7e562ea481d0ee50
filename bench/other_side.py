"""This module is the other side of a benchmark: an HTTP server that answers FHIR searches and creates, or hangs.

    python -m bench.other_side PORT [hang]

It runs in a process of its own, prints a line when it listens, and on SIGTERM one JSON document: ``creates``, the
``seconds`` between the first and the last, and ``most_in_a_second``.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from typing import Any

import uvloop

FOUND = b'{"resourceType":"Bundle","type":"searchset","total":0}'
SEARCHED = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(FOUND),
    FOUND,
)
CREATED = b"HTTP/1.1 201 Created\r\nLocation: Communication/1/_history/1\r\nContent-Length: 0\r\n\r\n"

times: list[float] = []


class Connection(asyncio.Protocol):
    """Reads requests one after the other; each is answered by its method alone."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport (of uvloop, which is none of asyncio's classes)."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            _, has, after = head.partition(b"content-length:")
            size = int(after.split(b"\r\n", 1)[0]) if has else 0
            if len(self._rest) < end + 4 + size:
                return
            self._rest = self._rest[end + 4 + size :]
            if self._hangs:
                continue
            if head.startswith(b"post"):
                times.append(time.monotonic())
                self._transport.write(CREATED)
            else:
                self._transport.write(SEARCHED)


def most_in(seconds: float) -> int:
    """Return the most creates that came in any stretch of so many seconds."""
    most = first = 0
    for place, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, place - first + 1)
    return most


async def serve(port: int, *, hangs: bool) -> None:
    """Serve until SIGTERM."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(lambda: Connection(hangs=hangs), "127.0.0.1", port, reuse_address=True)
    print("listens", flush=True)
    await ended.wait()
    server.close()
    took = times[-1] - times[0] if len(times) > 1 else 0.0
    print(json.dumps({"creates": len(times), "seconds": round(took, 2), "most_in_a_second": most_in(1.0)}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), hangs="hang" in sys.argv[2:]))
