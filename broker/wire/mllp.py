r"""This module cuts a byte stream into MLLP frames and puts payloads into frames; it does no I/O.

A frame is VT (0x0B), the payload, FS (0x1C), CR. What peers get wrong is handled so that no two messages are ever taken
for one, and nothing that may have been a message is lost without a trace:

- Bytes in front of VT are skipped and reported; blanks and line ends there are normal and are not.
- VT inside a frame begins a new one. What came before is reported as junk, unless it ended with FS: then it was whole,
  and only its CR is missing.
- FS that neither CR nor VT follows is data.
"""

from dataclasses import dataclass, field
from typing import Final

_VT: Final = 0x0B
_BEGIN: Final = b"\x0b"
_END: Final = b"\x1c\r"
_FS: Final = b"\x1c"
_BLANK: Final = b"\r\n\0\t "
_NOISE_KEPT: Final = 4096  # bytes of what came in front of VT
_HEAD: Final = 65536  # bytes of an oversize frame
_SHORT: Final = 16  # a payload up to this size is looked at for being blank


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame's payload."""

    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Empty:
    """A frame with nothing, or only blanks, in it; there is nothing to answer."""


@dataclass(frozen=True, slots=True)
class Junk:
    """Bytes that never became a frame, and why; ``data`` may be cut, ``size`` counts all of them."""

    reason: str
    data: bytes = field(repr=False)
    size: int


@dataclass(frozen=True, slots=True)
class Oversize:
    """A frame grew over the limit: its first bytes. The decoder is done; the connection must be closed."""

    head: bytes = field(repr=False)


Item = Frame | Empty | Junk | Oversize

# What a commit block of MLLP release 2 holds: whether the payload of a frame was kept.
COMMITTED: Final = b"\x06"
NOT_COMMITTED: Final = b"\x15"

UNFINISHED: Final = "a new frame began before the last one ended"
NOT_A_FRAME: Final = "bytes outside a frame"
CUT_OFF: Final = "the connection ended inside a frame"


def frame(payload: bytes) -> bytes:
    """Put a payload into a frame."""
    return b"\x0b%b\x1c\r" % payload


class Decoder:
    """Cuts one connection's bytes into frames, in time linear in their number however they are chunked."""

    __slots__ = ("_held", "_limit", "_noise", "_spent", "noise")

    def __init__(self, max_frame: int) -> None:
        self._limit = max_frame
        self._held: bytearray | None = None  # what came of the open frame, without its VT
        self._noise = b""  # the beginning of what came outside frames
        self.noise = 0  # bytes outside frames since the last frame began
        self._spent = False

    @property
    def pending(self) -> int:
        """Bytes held of a frame that has begun and not ended, its VT included."""
        return 0 if self._held is None else len(self._held) + 1

    def feed(self, data: bytes) -> list[Item]:
        """Take what was read; return what it completes, in order. Nothing follows an `Oversize`."""
        items: list[Item] = []
        if self._spent:
            return items
        rest: bytes | None = data
        if self._held is not None:
            rest = self._resume(self._held, data, items)
        position = 0
        while rest and position < len(rest) and not self._spent:
            if rest[position] != _VT:
                position = self._skip(rest, position)
                continue
            if self.noise:
                items.append(self._report_noise())
            position += 1
            end = rest.find(_END, position)
            if end < 0:
                self._hold(rest[position:], items)
                break
            self._complete(rest[position:end], items)
            position = end + 2
        return items

    def close(self) -> Junk | None:
        """Take the end of the stream; return what it left unfinished."""
        held, self._held = self._held, None
        if held and not self._spent:
            return Junk(CUT_OFF, bytes(held), len(held))
        return self._report_noise() if self.noise else None

    def _skip(self, data: bytes, position: int) -> int:
        """Count what is outside a frame, and return where the next frame begins (or the data ends)."""
        end = data.find(_BEGIN, position)
        if end < 0:
            end = len(data)
        chunk = data[position:end]
        if not self.noise:
            chunk = chunk.lstrip(_BLANK)
        self._noise += chunk[: _NOISE_KEPT - len(self._noise)]
        self.noise += len(chunk)
        return end

    def _report_noise(self) -> Junk:
        junk = Junk(NOT_A_FRAME, self._noise, self.noise)
        self._noise, self.noise = b"", 0
        return junk

    def _complete(self, body: bytes, items: list[Item]) -> None:
        """Take the bytes between a VT and the next FS CR."""
        if _BEGIN in body:
            body = self._restart(body, items)
        if self._spent:
            return
        if len(body) > self._limit:
            self._refuse(body, items)
        elif len(body) <= _SHORT and not body.strip(_BLANK):
            items.append(Empty())
        else:
            items.append(Frame(body))

    def _restart(self, body: bytes, items: list[Item]) -> bytes:
        """Take bytes that hold VT; return what follows the last one."""
        *parts, last = body.split(_BEGIN)
        unfinished: list[bytes] = []
        for part in parts:
            whole = part.rstrip(_BLANK)
            if len(part) > self._limit + 1:
                self._refuse(part, items)
                break
            if whole.endswith(_FS):
                _report_unfinished(unfinished, items)
                self._complete(whole[:-1], items)
            elif whole:
                unfinished.append(part)
        _report_unfinished(unfinished, items)
        return last

    def _hold(self, body: bytes, items: list[Item]) -> None:
        """Keep the beginning of a frame whose end has not come."""
        if _BEGIN in body:
            body = self._restart(body, items)
        self._held = bytearray(body)
        if len(body) > self._limit + 1 and not self._spent:  # the last byte may be FS, whose CR has not come
            self._refuse(body, items)

    def _resume(self, held: bytearray, data: bytes, items: list[Item]) -> bytes | None:
        """Add to the open frame; return what follows its end, or None when the end has not come."""
        searched = max(len(held) - 1, 0)  # FS may have been the last byte
        held += data
        end = held.find(_END, searched)
        if end < 0:
            if _BEGIN in data:
                self._hold(bytes(held), items)
            elif len(held) > self._limit + 1:
                self._refuse(bytes(held[:_HEAD]), items)
            return None
        self._held = None
        with memoryview(held) as view:
            body, rest = bytes(view[:end]), bytes(view[end + 2 :])
        self._complete(body, items)
        return rest

    def _refuse(self, body: bytes, items: list[Item]) -> None:
        self._spent = True
        self._held = None
        items.append(Oversize(body[:_HEAD]))


def _report_unfinished(parts: list[bytes], items: list[Item]) -> None:
    # One report for all that lies together, so that a stream of VT cannot make one for each of its bytes.
    if parts:
        data = b"".join(parts)
        items.append(Junk(UNFINISHED, data, len(data)))
        parts.clear()
