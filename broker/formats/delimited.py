"""This module is the format of delimited text: CSV, tab-separated, pipe-delimited; each row is a message."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, BinaryIO, Final, Self

from pydantic import Field, model_validator

from broker.errors import MessageError
from broker.formats.reading import Columns, Format, Index, Piece, Reading
from broker.formats.rows import Origin, Packing, Row, decode_row, located, unpack
from broker.formats.table import TableSpec, left_out, read_row, row_document, without_last
from broker.message import Document, Inbound
from broker.wire.charset import Charset
from broker.wire.delimited import DELIMITERS, Dialect, Record, read_fields, read_records, sniff_delimiter
from broker.wire.text_lines import (
    BEGINNING,
    SAMPLE,
    codec_for,
    errors_of,
    is_blank,
    is_wide,
    read_lines,
    refuse_foreign,
)

_ONE: Final = r"^.$"
_NAMED: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}


class CsvSpec(TableSpec):
    """Delimited text (CSV, tab-separated, pipe-delimited); each row of a file is a message."""

    header: bool = Field(default=True, description="Whether the first row names the columns.")
    columns: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="The columns: with a header those that it must have, in any order; without one all, in order.",
    )
    delimiter: str | None = Field(
        default=None, pattern=_ONE, description="The character between columns; by default the file shows which."
    )
    quote: str = Field(default='"', max_length=1, description="The character around values; empty for none.")
    escape: str = Field(default="", max_length=1, description="The character that takes the next one as it is.")
    doubled: bool = Field(default=True, description="Whether a quote inside quotes is written twice.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        marks = [mark for mark in (self.delimiter, self.quote, self.escape, self.comment) if mark]
        if len(set(marks)) != len(marks) or any(mark in "\r\n" for mark in marks):
            raise ValueError("delimiter, quote, escape and comment must be different characters, and no line ends")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("a name is there twice in `columns`; each column has its own name")
        return self

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - files have their own `encoding`
        """Build the format."""
        return Csv(self)


class Csv:
    """Delimited text; see `broker.formats.reading.Format`."""

    kind: Final = "csv"

    __slots__ = ("_columns", "_dialect", "_spec", "names")

    def __init__(self, spec: CsvSpec) -> None:
        self._spec = spec
        self._columns = spec.columns
        self._dialect = Dialect(
            delimiter=spec.delimiter or ",",
            quote=spec.quote,
            escape=spec.escape,
            doubled=spec.doubled,
            skip_blank=spec.trim,
        )
        self.names: Mapping[str, Any] = {"row": Columns(spec.columns or None), "file": str, "line": int}

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Return what keeps the row."""
        return read_row(self, inbound, index)

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document over a row; raise `MessageError` with its line where it cannot be read."""
        origin, data = unpack(body)
        codec = origin.codec or codec_for(data, self._spec.encoding)[0]
        text = decode_row(data, origin, codec)
        try:
            records = read_fields(text, self._by(text, origin))
        except MessageError as error:
            raise located(str(error), origin) from None
        if len(records) != 1 + self._spec.header:
            what = "nothing" if len(records) < 1 + self._spec.header else "several rows"
            raise located(f"there is {what} where one row was expected", origin)
        fields = [field.strip() for field in records[-1]] if self._spec.trim else records[-1]
        names = self._header(records[0]) if self._spec.header else self._columns
        if not fields:
            raise located("the line is blank; declare `blank: skip` if blank lines mean nothing", origin)
        return row_document(Row(body, origin, self._row(names, fields, origin)), received_at)

    def _by(self, text: str, origin: Origin) -> Dialect:
        """Return the dialect that the file of a row had, or that the row shows."""
        delimiter = self._spec.delimiter or origin.options.get("delimiter") or sniff_delimiter(text, self._dialect)
        if delimiter == self._dialect.delimiter or not delimiter:
            return self._dialect
        return self._with(delimiter)

    def _with(self, delimiter: str) -> Dialect:
        known = self._dialect
        return Dialect(
            delimiter=delimiter,
            quote=known.quote,
            escape=known.escape,
            doubled=known.doubled,
            skip_blank=known.skip_blank,
        )

    def _row(self, names: Sequence[str], fields: Sequence[str], origin: Origin) -> dict[str, str]:
        if not names:
            return {str(number): field for number, field in enumerate(fields, 1)}
        if len(fields) != len(names):
            whose = "the header has" if self._spec.header else "the channel declares"
            raise located(f"the row has {len(fields)} columns, and {whose} {len(names)}", origin)
        return dict(zip(names, fields, strict=True))

    def _header(self, fields: Sequence[str]) -> list[str]:
        return [field.strip() or str(number) for number, field in enumerate(fields, 1)]

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:
        """Yield the rows of a file; raise `MessageError` where it has none, or is no such file."""
        spec = self._spec
        head = file.read(SAMPLE)
        codec, mark = codec_for(head, spec.encoding)
        refuse_foreign(head, codec if is_wide(codec) else "")
        file.seek(mark)
        lines = read_lines(file, codec, spec.max_row)
        for _ in range(spec.skip):
            next(lines, None)
        sample = _sample(head[mark:], codec, spec.skip)
        delimiter = spec.delimiter or sniff_delimiter(_sense(sample, spec.comment), self._dialect)
        if not delimiter:
            tried = ", ".join(_NAMED[each] for each in DELIMITERS)
            text = f"no column is set off in the file (tried {tried}); if it has one, declare `delimiter`"
            raise MessageError(text, location=BEGINNING)
        records = read_records(lines, self._with(delimiter), spec.max_row, 1 + spec.skip, left_out(spec))
        header = self._read_header(records) if spec.header else None
        packing = Packing(name, codec, {"delimiter": delimiter}, header.text if header else "")
        first = next(records, None)
        if first is None:
            raise MessageError(
                "the file has a header and no row" if header else "the file has no row", location=BEGINNING
            )
        yield from _pieces(itertools.chain([first], records), packing)

    def _read_header(self, records: Iterator[Record]) -> Record:
        record = next(records, None)
        if record is None:
            raise MessageError("the file has no header", location=BEGINNING)
        if record.reason:
            raise _at(record, f"the header cannot be read: {record.reason}")
        if any("\udc80" <= letter <= "\udcff" for letter in record.text):
            raise _at(record, "the header is not in the declared encoding; declare `encoding`")
        names = self._header(record.fields)
        twice = sorted({names.index(name) + 1 for name in names if names.count(name) > 1})
        if twice:
            raise _at(record, f"the name of column {twice[0]} is there twice")
        missing = [name for name in self._columns if name not in names]
        if missing:
            raise _at(record, f"the header has no column {missing[0]}, which the channel declares")
        return record if record.text.endswith(("\r", "\n")) else record._replace(text=f"{record.text}\n")


def _at(record: Record, text: str) -> MessageError:
    return MessageError(f"line {record.line}: {text}", location=f"line {record.line}, column 1")


def _pieces(records: Iterator[Record], packing: Packing) -> Iterator[Piece]:
    rows = without_last(records, lambda record: is_blank(record.text))
    for record in rows:
        reason = record.reason if record.cut else ""  # any other fails in the steps, as a dead letter of its own
        yield Piece(body=packing.body(record.text, record.line), line=record.line, reason=reason)


def _sample(head: bytes, codec: str, skip: int) -> str:
    """Return the whole lines at the beginning of a file, without those to be skipped."""
    text = head.decode(codec, "ignore" if is_wide(codec) else errors_of(codec))
    lines = text.splitlines(keepends=True)[skip:]
    return "".join(lines[:-1] if len(head) >= SAMPLE and len(lines) > 1 else lines)


def _sense(text: str, comment: str) -> str:
    kept = (line for line in text.splitlines(keepends=True) if not comment or not line.startswith(comment))
    return "".join(kept)
