"""This module shows that rows of delimited files are read right, or refused with their line."""

import io
from typing import Any

import pytest
from pydantic import ValidationError

from broker.errors import MessageError, StepError
from broker.formats.delimited import CsvSpec
from broker.formats.reading import Format, Piece, no_index
from broker.message import Document, Inbound

NAMES = "mrn,last_name,dob\n"


def csv(**options: Any) -> Format:
    return CsvSpec.model_validate(options).build(None)


def pieces(data: str | bytes, **options: Any) -> list[Piece]:
    raw = data.encode() if isinstance(data, str) else data
    return list(csv(**options).split(io.BytesIO(raw), "roster.csv"))


def rows(data: str | bytes, **options: Any) -> list[dict[str, str] | str]:
    """Return the rows of a file, and what is wrong with those that cannot be read."""
    form, found = csv(**options), list[dict[str, str] | str]()
    for piece in pieces(data, **options):
        try:
            found.append(form.document(piece.body, 0.0).message.values)
        except MessageError as error:
            found.append(str(error))
    return found


def test_rows_have_the_names_of_the_header() -> None:
    assert rows(f'{NAMES}0012,"Okafor, Jr",1962-09-10\n7,Lee,\n') == [
        {"mrn": "0012", "last_name": "Okafor, Jr", "dob": "1962-09-10"},
        {"mrn": "7", "last_name": "Lee", "dob": ""},
    ]


def test_document_says_where_the_row_was() -> None:
    [_, second] = pieces(f'{NAMES}1,"two\nlines",x\n2,b,c\n')
    document = csv().document(second.body, 3.0)
    assert (document.values["file"], document.values["line"], document.received_at) == ("roster.csv", 4, 3.0)
    assert document.values["row"] == {"mrn": "2", "last_name": "b", "dob": "c"}
    assert document.message.get("mrn") == "2"
    with pytest.raises(StepError):
        document.message.get("name")
    assert "2" not in repr(document.message).replace("3 columns", "")


def test_body_holds_the_bytes_of_header_and_row() -> None:
    [piece] = pieces(b"a;b\r\n\xe4;x\r\n", encoding="8859/1")
    assert piece.body == b"%row file=roster.csv line=2 codec=iso8859-1 delimiter=%3B\na;b\r\n\xe4;x\r\n"


def test_row_is_read_alike_alone_though_the_channel_would_sniff_otherwise() -> None:
    [piece] = pieces("a|b\n1,2,3|4\n")
    assert csv().document(piece.body, 0.0).message.values == {"a": "1,2,3", "b": "4"}


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"\xef\xbb\xbfid,name\n1,\xc3\xa4\n", {}),
        ("id,name\n1,ä\n".encode("utf-16"), {}),
        ("id,name\n1,ä\n".encode("utf-16-be"), {"encoding": "utf-16-be"}),
        (b"id,name\n1,\xe4\n", {"encoding": "cp1252"}),
        (b"id,name\r1,\xc3\xa4\r", {}),
        (b"id\tname\n1\t\xc3\xa4", {}),
        (b"id, name\n1, \xc3\xa4 \n", {"trim": True}),
        (b"junk\nid,name\n1,\xc3\xa4\n", {"skip": 1}),
        (b"# x\nid,name\n#, y\n1,\xc3\xa4\n", {"comment": "#"}),
        (b"id,name\n\n1,\xc3\xa4\n", {"blank": "skip"}),
        (b"id,name\n1,\xc3\xa4\n\n \n", {}),
        (b"1,\xc3\xa4\n", {"header": False, "columns": ["id", "name"]}),
        (b"name,id\n\xc3\xa4,1\n", {"columns": ["id", "name"]}),
        (b"id,name\n1,'\xc3\xa4'\n", {"quote": "'"}),
    ],
)
def test_row_is_the_same_however_it_is_written(data: bytes, options: dict[str, Any]) -> None:
    assert rows(data, **options) == [{"id": "1", "name": "ä"}]


