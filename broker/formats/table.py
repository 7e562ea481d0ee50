"""This module holds what formats of rows and lines have in common: options, what is left out, pieces and keys."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, Field

from broker.errors import MessageError
from broker.formats.reading import Format, Index, Piece, Reading, no_index
from broker.formats.rows import Packing, Row, place_of
from broker.message import Document, Inbound
from broker.spec import Bytes, FormatSpec
from broker.wire.charset import codec_of
from broker.wire.delimited import none_left_out
from broker.wire.text_lines import Line, is_blank

T = TypeVar("T")

_ROW_KEY: Final = b"row"


def _known(value: str) -> str:
    try:
        codec_of(value)
    except MessageError:
        text = f"{value!r} is not a character set; write a name such as utf-8, cp1252, 8859/1 or utf-16"
        raise ValueError(text) from None
    return value


Encoding = Annotated[str, AfterValidator(_known)]


class TableSpec(FormatSpec):
    """What formats of rows have in common."""

    encoding: Encoding = Field(default="utf-8", description="The character set; a byte order mark overrules it.")
    trim: bool = Field(default=False, description="Whether blanks around values are left out.")
    skip: int = Field(default=0, ge=0, le=1000, description="Lines at the top of the file that are no rows.")
    comment: str = Field(default="", max_length=10, description="What lines begin with that are no rows.")
    blank: Literal["refuse", "skip"] = Field(
        default="refuse", description="What a blank line is: a row that fails, or nothing. At the end it is nothing."
    )
    max_row: Bytes = Field(default=1024**2, ge=1024, le=16 * 1024**2, description="Most characters of a row.")


def left_out(spec: TableSpec) -> Callable[[str], bool]:
    """Return what says whether a line is no row: a comment or a blank line, where the channel declares that."""
    comment, blank = spec.comment, spec.blank == "skip"
    if not comment and not blank:
        return none_left_out
    return lambda text: bool(comment and text.startswith(comment)) or (blank and is_blank(text))


def without_last(items: Iterator[T], is_blank: Callable[[T], bool]) -> Iterator[T]:
    """Yield items, but not the blank ones behind which nothing else comes; a thousand of them are remembered."""
    blank: list[T] = []
    for item in items:
        if is_blank(item) and len(blank) < _BLANK:
            blank.append(item)
            continue
        yield from blank
        blank.clear()
        yield item


_BLANK: Final = 1000


def line_pieces(lines: Iterator[tuple[int, Line]], packing: Packing, kind: str) -> Iterator[Piece]:
    """Yield a piece for each numbered line, but not the last blank ones; raise `MessageError` where there is none.

    ``kind`` is what the format calls a line: "row" or "line".
    """
    found = False
    for number, line in without_last(lines, lambda numbered: is_blank(numbered[1].text)):
        found = True
        yield Piece(body=packing.body(line.text, number), line=number, reason=line.reason)
    if not found:
        raise MessageError(f"the file has no {kind}")


def row_document(row: Row, received_at: float) -> Document:
    """Return the document over a row."""
    return Document(
        message=row, received_at=received_at, values={"row": row.values, "file": row.file, "line": row.line}
    )


def read_row(form: Format, inbound: Inbound, index: Index) -> Reading:
    """Return what the intake needs to know of a row; its place in its file is what its sender calls it.

    One that cannot be read is kept too, and fails with its line in the steps.
    """
    values: Sequence[tuple[str, str]] = ()
    if index is not no_index:
        try:
            values = index(form.document(inbound.body, 0.0))
        except MessageError:
            values = ()
    return Reading(form.kind, (_ROW_KEY, inbound.key) if inbound.key else (), place_of(inbound.body), values)
