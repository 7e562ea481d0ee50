"""This module shows how lines are read, and which files are none of lines."""

import io

import pytest

from broker.errors import MessageError
from broker.wire.text_lines import Line, codec_for, read_lines, refuse_foreign


def lines(data: bytes, codec: str = "utf-8", limit: int = 100) -> list[Line]:
    return list(read_lines(io.BytesIO(data), codec, limit))


def test_line_ends_stay_as_they_are() -> None:
    assert [line.text for line in lines(b"a\r\nb\nc\rd")] == ["a\r\n", "b\n", "c\r", "d"]


def test_bytes_outside_the_encoding_go_through_unchanged() -> None:
    text = "".join(line.text for line in lines(b"a\xff\n"))
    assert text.encode("utf-8", "surrogateescape") == b"a\xff\n"


def test_file_that_ends_in_the_middle_of_a_letter_says_so() -> None:
    with pytest.raises(MessageError, match="declare `encoding`"):
        lines(b"a\0\n\0b", "utf-16-le")


def test_long_line_is_cut_and_told_and_the_next_is_whole() -> None:
    found = lines(b"x" * 350 + b"\nnext\n")
    assert [(len(line.text), bool(line.reason)) for line in found] == [(100, True), (5, False)]


def test_file_stays_open_when_its_lines_were_read() -> None:
    file = io.BytesIO(b"a\n")
    list(read_lines(file, "utf-8", 10))
    assert not file.closed


@pytest.mark.parametrize(
    ("head", "encoding", "expected"),
    [
        (b"a,b", "utf-8", ("utf-8", 0)),
        (b"\xef\xbb\xbfa,b", "utf-8", ("utf-8", 3)),
        (b"\xef\xbb\xbfa,b", "8859/1", ("utf-8", 3)),
        (b"\xff\xfea\0", "utf-8", ("utf-16-le", 2)),
        (b"\xfe\xff\0a", "utf-8", ("utf-16-be", 2)),
        (b"\xff\xfe\0\0a\0\0\0", "utf-32", ("utf-32-le", 4)),
        (b"a\0b\0", "utf-16", ("utf-16-le", 0)),
        (b"a,b", "8859/1", ("iso8859-1", 0)),
        (b"a,b", "utf-8-sig", ("utf-8", 0)),
    ],
)
def test_codec_is_that_of_the_mark_or_as_declared(head: bytes, encoding: str, expected: tuple[str, int]) -> None:
    assert codec_for(head, encoding) == expected


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"", "empty"),
        (b"ISA*00*          *00*", "X12"),
        (b"\xef\xbb\xbf  ISA|00", "X12"),
        (b"UNA:+.? 'UNB+", "EDIFACT"),
        (b"UNB+UNOA:1", "EDIFACT"),
        (b"MSH|^~\\&|", "format: hl7"),
        (b"FHS|^~\\&|", "HL7 batch"),
        (b"PK\x03\x04abc", "ZIP"),
        (b"%PDF-1.4", "PDF"),
        (b"<?xml version", "XML"),
        (b"a,b\0c", "zero bytes"),
    ],
)
def test_foreign_file_is_refused_by_name(head: bytes, named: str) -> None:
    with pytest.raises(MessageError, match=named):
        refuse_foreign(head)


@pytest.mark.parametrize("head", [b"ISA_NUMBER,name\n1,x", b"UNAME,x", b"a,b\n1,2", b"MSHA,b"])
def test_table_is_not_taken_for_another_format(head: bytes) -> None:
    refuse_foreign(head)
