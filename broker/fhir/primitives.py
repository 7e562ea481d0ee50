"""This module says of a JSON value whether it is what a primitive type of FHIR R4 allows (datatypes.html#primitive)."""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

Test = Callable[[Any], bool]

_DATE: Final = re.compile(r"(\d{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)
_CLOCK: Final = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
_OFFSET: Final = r"(?:Z|[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00))"
_MOMENT: Final = re.compile(rf"(\d{{4}}-\d\d-\d\d)T{_CLOCK}{_OFFSET}", re.ASCII)
_LONGEST: Final = 1024 * 1024  # of a string, in characters
_LARGEST: Final = 2_147_483_647


def _string(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= _LONGEST and bool(value.strip()) and _no_controls(value)


_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _no_controls(value: str) -> bool:
    return value.isprintable() or not _CONTROLS.search(value)


def _text(pattern: str) -> Test:
    match = re.compile(pattern, re.ASCII).fullmatch

    def test(value: Any) -> bool:
        return type(value) is str and match(value) is not None

    return test


def _whole(least: int) -> Test:
    def test(value: Any) -> bool:
        return type(value) is int and least <= value <= _LARGEST

    return test


def _boolean(value: Any) -> bool:
    return value is True or value is False


def _decimal(value: Any) -> bool:
    return type(value) in {int, Decimal, float}


@lru_cache(maxsize=8192)
def _is_date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    if found is None or found[1] == "0000":
        return False
    if found[3] is None or found[3] < "29":
        return True
    try:
        date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return False
    return True


def _date(value: Any) -> bool:
    return type(value) is str and _is_date(value)


def _instant(value: Any) -> bool:
    if type(value) is not str:
        return False
    found = _MOMENT.fullmatch(value)
    return found is not None and _is_date(found[1])


def _datetime(value: Any) -> bool:
    return _date(value) if type(value) is str and len(value) <= len("2026-11-20") else _instant(value)


_BASE64: Final = re.compile(r"[0-9A-Za-z+/]*={0,2}", re.ASCII)
_SPACE: Final = re.compile(r"\s+")


def _base64(value: Any) -> bool:
    if type(value) is not str or not value:
        return False
    if _BASE64.fullmatch(value) is None:
        value = _SPACE.sub("", value)
        if _BASE64.fullmatch(value) is None:
            return False
    return len(value) % 4 == 0


# Type -> its test, and what is expected, for the reader of an error.
PRIMITIVES: Final[dict[str, tuple[Test, str]]] = {
    "boolean": (_boolean, "true or false, without quotes"),
    "integer": (_whole(-_LARGEST - 1), "a whole number"),
    "unsignedInt": (_whole(0), "a whole number from 0"),
    "positiveInt": (_whole(1), "a whole number from 1"),
    "decimal": (_decimal, "a number, without quotes"),
    "string": (_string, "a text that is not blank"),
    "markdown": (_string, "a text that is not blank"),
    "xhtml": (_text(r"(?s)\s*(?:<\?xml.{0,200}?\?>\s*)?<div\b.*</div>\s*|\s*<div\b[^>]*/>\s*"), "XHTML in one div"),
    "code": (_text(r"[^\s]+(?:\s[^\s]+)*"), "a code, without blanks around it"),
    "id": (_text(r"[A-Za-z0-9.-]{1,64}"), "an id: up to 64 letters, digits, - and ."),
    "uri": (_text(r"\S*"), "a URI, without blanks"),
    "url": (_text(r"\S*"), "a URL, without blanks"),
    "canonical": (_text(r"\S*"), "a canonical URL, without blanks"),
    "oid": (_text(r"urn:oid:[0-2](?:\.(?:0|[1-9]\d*))+"), "urn:oid: and an OID"),
    "uuid": (_text(r"urn:uuid:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "urn:uuid: and a UUID"),
    "date": (_date, "a date: YYYY, YYYY-MM or YYYY-MM-DD"),
    "dateTime": (_datetime, "a date, or a time such as 2026-11-20T10:30:00+01:00"),
    "instant": (_instant, "a time such as 2026-11-20T10:30:00.000+01:00"),
    "time": (_text(_CLOCK), "a time of day: hh:mm:ss"),
    "base64Binary": (_base64, "base64"),
}


_LOCAL: Final = re.compile(rf"(\d{{4}}-\d\d-\d\d)T{_CLOCK}", re.ASCII)


def _local(value: Any) -> bool:
    found = _LOCAL.fullmatch(value) if type(value) is str else None
    return found is not None and _is_date(found[1])


def _blank(value: Any) -> bool:
    return type(value) is str and not value.strip()


def _spaced(value: Any) -> bool:
    return _string(value) or _blank(value)


# What is not allowed, and yet plain: a time without its offset, a URI with blanks, a long id, a text that says nothing.
LOOSE: Final[dict[str, Test]] = {
    "dateTime": _local,
    "instant": _local,
    "uri": _spaced,
    "url": _spaced,
    "canonical": _spaced,
    "id": _string,
    "string": _blank,
    "markdown": _blank,
}
