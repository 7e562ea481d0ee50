"""This module makes canonical events as messages give them: any field may be missing, any text may hold anything."""

import dataclasses
import typing
from base64 import b64encode
from functools import cache
from types import GenericAlias, UnionType
from typing import Any, Final

from hypothesis import strategies as st

from broker.canonical.model import KINDS, Event, Identifier

# Anything that survives a channel of text: letters of all kinds, separators of HL7, quotes, line ends.
_TEXTS: Final = (
    "Okafor", "de la Cruz", "O'Hara-Smith", "Müller", "山田", "🙂", "a|b", "^", "~x", "R&D", "back\\slash", "\\F\\",
    "\\.br\\", "#", "two\nlines", "cr\rlf\r\n.", "tab\tbed", "x\x0by", "<b>&amp;</b>", '"quoted"', "'", "0", "007",
    "a, b", "1%", "-",
)  # fmt: skip
TEXT: Final = st.sampled_from(_TEXTS)
WORD: Final = st.text(st.sampled_from("ABCXYZ0123456789-."), min_size=1, max_size=8)
DAY: Final = st.dates().filter(lambda day: day.year >= 1000).map(str)
DATE: Final = st.one_of(DAY, DAY.map(lambda day: day[:7]), DAY.map(lambda day: day[:4]))
OFFSET: Final = st.sampled_from(["", "", "Z", "-05:00", "+02:15", "+14:00"])
TIME: Final = st.builds(
    lambda day, hour, minute, second, offset: f"{day}T{hour:02}:{minute:02}:{second:02}{offset}",
    DAY, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), OFFSET,
)  # fmt: skip
WHEN: Final = st.one_of(DATE, TIME)

_SYSTEM: Final = st.sampled_from(
    ["", "MERCY", "LN", "I10", "HL70063", "urn:oid:1.2.3.4", "http://x.org/y", "My lab", "L"]
)
_VALUE: Final = st.one_of(
    TEXT, st.sampled_from(["5.10", "-1", "007", "1:128", "3-5", "10:30:00", "2024-05-01", "true"])
)
# What a field holds, by its name, where it is not any text.
FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "system": _SYSTEM,
    "value": _VALUE,
    "type": st.one_of(st.sampled_from(["", "MR", "SS", "NPI", "AN", "VN"]), TEXT),
    "sex": st.sampled_from(["male", "female", "other", "unknown"]),
    "subscriber_sex": st.sampled_from(["male", "female", "other", "unknown"]),
    "birth_date": DATE,
    "subscriber_birth_date": DATE,
    "expires_on": DAY,
    "encoding": st.sampled_from([None, "base64"]),
    "data": st.one_of(TEXT, st.binary(max_size=9).map(lambda data: b64encode(data).decode())),
    "content_type": st.sampled_from([None, "text/plain", "application/pdf"]),
    "url": st.sampled_from([None, "http://x.org/a.pdf"]),
    "size": st.integers(0, 9),
    "minutes": st.integers(-1, 999),
    "language": st.sampled_from([None, "en", "eng", "English (US)"]),
    "birth_order": st.integers(1, 5),
    "rank": st.integers(-1, 5),
    "value_type": st.sampled_from(
        [None, "quantity", "string", "concept", "datetime", "time", "range", "ratio", "attachment", "boolean"]
    ),
    "kind": st.one_of(st.sampled_from([None, "request", "statement", "dispense", "administration"]), WORD),
}


def of(hint: Any, name: str = "") -> st.SearchStrategy[Any]:
    """Build values of a type of the model, as the field of that name holds them."""
    if isinstance(hint, UnionType):
        return st.one_of(*[st.none() if part is type(None) else of(part, name) for part in hint.__args__])
    if isinstance(hint, GenericAlias):
        return st.lists(of(hint.__args__[0], name), max_size=2).map(tuple)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _structure(hint)
    if name.endswith("_at"):
        return WHEN
    if name in FIELDS and hint in {str, int}:
        return FIELDS[name]
    return {str: TEXT, bool: st.booleans(), int: st.integers(0, 99)}[hint]


@cache
def _structure(hint: type) -> st.SearchStrategy[Any]:
    strategies = {name: of(part, _named(hint, name)) for name, part in typing.get_type_hints(hint).items()}
    needed = {field.name for field in dataclasses.fields(hint) if field.default is dataclasses.MISSING}
    said = {name: strategies.pop(name) for name in needed}
    return st.fixed_dictionaries(said, optional=strategies).map(lambda values: hint(**values))


def _named(hint: type, name: str) -> str:
    """Return the name that decides on a field's values: a reference's type is a resource, and no type of table 0203."""
    return {"Attachment.url": "url", "Reference.type": "", "Reference.id": ""}.get(f"{hint.__name__}.{name}", name)


# An event of a message has a few parts, never all; and the canonical step lets none pass without a record number.
_PARTS: Final = {
    name: hint for name, hint in typing.get_type_hints(Event).items() if name not in {"kind", "cleared", "unread"}
}
_NEEDED: Final = ("source", "patient")


@st.composite
def _events(draw: st.DrawFn, *parts: str) -> Event:
    more = draw(st.sets(st.sampled_from(sorted(set(_PARTS) - set(_NEEDED))), max_size=2))
    names = dict.fromkeys((*_NEEDED, *parts, *sorted(more)))
    values = {name: draw(of(_PARTS[name], name) if name not in parts else _said(_PARTS[name])) for name in names}
    values["patient"] = dataclasses.replace(
        values["patient"], mrn=Identifier(value=draw(WORD), system="MERCY", type="MR")
    )
    return Event(kind=draw(st.sampled_from(list(KINDS))), **values)


def _said(hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(hint, GenericAlias):
        return st.lists(of(hint.__args__[0]), min_size=1, max_size=2).map(tuple)
    return of(next(part for part in hint.__args__ if part is not type(None)))


def events_with(*parts: str) -> st.SearchStrategy[Event]:
    """Build events that have these parts, such as an appointment."""
    return _events(*parts)


EVENTS: Final = _events()
