"""This module takes HL7 v2 files apart: single messages, many in a row, and batches (FHS, BHS), in bounded memory.

Nothing of a batch is trusted but where its messages begin: counts in trailers are wrong, trailers and headers are
missing, and several batches stand in one file (HL7 v2.5.1, 2.10.3).
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from broker.errors import MessageError
from broker.formats.reading import Piece
from broker.wire.charset import mark_of

_CHUNK: Final = 1 << 16
_LARGEST: Final = 16 * 1024**2  # bytes of one message
_HEAD: Final = re.compile(rb"(?<=[\r\n\x0b\x1c])(?:MSH|FHS|BHS|BTS|FTS)(?=[!-/:-@\[-`{-~])")
_TAIL: Final = 4  # bytes at the end of what was read in which a head may be incomplete
_BETWEEN: Final = b"\r\n\x0b\x1c\0 \t"
_FRAMING: Final = b"\x0b\x1c\0\r\n"  # behind a message: not a part of it, but for one line end
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_SHOWN: Final = 65_536  # bytes of what is no message that are handed on


def split_hl7(file: BinaryIO) -> Iterator[Piece]:
    """Yield the messages of a file in order; what stands before, between and behind them as pieces with a reason.

    Raises `MessageError` where there is no message in it.
    """
    head = file.read(_CHUNK)
    wide = mark_of(head)
    if wide == "utf-8-sig":
        head = head[3:]
    elif wide:
        # Its line ends are not single bytes; such files hold one message, and the reader knows how to decode it.
        yield _whole(head + file.read(_LARGEST))
        return
    found = False
    for piece in _pieces(head, file):
        found = found or not piece.reason
        yield piece
    if not found:
        raise MessageError("no segment MSH begins a line of the file, so there is no HL7 message in it")


def _whole(body: bytes) -> Piece:
    return Piece(body=body, line=1, reason=_TOO_LARGE if len(body) > _LARGEST else "")


_STRAY: Final = "what stands here belongs to no message: there is no MSH before it"
_TOO_LARGE: Final = f"the message has more than {_LARGEST} bytes"


def _pieces(head: bytes, file: BinaryIO) -> Iterator[Piece]:
    line, skipping, chunk = 1, False, head
    kept = bytearray(b"\n")  # what was read and belongs to nothing yet, with a line end in front for the first head
    while True:
        start = max(len(kept) - _TAIL, 1)
        kept += chunk
        ends = not chunk
        heads = [found.start() for found in _HEAD.finditer(kept, start)]
        cuts = [at for at in heads if ends or at < len(kept) - _TAIL]
        begin = 1
        for cut in [*cuts, *([len(kept)] if ends else [])]:
            part = bytes(kept[begin:cut])
            if not skipping:
                yield from _piece(part, line)
            line, begin, skipping = line + _line_ends(part), cut, False
        if ends:
            return
        del kept[1:begin]
        if len(kept) > _LARGEST:
            if not skipping:
                yield Piece(body=bytes(kept[1:_SHOWN]), line=line, reason=_TOO_LARGE)
            line += _line_ends(kept[1:-_TAIL])
            del kept[1:-_TAIL]
            skipping = True
        chunk = file.read(_CHUNK)


def _piece(part: bytes, line: int) -> Iterator[Piece]:
    """Give what begins with a head, or stands before the first one."""
    if part.startswith(b"MSH"):
        yield Piece(body=_without_framing(part), line=line)
        return
    if part.startswith((b"FHS", b"BHS", b"BTS", b"FTS")):
        end = _LINE_END.search(part)
        if end is None:
            return
        line += 1
        part = part[end.end() :]
    stripped = part.strip(_BETWEEN)
    if stripped:
        line += _line_ends(part[: part.find(stripped)])
        yield Piece(body=stripped[:_SHOWN], line=line, reason=_STRAY)


def _without_framing(part: bytes) -> bytes:
    kept = part.rstrip(_FRAMING)
    found = _LINE_END.match(part, len(kept))
    return kept + found[0] if found else kept


def _line_ends(part: bytes | bytearray) -> int:
    return part.count(b"\r") + part.count(b"\n") - part.count(b"\r\n")
