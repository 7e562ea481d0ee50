"""This module cuts a byte stream into messages by the framings of devices and laboratories; it does no I/O.

Four are known: between a start and an end (``STX … ETX``), behind a length, in lines, and of one size. A `Cutter` takes
bytes as they come, in whatever chunks, and gives whole messages; what is no message is told apart from what is one.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

_HEAD: Final = 65_536  # bytes kept of what is refused
_SKIPPED: Final = b"\r\n\0\t "  # between messages these are nobody's mistake


@dataclass(frozen=True, slots=True)
class Whole:
    """One message."""

    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stray:
    """Bytes that are no message, and why; with ``ends`` nothing after them can be trusted, so the stream is over."""

    reason: str
    data: bytes = field(repr=False)
    ends: bool = False


Piece = Whole | Stray


class Cutter(Protocol):
    """Cuts one connection's bytes."""

    @property
    def pending(self) -> int:
        """Bytes held of a message that has begun and not ended."""

    def feed(self, data: bytes) -> list[Piece]:
        """Take what was read; return what it completes, in order."""

    def close(self) -> Stray | None:
        """Take the end of the stream; return what it left unfinished."""


class _Held:
    """Holds what came of a message that has not ended, and refuses what grows over the limit."""

    __slots__ = ("_held", "_limit", "_over")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._over = False

    @property
    def pending(self) -> int:
        return len(self._held)

    def close(self) -> Stray | None:
        held, self._held = bytes(self._held[:_HEAD]), bytearray()
        return Stray("the connection ended inside a message", held) if held and not self._over else None

    def _refuse(self, reason: str, data: bytes | bytearray) -> Stray:
        self._over = True
        self._held = bytearray()
        return Stray(reason, bytes(data[:_HEAD]), ends=True)

    def _too_large(self, data: bytes | bytearray) -> Stray:
        return self._refuse(f"the message is larger than {self._limit} bytes (max_message)", data)


class Delimited(_Held):
    """Messages that end with some bytes and may begin with some: ``start`` "" takes everything for messages.

    Bytes before a start are stray. A start inside a message begins a new one, so that a peer that restarted does not
    join two messages; what came before it is stray. ``trim`` is taken off the end: the CR of a line.
    """

    __slots__ = ("_end", "_searched", "_start", "_trim")

    def __init__(self, start: bytes, end: bytes, limit: int, trim: bytes = b"") -> None:
        super().__init__(limit)
        self._trim = trim
        self._start = start
        self._end = end
        self._searched = 0  # bytes of what is held that were searched for the end

    def feed(self, data: bytes) -> list[Piece]:
        """Take what was read; return what it completes, in order."""
        pieces: list[Piece] = []
        self._held += data
        while not self._over:
            place = self._held.find(self._end, self._searched)
            if place < 0:
                self._searched = max(len(self._held) - len(self._end) + 1, 0)
                if len(self._held) > self._limit + len(self._start) + len(self._end):
                    pieces.append(self._too_large(self._held))
                break
            self._take(bytes(self._held[:place]), pieces)
            del self._held[: place + len(self._end)]
            self._searched = 0
        return pieces

    def _take(self, body: bytes, pieces: list[Piece]) -> None:
        if self._start:
            before, start, body = body.rpartition(self._start)
            if not start:
                before, body = body, b""
            if before.strip(_SKIPPED + self._start):
                text = "bytes outside a message" if not start else "what came before a message began"
                pieces.append(Stray(text, before[:_HEAD]))
        if self._trim:
            body = body.rstrip(self._trim)
        if len(body) > self._limit:
            pieces.append(self._too_large(body))
        elif body.strip(_SKIPPED):
            pieces.append(Whole(body))


class Counted(_Held):
    """Messages behind their length: an unsigned number of 1, 2, 4 or 8 bytes.

    ``inclusive`` says that the number counts its own bytes too.
    """

    __slots__ = ("_inclusive", "_order", "_size")

    def __init__(self, size: int, order: Literal["big", "little"], limit: int, *, inclusive: bool = False) -> None:
        super().__init__(limit)
        self._size = size
        self._order: Literal["big", "little"] = order
        self._inclusive = inclusive

    def feed(self, data: bytes) -> list[Piece]:
        """Take what was read; return what it completes, in order."""
        pieces: list[Piece] = []
        self._held += data
        begin = 0
        while not self._over and len(self._held) - begin >= self._size:
            length = int.from_bytes(self._held[begin : begin + self._size], self._order)
            length -= self._size if self._inclusive else 0
            end = begin + self._size + length
            if length < 0 or length > self._limit:
                reason = f"a length of {length} bytes came, which no message has (max_message is {self._limit})"
                pieces.append(self._refuse(reason, self._held[begin:]))
            elif end > len(self._held):
                break
            elif length:
                pieces.append(Whole(bytes(self._held[begin + self._size : end])))
            begin = end
        del self._held[:begin]
        return pieces


class Sized(_Held):
    """Messages of one size."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._size = size

    def feed(self, data: bytes) -> list[Piece]:
        """Take what was read; return what it completes, in order."""
        self._held += data
        whole = len(self._held) // self._size * self._size
        with memoryview(self._held) as view:
            pieces: list[Piece] = [
                Whole(bytes(view[begin : begin + self._size])) for begin in range(0, whole, self._size)
            ]
        del self._held[:whole]
        return pieces
