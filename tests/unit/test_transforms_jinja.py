"""This module tests the filters and operators of expressions one by one, at their limits."""

from typing import Any

import pytest

from broker.canonical.model import Patient
from transforms.jinja import StrictEnvironment, environment
from transforms.jinja_filters import LIMIT, Refused

STRICT = environment()
FILTERS = STRICT.filters


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("upper", ("ab",), "AB"),
        ("lower", ("AB",), "ab"),
        ("trim", (" a ",), "a"),
        ("title", ("O'HARA-SMITH",), "O'Hara-Smith"),
        ("title", ("ST MARY'S",), "St Mary's"),
        ("upper", (True,), "TRUE"),
        ("string", (None,), ""),
        ("string", (False,), "false"),
        ("string", (2.5,), "2.5"),
        ("default", ("", "x"), "x"),
        ("default", (0, "x"), 0),
        ("default", (None,), ""),
        ("required", ("a",), "a"),
        ("replace", ("banana", "an", "o"), "booa"),
        ("replace", (None, "a", "b"), None),
        ("truncate", ("abc", 3), "abc"),
        ("truncate", ("abcd", 3), "ab…"),
        ("truncate", ("abcd", 2, ""), "ab"),
        ("truncate", (None,), None),
        ("first", ([1, 2],), 1),
        ("first", ((),), None),
        ("last", ("ab",), "b"),
        ("last", (None,), None),
        ("length", (None,), 0),
        ("length", ([1],), 1),
        ("join", (["a", None, 1], ", "), "a, 1"),
        ("join", (None,), ""),
        ("int", ("042",), 42),
        ("int", ("",), None),
        ("int", (None,), None),
        ("phone", (None, "US"), None),
        ("phone", ("", "US"), None),
        ("date", ("19620910",), "1962-09-10"),
        ("date", ("",), ""),
        ("date", (None,), None),
    ],
)
def test_filter_gives(name: str, arguments: tuple[Any, ...], expected: Any) -> None:
    assert FILTERS[name](*arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("upper", ({},)),
        ("upper", ("ß" * (LIMIT // 2 + 1),)),
        ("required", ("",)),
        ("replace", ("a", "", "b")),
        ("replace", ("a" * 1001, "a", "b" * 1000)),
        ("truncate", ("abc", 0)),
        ("truncate", ("abc", LIMIT + 1)),
        ("join", (["a" * 1000] * 1001,)),
        ("join", (["", ""], "a" * LIMIT)),
        ("int", ("9" * 5000,)),
        ("int", ([],)),
        ("date", ("yesterday",)),
        ("_cut", ({}, 1, 2, None)),
    ],
)
def test_filter_refuses_without_showing_the_value(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(Refused) as caught:
        FILTERS[name](*arguments)
    assert "yesterday" not in str(caught.value)


@pytest.mark.parametrize(
    ("sign", "left", "right"),
    [
        ("+", "a" * LIMIT, "b"),
        ("+", [1] * 9_999, (1, 2)),
        ("+", "a", 1),
        ("+", None, 1),
        ("*", "a", 3),
        ("*", 10**10, 10**10),
        ("**", 10, 61),
        ("**", 10**7, 2),
        ("**", 10, 19),
        ("**", -8, 0.5),
        ("%", "%s", 1),
    ],
)
def test_operator_refuses_what_would_grow(sign: str, left: Any, right: Any) -> None:
    with pytest.raises(Refused):
        STRICT.binop_table[sign](left, right)


def test_nothing_is_reached_but_keys_fields_and_items() -> None:
    patient = Patient(family="A")
    undefined = STRICT.undefined
    assert STRICT.getattr(patient, "family") == "A"
    assert STRICT.getattr({"a": 1}, "a") == 1
    assert STRICT.getattr(None, "anything") is None
    assert STRICT.getitem(None, 3) is None
    assert STRICT.getitem("abc", -1) == "c"
    for found in (
        STRICT.getattr(patient, "__class__"),
        STRICT.getattr({"a": 1}, "keys"),
        STRICT.getattr("a", "upper"),
        STRICT.getitem("abc", 3),
        STRICT.getitem([1], True),  # a truth value is no number of an item
        STRICT.getitem({1: 2}, 1),
    ):
        assert isinstance(found, undefined)
    with pytest.raises(Exception, match="undefined"):
        STRICT.getattr(STRICT.undefined(name="x"), "y")
    with pytest.raises(Exception, match="undefined"):
        STRICT.getitem(STRICT.undefined(name="x"), 1)
    with pytest.raises(Exception, match="undefined"):
        STRICT.binop_table["+"](STRICT.undefined(name="x"), 1)


def test_environment_is_one_for_each_kind_and_has_nothing_to_call() -> None:
    assert environment("json") is environment("json")
    assert "tojson" in environment("json").filters
    assert "tojson" not in FILTERS
    assert not STRICT.globals
    assert isinstance(STRICT, StrictEnvironment)
    assert not STRICT.is_safe_attribute("a", "upper", None)
    assert not STRICT.is_safe_callable(len)
