"""This module writes canonical events as JSON and reads them back, strictly; it also gives their JSON Schema.

What is not said is left out (half of the fields, in most messages), so reading fills in the defaults of the model.
"""

import dataclasses
import typing
from collections.abc import Callable
from functools import cache
from types import GenericAlias, UnionType
from typing import Any, Final

import orjson

from broker.canonical import model
from broker.canonical.model import KINDS, Event
from broker.errors import MessageError


def encode(event: Event) -> bytes:
    """Return an event as JSON, without what is None or empty."""
    return orjson.dumps(as_json(event))


def as_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON values, without what is None or empty."""
    return _ENCODERS["Event"](event)


def part_as_json(part: Any) -> dict[str, Any]:
    """Return a part of an event (a patient, an encounter) as `as_json` has it."""
    return _ENCODERS[type(part).__name__](part)


def decode(data: bytes) -> Event:
    """Return the event that `encode` wrote; fields that are not known are passed over.

    Raises `MessageError` with the place (``patient.birth_date``) where something is missing or of another type.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - as in `_adapter`

    try:
        event: Event = _adapter().validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MessageError(f"not a canonical event: {place or 'the text'}: {first['msg']}", location=place) from None
    if event.kind not in KINDS:
        raise MessageError(f"not a canonical event: its kind is none of {', '.join(KINDS)}", location="kind")
    return event


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an event."""
    schema: dict[str, Any] = _adapter().json_schema()
    schema["properties"]["kind"] = {"title": "Kind", "type": "string", "enum": list(KINDS)}
    return schema


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415 - a worker process only encodes

    return TypeAdapter(Event)


_MODEL: Final = frozenset(kind for kind in vars(model).values() if isinstance(kind, type))


def _encoders(kind: type) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """Write and compile the functions that turn a type of the model, and those in it, into dictionaries.

    Compiled code takes a third of the time of a loop over the fields; `dataclasses` makes ``__init__`` the same way.
    """
    functions: dict[str, Any] = {}
    for each in _reachable(kind):
        exec(_source(each), functions)  # noqa: S102 - the source is made of the model's own names
    return functions


def _source(kind: type) -> str:
    lines = [f"def {kind.__name__}(o):", " d = {}"]
    for field in dataclasses.fields(kind):
        element, repeats = _element(_hints(kind)[field.name])
        value = "v"
        if element is not None:
            value = f"[{element.__name__}(e) for e in v]" if repeats else f"{element.__name__}(v)"
        # False is said, None is not; an empty text or list says nothing where that is the default.
        test = {dataclasses.MISSING: "True", None: "v is not None"}.get(field.default, "True" if field.default else "v")
        lines += [f" v = o.{field.name}", f" if {test}: d[{field.name!r}] = {value}"]
    return "\n".join([*lines, " return d"])


def _reachable(kind: type) -> list[type]:
    found = [kind]
    for each in found:  # grows while it is walked
        elements = (_element(hint)[0] for hint in _hints(each).values())
        found += [element for element in elements if element is not None and element not in found]
    return found


def _element(hint: Any) -> tuple[type | None, bool]:
    """Return the type of the model in a field's type, if there is one, and whether the field is a list of it."""
    if isinstance(hint, UnionType):
        hint = next(part for part in hint.__args__ if part is not type(None))
    repeats = isinstance(hint, GenericAlias)
    element: type = hint.__args__[0] if repeats else hint
    return (element if element in _MODEL else None), repeats


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


_ENCODERS: Final = _encoders(Event)