def test_columns_are_numbered_when_they_have_no_names() -> None:
    assert rows("1,x\n2,y,z\n", header=False) == [{"1": "1", "2": "x"}, {"1": "2", "2": "y", "3": "z"}]
    assert rows("id,,name\n1,2,3\n") == [{"id": "1", "2": "2", "name": "3"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1,Lee", "line 2 of roster.csv: the row has 2 columns, and the header has 3"),
        ("1,Lee,x,y", "line 2 of roster.csv: the row has 4 columns, and the header has 3"),
        ('1,"Lee,x', "line 2 of roster.csv: a quote opens here and is not closed"),
        ('1,"Lee"x,y', "line 2 of roster.csv: something follows a closing quote"),
        ("", "line 2 of roster.csv: the line is blank; declare `blank: skip`"),
    ],
)
def test_bad_row_is_refused_with_its_line_and_the_next_is_read(row: str, expected: str) -> None:
    first, second = rows(f"{NAMES}{row}\n2,Roe,z\n")
    assert isinstance(first, str)
    assert first.startswith(expected)
    assert second == {"mrn": "2", "last_name": "Roe", "dob": "z"}


def test_row_with_foreign_bytes_is_refused_and_the_next_is_read() -> None:
    first, second = rows(b"id,name\n1,\xe4\n2,b\n")
    assert first == (
        "line 2 of roster.csv: the byte at offset 10 is not utf-8; declare the file's real encoding with `encoding`"
    )
    assert second == {"id": "2", "name": "b"}


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        (b"", {}, "the file is empty"),
        (b"\n\n", {"blank": "skip"}, "no column is set off"),
        (b"a,b\n", {}, "a header and no row"),
        (b"a,b\n\n\n", {"blank": "skip"}, "a header and no row"),
        (b"Dear colleague,\nhere is nothing.\n", {"columns": ["mrn"]}, "no column mrn"),
        (b"no table at all\n", {}, "no column is set off in the file .tried comma, semicolon, tab"),
        (b"a,a\n1,2\n", {}, "line 1: the name of column 1 is there twice"),
        (b"a,b\n1,2\n", {"columns": ["c"]}, "line 1: the header has no column c"),
        (b'"a,b\n1,2\n', {"delimiter": ","}, "line 1: the header cannot be read"),
        (b"\xe4,b\n1,2\n", {}, "the header is not in the declared encoding"),
        (b"ISA*00*x", {}, "X12"),
        (b"PK\x03\x04", {}, "ZIP"),
    ],
)
def test_file_is_refused_when_it_is_no_table(data: bytes, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(MessageError, match=expected):
        pieces(data, **options)


def test_row_that_is_too_long_is_told_and_the_others_are_read() -> None:
    found = pieces(f"a,b\n1,{'x' * 5000}\n2,y\n", max_row="1KiB")
    assert [(piece.line, bool(piece.reason)) for piece in found] == [(2, True), (3, False)]
    assert "max_row" in found[0].reason


def test_intake_keeps_a_row_that_cannot_be_read() -> None:
    form = csv()
    [piece] = pieces(f"{NAMES}1,Lee\n")

    def index(document: Document) -> list[tuple[str, str]]:
        return [("mrn", document.message.get("mrn"))]

    reading = form.read(Inbound(channel="x", body=piece.body, key=b"k"), index)
    assert reading == ("csv", (b"row", b"k"), "roster.csv:2", ())
    [good] = pieces(f"{NAMES}1,Lee,x\n")
    assert form.read(Inbound(channel="x", body=good.body), index) == ("csv", (), "roster.csv:2", [("mrn", "1")])
    assert form.read(Inbound(channel="x", body=good.body), no_index).values == ()


def test_row_can_come_without_a_file() -> None:
    document = csv().document(b"a,b\n1,2\n", 0.0)
    assert (document.message.values, document.message.line) == ({"a": "1", "b": "2"}, 0)
    with pytest.raises(MessageError, match="several rows"):
        csv().document(b"a,b\n1,2\n3,4\n", 0.0)
    with pytest.raises(MessageError, match="nothing"):
        csv().document(b"a,b\n", 0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": '"'},
        {"delimiter": "\n"},
        {"delimiter": ",,"},
        {"columns": ["a", "a"]},
        {"encoding": "klingon"},
        {"max_row": 0},
    ],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        csv(**options)


def test_expressions_know_the_declared_columns() -> None:
    assert csv(columns=["a"]).names["row"].names == ("a",)
    assert csv().names["row"].names is None
