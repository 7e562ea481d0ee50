"""This module holds the filters that expressions and templates may use after ``|``, and nothing else is one.

``None`` (not said) passes through filters that change text, so that a missing value stays missing; only `required` and
`default` decide about it. What a filter returns is never longer than `LIMIT` characters. Errors carry no value.
"""

import html
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Undefined

from transforms.jinja_events import EVENT_FILTERS
from transforms.phone import e164
from transforms.times import date_by, fhir_date
from transforms.to_fhir import as_text

_POSSESSIVE: Final = re.compile(r"'S\b")
LIMIT: Final = 1_000_000  # characters of any one value, and of a rendered template


class Refused(ValueError):
    """A filter or operator cannot be applied; the text holds no value of the message."""


class Json(str):
    """Text that is JSON already."""

    __slots__ = ()


def bounded(text: str) -> str:
    """Return the text, or raise `Refused` when it is longer than `LIMIT`."""
    if len(text) > LIMIT:
        raise Refused(f"a value is longer than {LIMIT} characters")
    return text


def plain(value: object) -> str:
    """Return a value as people write it: nothing for None, ``true`` and ``false``; raise `Refused` for structures."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str | int | float | Decimal):
        return str(value)
    if isinstance(value, Undefined):
        str(value)  # raises: the name is not defined
    raise Refused(f"{_kind(value)} is not text; name one of its fields")


def _kind(value: object) -> str:
    word = "list" if isinstance(value, list | tuple) else type(value).__name__.lower()
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


def _on_text(function: Callable[[str], str]) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        return None if value is None else function(plain(value))

    return apply


def _title(text: str) -> str:
    """Capitalise each word, also after a hyphen or an apostrophe: O'HARA-SMITH becomes O'Hara-Smith."""
    return _POSSESSIVE.sub("'s", text.title())


def _default(value: Any, other: Any = "") -> Any:
    return other if value is None or isinstance(value, Undefined) or value == "" else value


def _required(value: Any) -> Any:
    if value is None or isinstance(value, Undefined) or value == "":
        raise Refused("is required, but the message has no value for it")
    return value


def _replace(value: Any, old: str, new: str) -> Any:
    if value is None:
        return None
    text = plain(value)
    if not old:
        raise Refused("replace needs the text to look for")
    if len(text) + text.count(old) * (len(new) - len(old)) > LIMIT:
        raise Refused(f"a value is longer than {LIMIT} characters")
    return text.replace(old, new)


def _truncate(value: Any, length: int = 255, end: str = "…") -> Any:
    if value is None:
        return None
    text = plain(value)
    if not 0 <= length <= LIMIT or len(end) > length:
        raise Refused(f"truncate needs a length of {len(end)} to {LIMIT}")
    return text if len(text) <= length else text[: length - len(end)] + end


def _first(value: Sequence[Any] | None) -> Any:
    return value[0] if value else None


def _last(value: Sequence[Any] | None) -> Any:
    return value[-1] if value else None


def _length(value: Any) -> int:
    return 0 if value is None else len(value)


def _join(value: Any, between: str = "") -> str:
    parts = [plain(part) for part in value or () if part is not None]
    if sum(map(len, parts)) + len(between) * len(parts) > LIMIT:
        raise Refused(f"a value is longer than {LIMIT} characters")
    return between.join(parts)


def _int(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Refused("is not a whole number") from None


def _phone(value: Any, region: str | None = None) -> str | None:
    return e164(plain(value), region) if value else None


def _date(value: Any, pattern: str = "") -> Any:
    if not value:
        return value
    date = date_by(plain(value), pattern) if pattern else fhir_date(plain(value))
    if date is None:
        raise Refused(f"is not a date ({pattern or 'YYYY[MM[DD]]'})")
    return date


def concat(parts: Sequence[Any]) -> str:
    """Join what stands between ``~``; None gives nothing."""
    return _join(parts)


def cut(value: Any, *bounds: int | None) -> Any:
    """Return what ``[start:stop:step]`` cuts out of a text or list; None gives None."""
    if value is None:
        return None
    if not isinstance(value, str | list | tuple):
        raise Refused("only a text or a list can be cut")
    return value[slice(*bounds)]


def as_json(value: Any) -> Json:
    """Return a value as JSON text."""
    if isinstance(value, Undefined):
        str(value)  # raises: the name is not defined
    return Json(bounded(as_text(value)))


def inside_json_string(value: Any) -> Json:
    """Return a value as it stands between the quotes of a JSON string."""
    return Json(as_json(plain(value))[1:-1])


def _refusing(write: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter whose own errors, which hold no value, are told as they are."""

    def apply(value: Any, *args: Any, **options: Any) -> Any:
        try:
            return write(value, *args, **options)
        except (TypeError, ValueError) as error:
            raise Refused(str(error)) from None

    return apply


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "date": _date,
    "default": _default,
    "first": _first,
    "int": _int,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": _on_text(str.lower),
    "phone": _phone,
    "replace": _replace,
    "required": _required,
    "string": plain,
    "title": _on_text(_title),
    "trim": _on_text(str.strip),
    "truncate": _truncate,
    "urlencode": _on_text(lambda text: bounded(quote(text, safe=""))),
    "upper": _on_text(lambda text: bounded(text.upper())),
    "xml": _on_text(lambda text: bounded(html.escape(text))),
    **{name: _refusing(write) for name, write in EVENT_FILTERS.items()},
}

# Only where the output is JSON.
JSON_FILTERS: Final[dict[str, Callable[..., Any]]] = {"tojson": as_json}

# Put in by the compiler, never written by people: a name that begins with an underscore is refused.
INNER_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "_concat": concat,
    "_cut": cut,
    "_inside": inside_json_string,
}
