"""This module frames what passes between the engine and its worker processes: one JSON header, then raw bytes.

A frame is ``length of header (4 bytes, big endian) | length of the rest (4 bytes) | header | rest``. It is JSON and
bytes on purpose: what comes back from a process that runs users' code is data to be checked, never objects to revive.
"""

import struct
from typing import Any, BinaryIO, Final

import orjson

LENGTHS: Final = struct.Struct(">II")


def pack(header: Any, *parts: bytes) -> bytes:
    """Return one frame."""
    head = orjson.dumps(header)
    rest = b"".join(parts)
    return b"".join((LENGTHS.pack(len(head), len(rest)), head, rest))


def read(stream: BinaryIO) -> tuple[Any, bytes] | None:
    """Read one frame from a blocking stream; None at its end."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head, rest = LENGTHS.unpack(lengths)
    return orjson.loads(stream.read(head)), stream.read(rest)
