"""This module shows that delimited text comes apart into the records that were written."""

import csv
import io
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.wire.delimited import Dialect, Record, read_fields, read_records, sniff_delimiter
from broker.wire.text_lines import read_lines

LIMIT = 4096
CELL = st.text(st.characters(codec="utf-8"), max_size=20)
TABLE = st.lists(st.lists(CELL, min_size=2, max_size=5), min_size=1, max_size=6)
DIALECT = st.builds(
    Dialect,
    delimiter=st.sampled_from([",", ";", "\t", "|", "^", "ä"]),
    quote=st.sampled_from(['"', "'"]),
    escape=st.just(""),
)


def records(text: str, dialect: Dialect | None = None, limit: int = LIMIT) -> list[Record]:
    lines = read_lines(io.BytesIO(text.encode("utf-8", "surrogateescape")), "utf-8", limit)
    return list(read_records(lines, dialect or Dialect(), limit))


def written(table: list[list[str]], dialect: Dialect, end: str, quoting: Literal[0, 1, 2, 3]) -> str:
    sink = io.StringIO(newline="")
    options = {name: value for name, value in dialect.options().items() if name not in {"strict", "quoting"}}
    csv.writer(sink, lineterminator=end, quoting=quoting, **options).writerows(table)
    return sink.getvalue()


@given(TABLE, DIALECT, st.sampled_from(["\r\n", "\n", "\r"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
@settings(deadline=None, max_examples=100)
def test_table_is_the_same_when_written_in_any_dialect(
    table: list[list[str]], dialect: Dialect, end: str, quoting: Literal[0, 1, 2, 3]
) -> None:
    if quoting == csv.QUOTE_MINIMAL:  # csv does not quote the other line ends then, so they would be ends
        table = [[cell.replace("\r", " ").replace("\n", " ") for cell in row] for row in table]
    text = written(table, dialect, end, quoting)
    found = records(text, dialect)
    assert [list(record.fields) for record in found] == table
    assert "".join(record.text for record in found) == text
    assert not any(record.reason for record in found)


@given(TABLE, st.sampled_from([",", ";", "|"]))
@settings(deadline=None, max_examples=100)
def test_table_is_the_same_when_nothing_is_quoted_and_marks_are_escaped(table: list[list[str]], delimiter: str) -> None:
    table = [[cell.replace("\r", " ").replace("\n", " ") for cell in row] for row in table]
    dialect = Dialect(delimiter=delimiter, quote="", escape="\\", doubled=False)
    text = written(table, dialect, "\n", csv.QUOTE_NONE)
    assert [list(record.fields) for record in records(text, dialect)] == table


@given(TABLE)
@settings(deadline=None, max_examples=50)
def test_record_is_the_same_when_it_is_read_alone(table: list[list[str]]) -> None:
    for record in records(written(table, Dialect(), "\r\n", csv.QUOTE_ALL)):
        assert read_fields(record.text, Dialect()) == [record.fields]


def test_lines_are_counted_when_records_span_several() -> None:
    found = records('a,b\n"1\n2","3\r\n4"\r\nx,y\n')
    assert [(record.line, list(record.fields)) for record in found] == [
        (1, ["a", "b"]),
        (2, ["1\n2", "3\r\n4"]),
        (5, ["x", "y"]),
    ]


def test_line_alone_fails_when_its_quote_is_not_closed() -> None:
    found = records('a,"b\nc,d\ne,f\n')
    assert [(record.line, bool(record.reason), list(record.fields)) for record in found] == [
        (1, True, []),
        (2, False, ["c", "d"]),
        (3, False, ["e", "f"]),
    ]
    assert found[0].text == 'a,"b\n'
    assert "not closed" in found[0].reason


def test_line_alone_fails_when_something_follows_a_closing_quote() -> None:
    found = records('a,"b"c\nd,e\n')
    assert [bool(record.reason) for record in found] == [True, False]
    assert "written twice" in found[0].reason


def test_line_is_cut_when_it_is_too_long() -> None:
    found = records(f"a,b\n{'x' * 100},y\nc,d\n", limit=50)
    assert [(record.line, record.cut, len(record.text)) for record in found] == [
        (1, False, 4),
        (2, True, 50),
        (3, False, 4),
    ]


def test_time_stays_linear_when_many_quotes_are_open() -> None:
    # Every line opens a quote, and none of those that follow closes it: doubled ones do not.
    text = 'a,"""\n' * 20_000
    found = records(text, limit=1 << 20)
    assert "".join(record.text for record in found) == text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found_when_others_are_in_values(delimiter: str) -> None:
    text = f'id{delimiter}name{delimiter}note\n1{delimiter}"Lee; Ann, Jr | x"{delimiter}a,b;c\n'.replace(
        "a,b;c", "plain"
    )
    assert sniff_delimiter(text, Dialect()) == delimiter


def test_no_delimiter_is_found_in_prose() -> None:
    assert sniff_delimiter("This is no table.\nIt has words\n", Dialect()) == ""


@pytest.mark.parametrize("text", ['"open', '"a"b,c\n'])
def test_short_text_is_refused_when_it_is_broken(text: str) -> None:
    with pytest.raises(MessageError):
        read_fields(text, Dialect())
