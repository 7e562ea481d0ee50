"""This module is an MLLP partner that answers AA at once and does nothing else: ``python -m bench.partner PORT``."""

import asyncio
import sys
from typing import Any, Final

import uvloop

_END: Final = b"\x1c\r"


class Answering(asyncio.Protocol):
    """Answers each frame under its control id."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        *whole, self._rest = (self._rest + data).split(_END)
        for message in whole:
            control_id = message.split(b"|", 10)[9]
            self._transport.write(b"\x0bMSH|^~\\&|P||H||1||ACK|1|P|2.5\rMSA|AA|" + control_id + b"\r" + _END)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
