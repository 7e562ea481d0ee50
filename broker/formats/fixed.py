"""This module is the format of fixed-width text: columns by where they begin and how wide they are."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, BinaryIO, Final, Literal, Self

from pydantic import Field, model_validator

from broker.formats.reading import Columns, Format, Index, Piece, Reading
from broker.formats.rows import Origin, Packing, Row, decode_row, located, unpack
from broker.formats.table import TableSpec, left_out, line_pieces, read_row, row_document
from broker.message import Document, Inbound
from broker.spec import Spec
from broker.wire.charset import Charset
from broker.wire.text_lines import SAMPLE, codec_for, is_blank, is_wide, read_lines, refuse_foreign


class ColumnSpec(Spec):
    """Where a column is: its first character (from 1) and how many it has."""

    start: int = Field(ge=1, le=1_000_000, description="The number of its first character; the line begins with 1.")
    length: int = Field(ge=1, le=1_000_000, description="How many characters it has.")


class FixedSpec(TableSpec):
    """Fixed-width text; each line of a file is a message."""

    columns: dict[str, ColumnSpec] = Field(
        min_length=1, description="The columns: for each name where it begins (from 1) and how many characters it has."
    )
    trim: bool = Field(default=True, description="Whether the blanks that fill a column up are left out.")
    short: Literal["refuse", "blank"] = Field(
        default="refuse", description="What a line is that ends before the last column: an error, or blank there."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        spans = sorted((column.start, column.start + column.length, name) for name, column in self.columns.items())
        for (_, end, one), (start, _, other) in pairwise(spans):
            if start < end:
                raise ValueError(f"the columns {one!r} and {other!r} overlap; correct `start` or `length`")
        return self

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - files have their own `encoding`
        """Build the format."""
        return Fixed(self)


class Fixed:
    """Fixed-width text; see `broker.formats.reading.Format`."""

    kind: Final = "fixed"

    __slots__ = ("_cuts", "_spec", "_width", "names")

    def __init__(self, spec: FixedSpec) -> None:
        self._spec = spec
        self._cuts = [
            (name, slice(column.start - 1, column.start - 1 + column.length)) for name, column in spec.columns.items()
        ]
        self._width = max(cut.stop for _, cut in self._cuts)
        self.names: Mapping[str, Any] = {"row": Columns(tuple(spec.columns)), "file": str, "line": int}

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Return what keeps the row."""
        return read_row(self, inbound, index)

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document over a row; raise `MessageError` with its line where it cannot be read."""
        origin, data = unpack(body)
        codec = origin.codec or codec_for(data, self._spec.encoding)[0]
        text = decode_row(data, origin, codec).rstrip("\r\n")
        self._check(text, origin)
        trim = self._spec.trim
        values = {name: text[cut].strip() if trim else text[cut] for name, cut in self._cuts}
        return row_document(Row(body, origin, values), received_at)

    def _check(self, text: str, origin: Origin) -> None:
        if is_blank(text):
            raise located("the line is blank; declare `blank: skip` if blank lines mean nothing", origin)
        if "\r" in text or "\n" in text:
            raise located("there are several lines where one row was expected", origin)
        if len(text) < self._width and self._spec.short == "refuse":
            wanted = f"the last column ends at {self._width}; declare `short: blank` if lines may end before"
            raise located(f"the line has {len(text)} characters, and {wanted}", origin)

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:
        """Yield the rows of a file; raise `MessageError` where it has none, or is no such file."""
        spec = self._spec
        head = file.read(SAMPLE)
        codec, mark = codec_for(head, spec.encoding)
        refuse_foreign(head, codec if is_wide(codec) else "")
        file.seek(mark)
        is_left_out = left_out(spec)
        numbered = enumerate(read_lines(file, codec, spec.max_row), 1)
        rows = ((number, line) for number, line in numbered if number > spec.skip and not is_left_out(line.text))
        yield from line_pieces(rows, Packing(name, codec, {}), "row")
