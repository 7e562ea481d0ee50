"""This module takes bodies apart: the parts of a form, and files with many messages."""

import asyncio
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from broker.errors import MessageError
from broker.formats.reading import Format, Piece
from broker.wire.batch import is_batch, split_batch
from listeners.http_request import Refusal

_MOST_PARTS: Final = 1000
_LARGEST_HEAD: Final = 8 * 1024  # bytes of one part's headers
_AT_ONCE: Final = 256  # messages of a file that are taken from it in one go


@dataclass(slots=True)
class Part:
    """One part of a form (RFC 7578): its name, the name of the file where it is one, and what is in it."""

    name: str = ""
    file: str | None = None
    body: bytes = field(default=b"", repr=False)


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """Return the parts of a ``multipart/…`` body, in order. Raises `Refusal` (400) where it is none."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "the Content-Type names no boundary, so the parts cannot be told apart")
    reading = _Parts()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reading.begin,
            "on_part_data": reading.data,
            "on_part_end": reading.finish,
            "on_header_field": reading.header_name,
            "on_header_value": reading.header_value,
            "on_header_end": reading.header_end,
            "on_end": reading.end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError:
        raise Refusal(400, "the parts of the body cannot be told apart; send it again, whole") from None
    if not reading.ended:
        raise Refusal(400, "the body ends before its last part does; send it again, whole")
    return reading.parts


class _Parts:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._chunks: list[bytes] = []
        self._name = b""
        self._value = b""

    def begin(self) -> None:
        if len(self.parts) >= _MOST_PARTS:
            raise Refusal(413, f"the body has more than {_MOST_PARTS} parts; send it in several requests")
        self.parts.append(Part())
        self._chunks = []

    def data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def finish(self) -> None:
        self.parts[-1].body = b"".join(self._chunks)

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name = self._bounded(self._name + data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = self._bounded(self._value + data[start:end])

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
            file = options.get(b"filename")
            self.parts[-1].file = None if file is None else file.decode("utf-8", "replace")
        self._name = self._value = b""

    def end(self) -> None:
        self.ended = True

    def _bounded(self, value: bytes) -> bytes:
        if len(value) > _LARGEST_HEAD:
            raise Refusal(431, "a header of a part is too large")
        return value


@dataclass
class File:
    """A file that came over HTTP, and by what its messages are known again: its name and all that is in it."""

    name: str
    body: bytes = field(repr=False)

    @cached_property
    def key(self) -> bytes:
        """What makes its messages, each with its number, the same as some that came before."""
        return hashlib.sha256(self.name.encode() + b"\0" + self.body).digest()

    async def pieces(self, form: Format) -> "list[Piece]":
        """Return its messages. Raises `Refusal` where it is no file of the format."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._split, form)
        except MessageError as error:
            raise Refusal(422, str(error), location=error.location) from None

    async def miscounts(self, form: Format) -> list[str]:
        """Return what the trailers of an HL7 batch count and did not come: what is missing, nobody else can tell."""
        if form.kind != "hl7" or not (b"BTS" in self.body or b"FTS" in self.body):
            return []
        return await asyncio.get_running_loop().run_in_executor(None, self._miscounts)

    def _miscounts(self) -> list[str]:
        if not is_batch(self.body):
            return []
        try:
            faults = split_batch(self.body, self.body.count(b"MSH") + 1).faults
        except MessageError:
            return []  # in UTF-16, of which a file is one message
        return [fault.text for fault in faults if fault.location in {"BTS-1", "FTS-1"}]

    def _split(self, form: Format) -> list[Piece]:
        return list(form.split(io.BytesIO(self.body), self.name))


@dataclass(slots=True)
class Counted:
    """What became of several messages; ``faults`` says of each that was refused where it was and why."""

    messages: int = 0
    duplicates: int = 0
    faults: list[str] = field(default_factory=list)


def in_groups(pieces: list[tuple[Piece, bytes]]) -> Iterator[list[tuple[Piece, bytes]]]:
    """Yield so many messages as are handed over at a time."""
    for begin in range(0, len(pieces), _AT_ONCE):
        yield pieces[begin : begin + _AT_ONCE]
