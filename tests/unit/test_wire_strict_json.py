"""JSON is read strictly: exactly, with a place for everything that is wrong, and with nothing of what was sent."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.wire.strict_json import MOST, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_what_json_writes_is_read_back(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert read_json(text.encode()) == value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_bytes_are_read_as_json_reads_them_or_refused(data: bytes) -> None:
    try:
        value = read_json(data)
    except MessageError:
        return
    assert json.loads(data.removeprefix(b"\xef\xbb\xbf"), parse_float=Decimal) == value


@pytest.mark.parametrize("number", ["1.50", "0.10", "-0.000", "123456789.0123456789", "1E+3"])
def test_decimals_keep_their_digits(number: str) -> None:
    assert str(read_json(f"[{number}]".encode())[0]) == number


def test_byte_order_mark_and_blanks_around_are_taken() -> None:
    assert read_json(b"\xef\xbb\xbf \r\n[1]\n") == [1]


@pytest.mark.parametrize(
    ("data", "place", "told"),
    [
        (b"", "line 1, column 1", "a JSON value was expected"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6", "':' delimiter"),
        (b'{"a": [1, 2}', "line 1, column 12", "',' delimiter"),
        (b"[1]\n[2]", "line 2, column 1", "something follows it"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "line 1, column 24", "same key twice"),
        (b'[{"a": 1}, {"a": 1,\n"\\u0061": 2}]', "line 2, column 1", "same key twice"),
        (b'{"a": "}", "b": "\\"a", "a": 1}', "line 1, column 24", "same key twice"),
        (b'["1", NaN]', "line 1, column 7", "a number"),
        (b"[-Infinity]", "line 1, column 2", "a number"),
        (b"[1e999999999999999999999]", "line 1, column 2", "a number"),
        (b"[" + b"9" * 5000 + b"]", "line 1, column 2", "a number"),
        (b'["\\ud800"]', "line 1, column", "half a character"),
        (b'["a\tb"]', "line 1, column 4", "control character"),
        (b'["\xff"]', "line 1, column 3", "no UTF-8"),
        ('["a"]'.encode("utf-16"), "line 1, column 1", "no UTF-8"),
        (b"[" * 65 + b"]" * 65, "line 1, column 65", "nested deeper than 64"),
        (b"[" * 500_000, "line 1, column 65", "nested deeper than 64"),
        (b'{"a":' * 90 + b"1" + b"}" * 90, "column 321", "nested deeper than 64"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(data: bytes, place: str, told: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_json(data)
    assert place in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("data", [b'{"Okafor": 1, "Okafor": 2}', b'["Okafor\n"]', b'{"Okafor" 1}', b"[Okafor]"])
def test_errors_hold_nothing_of_the_content(data: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        read_json(data)
    assert "Okafor" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'["' + b"x" * 100 + b'"]', "has 104 bytes"),
        (b"[" + b"1," * 20 + b"1]", ""),
    ],
)
def test_size_is_bounded(data: bytes, told: str) -> None:
    if told:
        with pytest.raises(MessageError, match=told):
            read_json(data, largest=100)
    else:
        assert read_json(data, largest=100)


def test_number_of_values_is_bounded() -> None:
    with pytest.raises(MessageError, match="too many values"):
        read_json(b"[" + b"1," * (MOST + 1) + b"1]")


def test_duplicate_key_in_a_long_text_is_refused_without_a_search_for_its_place() -> None:
    data = b'{"a":"' + b"x" * 1_200_000 + b'","b":1,"b":2}'
    with pytest.raises(MessageError, match="too long to say where"):
        read_json(data)
