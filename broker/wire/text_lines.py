"""This module reads the lines of text files in any encoding, in bounded memory, and refuses what is no such file."""

import codecs
import contextlib
import io
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from broker.errors import MessageError
from broker.wire.charset import codec_of, mark_of

BEGINNING: Final = "line 1, column 1"  # where a file is wrong as a whole
SAMPLE: Final = 65_536  # bytes at the beginning of a file that tell what it is
# What has other files in it, or is for other readers: how it begins, and what it is.
_FOREIGN: Final = (
    (b"ISA", "X12 (it begins with ISA)"),
    (b"UNA", "EDIFACT (it begins with UNA)"),
    (b"UNB", "EDIFACT (it begins with UNB)"),
    (b"MSH|", "HL7 v2 (it begins with MSH); declare `format: hl7`"),
    (b"FHS|", "an HL7 batch (it begins with FHS); declare `format: hl7`"),
    (b"BHS|", "an HL7 batch (it begins with BHS); declare `format: hl7`"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE", "HTML or XML"),
    (b"<html", "HTML"),
    (b"PK\x03\x04", "a ZIP archive (such as an Excel workbook); save it as text"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save it as text"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
)
_LETTER: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_TOO_LONG: Final = "the line has more than {limit} characters (`max_row`)"
# Codecs whose texts may hold zero bytes.
_WIDE: Final = ("utf-16", "utf-32")
_ORDERED: Final = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}


class Line(NamedTuple):
    """One line with its end, or the beginning of one that is too long: then ``reason`` says so."""

    text: str
    reason: str = ""


def is_blank(text: str) -> bool:
    """Say whether a line has nothing but blanks, tabs and its end."""
    return not text.strip(" \t\r\n")


def refuse_foreign(head: bytes, wide: str = "") -> None:
    """Raise `MessageError` for a file, known by its beginning, that is empty or of another kind than lines of text."""
    if not head:
        raise MessageError("the file is empty", location=BEGINNING)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    for mark, what in _FOREIGN:
        # A column may be called ISA_NUMBER: the name of a segment ends with something else than a letter.
        if start.startswith(mark) and not (mark.isalpha() and start[len(mark) : len(mark) + 1] in _PLAIN):
            raise MessageError(f"the file is {what}, which this channel does not read", location=BEGINNING)
    if not wide and b"\0" in head:
        raise MessageError("the file holds zero bytes, so it is no text in this encoding", location=BEGINNING)


_PLAIN: Final = frozenset(bytes([letter]) for letter in _LETTER)


def codec_for(head: bytes, encoding: str) -> tuple[str, int]:
    """Return the codec of a file by its beginning, and how many bytes its mark has.

    A byte order mark decides, then what is declared: a name of HL7 table 0211 or of Python.
    """
    mark = mark_of(head[:4])
    if mark == "utf-8-sig":
        return "utf-8", len(codecs.BOM_UTF8)
    codec = (mark or codec_of(encoding)).removesuffix("-sig")
    for wide, (little, big) in _ORDERED.items():
        if codec == wide:
            size = 2 if wide == "utf-16" else 4
            is_big = head[:size] == b"\0\0\xfe\xff"[-size:]
            marked = is_big or head[:size] == b"\xff\xfe\0\0"[:size]
            return (big if is_big else little), size if marked else 0
    return codec, 0


def is_wide(codec: str) -> bool:
    """Say whether letters take more than a byte each in this codec, zero bytes among them."""
    return codec.startswith(_WIDE)


def errors_of(codec: str) -> str:
    """Return how bytes that the codec does not have go through decoding and encoding unchanged."""
    return "surrogatepass" if is_wide(codec) else "surrogateescape"


def read_lines(file: BinaryIO, codec: str, limit: int) -> Iterator[Line]:
    """Yield the lines of a file from where it stands, their ends (CR LF, LF, CR) as they are.

    Bytes that the codec does not have become lone surrogates (`errors_of`). Raises `MessageError` where even that
    cannot be.
    """
    wrapper = io.TextIOWrapper(file, encoding=codec, errors=errors_of(codec), newline="")
    try:
        while text := wrapper.readline(limit + 1):
            if len(text) <= limit:
                yield Line(text)
                continue
            rest = text
            while rest and not rest.endswith(("\r", "\n")):
                rest = wrapper.readline(limit + 1)
            yield Line(text[:limit], _TOO_LONG.format(limit=limit))
    except UnicodeError:
        raise MessageError("from here on it is not in the declared encoding; declare `encoding`") from None
    finally:
        with contextlib.suppress(ValueError):  # the file was closed before we were
            wrapper.detach()
