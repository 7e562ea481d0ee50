"""This module shows that rows of fixed-width files are read right, or refused with their line."""

import io
from typing import Any

import pytest
from pydantic import ValidationError

from broker.errors import MessageError
from broker.formats.fixed import FixedSpec
from broker.formats.reading import no_index
from broker.message import Inbound

COLUMNS = {"id": {"start": 1, "length": 4}, "name": {"start": 5, "length": 6}, "sex": {"start": 12, "length": 1}}


def rows(data: bytes, **options: Any) -> list[dict[str, str] | str]:
    form = FixedSpec.model_validate({"columns": COLUMNS, **options}).build(None)
    found = list[dict[str, str] | str]()
    for piece in form.split(io.BytesIO(data), "list.txt"):
        try:
            found.append(form.document(piece.body, 0.0).message.values)
        except MessageError as error:
            found.append(str(error))
    return found


def test_columns_are_cut_where_they_are_declared() -> None:
    assert rows(b"0012Lee    F\r\n13  Okafor?M rest\n") == [
        {"id": "0012", "name": "Lee", "sex": "F"},
        {"id": "13", "name": "Okafor", "sex": "M"},
    ]


def test_blanks_stay_when_they_count() -> None:
    assert rows(b"13  Lee    F\n", trim=False) == [{"id": "13  ", "name": "Lee   ", "sex": "F"}]


def test_characters_are_counted_and_not_bytes() -> None:
    assert rows("12  Müller F\n".encode()) == [{"id": "12", "name": "Müller", "sex": "F"}]


def test_short_line_is_refused_with_its_number_unless_it_may_be() -> None:
    first, second = rows(b"1   Lee\n2   Roe    M\n")
    assert isinstance(first, str)
    assert first.startswith("line 1 of list.txt: the line has 7 characters, and the last column ends at 12")
    assert second == {"id": "2", "name": "Roe", "sex": "M"}
    assert rows(b"1   Lee\n", short="blank") == [{"id": "1", "name": "Lee", "sex": ""}]


def test_lines_are_left_out_only_where_that_is_declared() -> None:
    data = b"TITLE\n# x\n\n1   Lee    F\n\n"
    assert rows(data, skip=1, comment="#", blank="skip") == [{"id": "1", "name": "Lee", "sex": "F"}]
    told = rows(data)
    assert [isinstance(row, str) for row in told] == [True, True, True, False]
    assert "blank" in str(told[2])


def test_bytes_of_another_encoding_are_refused_with_the_line() -> None:
    [told] = rows(b"1   M\xfcller F\n")
    assert str(told).startswith("line 1 of list.txt: the byte at offset 5 is not utf-8")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"ISA*00", b"MSH|^~"])
def test_file_is_refused_when_there_is_no_row(data: bytes) -> None:
    with pytest.raises(MessageError):
        rows(data)


def test_row_is_known_by_its_place() -> None:
    form = FixedSpec.model_validate({"columns": COLUMNS}).build(None)
    [piece] = form.split(io.BytesIO(b"1   Lee    F\n"), "list.txt")
    assert form.read(Inbound(channel="x", body=piece.body, key=b"k"), no_index)[:3] == (
        "fixed",
        (b"row", b"k"),
        "list.txt:1",
    )
    assert form.names["row"].names == ("id", "name", "sex")


def test_several_lines_are_no_row() -> None:
    form = FixedSpec.model_validate({"columns": COLUMNS}).build(None)
    with pytest.raises(MessageError, match="several lines"):
        form.document(b"1   Lee    F\n2   Roe    M\n", 0.0)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"a": {"start": 1, "length": 3}, "b": {"start": 3, "length": 1}},
        {"a": {"start": 0, "length": 3}},
        {"a": {"start": 1}},
    ],
)
def test_columns_are_refused_when_they_cannot_be_meant(columns: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FixedSpec.model_validate({"columns": columns})
