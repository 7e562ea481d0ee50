"""This module is one MLLP connection to a partner: it writes a message, and gives what comes back, frame by frame."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from broker.handshake import is_not_let_in
from broker.keepalive import keep_alive
from broker.wire.mllp import Decoder, Empty, Frame, frame
from dispatch.way import via_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.delivery import Via

_ANSWER_CAP: Final = 1024 * 1024  # bytes of an answer that we are willing to read
_STRAYS: Final = 64  # answers that nobody waits for; a partner that sends more is not one that answers
_SETTLED: Final = 64
_LOOK: Final = 0.005  # seconds


class Garbled(Exception):
    """What came is no frame that could be an answer."""


class Ended(Exception):
    """The connection ended; ``let_in`` is false where the partner refused us before it read anything."""

    def __init__(self, *, let_in: bool = True) -> None:
        super().__init__()
        self.let_in = let_in


class Link(asyncio.Protocol):
    """One connection; one message is under way at a time, so whoever holds the link may use it alone."""

    def __init__(self, keepalive: float, on_open: "Callable[[Link], None]") -> None:
        self._keepalive = keepalive
        self._on_open = on_open
        self._decoder = Decoder(_ANSWER_CAP)
        self._items: deque[bytes | Exception] = deque()
        self._awaited: asyncio.Future[None] | None = None
        self._transport: Any = None
        self.via: Via | None = None  # who is at the other end
        self.closed = asyncio.get_running_loop().create_future()
        self.settled: deque[str] = deque(maxlen=_SETTLED)  # control ids of what went before

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it yet, as far as we know."""
        return not self.closed.done() and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and let TCP ask after the partner when nothing is said for long."""
        self._transport = transport
        self.via = via_of(transport)
        handle = transport.get_extra_info("socket")
        if handle is not None and self._keepalive:
            keep_alive(handle, self._keepalive)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        """Cut frames out of what came."""
        for item in self._decoder.feed(data):
            if not isinstance(item, Empty):
                self._items.append(item.payload if isinstance(item, Frame) else Garbled())
        if len(self._items) > _STRAYS:
            self._items.append(Garbled())
            self.abort()
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the connection has ended."""
        self._items.append(Ended(let_in=not is_not_let_in(error)))
        if not self.closed.done():
            self.closed.set_result(None)
        self._tell()

    def _tell(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    async def is_usable(self) -> bool:
        """Whether the connection still stands: what the partner did in between is seen after one turn of the loop."""
        if self.is_open:
            await asyncio.sleep(0)
        if self._decoder.pending:
            self.abort()  # half an answer, to what is settled already: the rest would come in front of the next one
        self._items = deque(item for item in self._items if isinstance(item, Ended))
        return self.is_open

    def write(self, payload: bytes) -> None:
        """Write a message in a frame."""
        self._transport.write(frame(payload))

    async def drain(self) -> None:
        """Return once TCP has taken all that was written; raise `Ended`."""
        while self.is_open and self._transport.get_write_buffer_size():  # noqa: ASYNC110 - transports tell nobody
            await asyncio.sleep(_LOOK)
        if not self.is_open:  # what was in the buffer went with it
            raise Ended

    async def next(self) -> bytes:
        """Return the payload of the next frame; raise `Garbled` or `Ended`."""
        while not self._items:
            self._awaited = asyncio.get_running_loop().create_future()
            try:
                await self._awaited
            finally:
                self._awaited = None
        item = self._items[0]
        if isinstance(item, Ended):
            raise item
        self._items.popleft()
        if isinstance(item, Exception):
            raise item
        return item

    def abort(self) -> None:
        """Close at once; what is on its way is lost."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close in order, so that the partner gets all that was written."""
        if self._transport is not None:
            self._transport.close()
