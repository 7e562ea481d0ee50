"""This module reads JSON strictly: what one reader would take otherwise than the next is refused, with its place."""

import codecs
import json
import re
from collections.abc import Iterator
from decimal import Decimal, DecimalException
from json.scanner import c_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final, NoReturn

import orjson

from broker.errors import MessageError

LARGEST: Final = 16 * 1024 * 1024
DEEPEST: Final = 64
MOST: Final = 400_000  # commas: what bounds the time

_LOCATED: Final = 1024 * 1024  # characters; in longer ones the place of a key would cost seconds

_BOM: Final = b"\xef\xbb\xbf"
_WIDE_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_WIDEST: Final = 4  # bytes of a character
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)
_BLANK: Final = " \t\n\r"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(data: bytes, *, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Return the value that UTF-8 JSON (RFC 8259) holds; a number with a fraction or exponent is a `Decimal`.

    Raises `MessageError` with line and column, and nothing of the content, for what is no JSON, holds a key twice in
    one object, NaN, half a surrogate pair or control characters, or is larger (bytes) or deeper than allowed.
    """
    _bound(data, largest)
    text = _text(data.removeprefix(_BOM))
    value, end = _scan(text, deepest)
    rest = text[end:].lstrip(_BLANK)
    if rest:
        _fail(text, len(text) - len(rest), "the value has ended, and something follows it; send one value alone")
    if _SURROGATE.search(data):
        _complete(data, text)
    _shallow(value, text, deepest)
    return value


def _bound(data: bytes, largest: int) -> None:
    if len(data) > largest:
        raise MessageError(f"the JSON has {len(data)} bytes, and {largest} are allowed; send it in parts")
    if data.count(b",") > MOST:
        raise MessageError(f"the JSON has more than {MOST} commas, so far too many values; send it in parts")


def _scan(text: str, deepest: int) -> tuple[Any, int]:
    """Return the first value and where it ends."""
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = _READER(text, start)
    except _DuplicateKey:
        _twice(text)
    except StopIteration as stop:
        _fail(text, int(stop.value or 0), "a JSON value was expected")
    except json.JSONDecodeError as error:
        _fail(text, error.pos, _said(error.msg))
    except RecursionError:
        _too_deep(text, deepest)
    except _NoNumber as error:
        _fail(text, _number(text, str(error)), "a number that JSON or FHIR does not know")
    return value, int(end)


class _DuplicateKey(Exception):
    """An object has a key twice."""


class _NoNumber(Exception):
    """A number cannot be held; carries it as sent, for its place to be found."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKey
    return value


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except DecimalException:
        raise _NoNumber(text) from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # more digits than Python turns into a number
        raise _NoNumber(text) from None


def _constant(text: str) -> NoReturn:
    raise _NoNumber(text)


_READER: Final = c_make_scanner(
    json.JSONDecoder(
        object_pairs_hook=_object, parse_float=_decimal, parse_int=_integer, parse_constant=_constant, strict=True
    )
)


def _text(data: bytes) -> str:
    if data.startswith(_WIDE_MARKS) or b"\0" in data[:_WIDEST]:
        _fail("", 0, "UTF-16 or UTF-32, and no UTF-8; JSON between systems is UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        _fail(before, len(before), "a byte that is no UTF-8; JSON between systems is UTF-8")


def _fail(text: str, position: int, what: str) -> NoReturn:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    place = f"line {line}, column {column}"
    raise MessageError(f"not usable JSON: {place}: {what}", location=place)


def _said(message: str) -> str:
    """Return the library's own words where they are known to hold nothing of the content."""
    return message[:1].lower() + message[1:] if re.fullmatch(r"[A-Za-z ',:\"\\/]{1,80}", message) else "no JSON"


def _shallow(value: Any, text: str, deepest: int) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(deepest):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    _too_deep(text, deepest)


def _too_deep(text: str, deepest: int) -> NoReturn:
    position, depth = 0, 0
    for found in _TOKEN.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth > deepest:
            position = found.start()
            break
    _fail(text, position, f"nested deeper than {deepest} levels")


def _twice(text: str) -> NoReturn:
    what = "an object has the same key twice; which one counts nobody can say"
    if len(text) > _LOCATED:
        raise MessageError(f"not usable JSON: {what} (too long to say where)") from None
    _fail(text, _duplicate(text), what)


def _duplicate(text: str) -> int:
    """Return where the first key stands that its object has already."""
    known: list[set[str] | None] = []
    for key, position, opened in _keys(text):
        if opened:
            known.append(set() if opened == "{" else None)
        elif not key:
            known.pop()
        elif (there := known[-1]) is not None:
            name = json.loads(key, strict=False)
            if name in there:
                return position
            there.add(name)
    return 0


def _keys(text: str) -> Iterator[tuple[str, int, str]]:
    """Give keys with their places, openings (``{``, ``[``) and, as nothing, closings."""
    last, place = "", 0
    for found in _TOKEN.finditer(text):
        part = found[0]
        if part in "{[":
            yield "", found.start(), part
        elif part in "}]":
            yield "", found.start(), ""
        elif part == ":":
            yield last, place, ""
        last, place = part, found.start()


def _number(text: str, number: str) -> int:
    """Return where a number stands outside of strings."""
    blanked = re.sub(r'"(?:[^"\\]|\\.)*"', lambda found: " " * len(found[0]), text)
    return max(blanked.find(number), 0)


def _complete(data: bytes, text: str) -> None:
    """Refuse half a surrogate pair, which cannot be written as UTF-8 again."""
    try:
        orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        _fail(text, error.pos, "an escape that is half a character (a lone surrogate)")
