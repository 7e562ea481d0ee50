"""This module writes a column of plain values as an array, as PostgreSQL takes it in its binary form.

psycopg asks of every value what it is, in Python; here a column's type is known, which takes a fifth of the time.
(The form: ``array_recv`` in src/backend/utils/adt/arrayfuncs.c and the ``…recv`` of each type, of PostgreSQL.)
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD: Final = struct.Struct(">iiIii").pack  # dimensions, whether one is null, type, length, number of the first
_LENGTH: Final = struct.Struct(">i").pack
_NULL: Final = _LENGTH(-1)
_TEXT: Final = 25
_NUMBERS: Final = {  # object id of the type, bytes, and what writes them and a value
    "bigint": (20, 8, struct.Struct(">iq").pack),
    "integer": (23, 4, struct.Struct(">ii").pack),
    "double": (701, 8, struct.Struct(">id").pack),
    "boolean": (16, 1, struct.Struct(">i?").pack),
}


class Array(bytes):
    """An array in PostgreSQL's form; the statement says of which type."""

    __slots__ = ()


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj


def register(connection: AdaptContext) -> None:
    """Let statements of a connection take an `Array` where they say its type: ``%b::bigint[]``."""
    connection.adapters.register_dumper(Array, _Dumper)


def column(kind: str, values: Sequence[Any]) -> Array | list[Any]:
    """Return values of a type as an array, or as a list for psycopg where they are not plainly of that type."""
    try:
        if kind == "text":
            return _texts(values)
        oid, size, one = _NUMBERS[kind]
        return Array(_HEAD(1, 0, oid, len(values), 1) + b"".join([one(size, value) for value in values]))
    except (KeyError, struct.error, AttributeError, UnicodeEncodeError):
        return list(values)


def _texts(values: Sequence[str | None]) -> Array:
    parts, nulls = [b""], 0
    for value in values:
        if value is None:
            parts.append(_NULL)
            nulls = 1
        else:
            data = value.encode()
            parts += (_LENGTH(len(data)), data)
    parts[0] = _HEAD(1, nulls, _TEXT, len(values), 1)
    return Array(b"".join(parts))
