"""This module compiles the models of fhir.resources into checks that are quick and say where every fault is.

pydantic would do the same in seven times the time, does not look at value sets, and stops where a resource is inside
another. A check takes a value and returns its faults, places relative to it; nothing at all where there are none.
"""

import re
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from broker.fhir.primitives import LOOSE, PRIMITIVES, Test
from broker.fhir.releases import FULL_CODES, UNCHECKED

# What elements look like; anything else may be a slip that put a value where a name belongs, and is not repeated.
NAME: Final = re.compile(r"_?[a-z][A-Za-z0-9]{0,63}")
_RESOURCE: Final = re.compile(r"[A-Z][A-Za-z]{1,60}")
_INCOMPLETE: Final = frozenset({"+", "etc."})  # what the models write where a list of codes goes on
_DEEPEST: Final = 100  # above what the reader lets in
_MOST: Final = 100  # faults of one element, and what one more below it has


class Fault(NamedTuple):
    """What is wrong at one place: ``code`` is of FHIR's value set issue-type, ``expected`` says what is right.

    A fault is no ``error`` where what is meant is plain, or where what is missing spoils its own element alone.
    """

    place: str  # .name[0].given, relative to what was checked
    code: str
    expected: str
    error: bool = True


Faults = tuple[Fault, ...] | None
Check = Callable[[Any, int], Faults]


class Definition(NamedTuple):
    """One type as it is checked: element name -> check, what must be there, and which exclude each other."""

    elements: dict[str, Check]
    required: tuple[tuple[str, str, Fault], ...]  # name, name of its extension
    choices: tuple[tuple[str, bool, frozenset[str]], ...]  # value[x]: name, whether required, the elements


_NONE: Final[tuple[Fault, ...]] = ()
_NO_TYPE: Final = (Fault(".resourceType", "structure", "a JSON object with a resourceType, such as Patient"),)
_NO_RESOURCE: Final = (Fault(".resourceType", "not-supported", "the name of a resource of FHIR R4"),)
_NO_OBJECT: Final = (Fault("", "structure", f"a JSON object that is not empty, at most {_DEEPEST} levels down"),)
_NO_ARRAY: Final = (Fault("", "structure", "a JSON array that is not empty"),)
_ALONE: Final = Fault("", "structure", "a JSON array", error=False)


def check_resource(value: Any, depth: int = 0) -> Faults:
    """Return the faults of a resource, whatever its type."""
    kind = value.get("resourceType") if type(value) is dict else None
    if type(kind) is not str or not _RESOURCE.fullmatch(kind):
        return _NO_TYPE
    if kind in UNCHECKED:
        return None
    check = resource_check(kind)
    if check is None:
        return _NO_RESOURCE
    return check(value, depth)


@lru_cache(maxsize=2048)
def resource_check(kind: str) -> Check | None:
    """Return the check of a resource by its type, or None when R4 has no such resource."""
    model = _model(kind)
    if model is None or not model.has_resource_base() or kind in {"Resource", "DomainResource"}:
        return None
    return _object(kind)


def is_resource(kind: str) -> bool:
    """Say whether FHIR R4 or R4B has a resource of this name."""
    return kind in UNCHECKED or resource_check(kind) is not None


@lru_cache(maxsize=2048)  # senders may invent names without end
def _model(kind: str) -> Any:
    from fhir.resources.R4B import get_fhir_model_class  # noqa: PLC0415 - costs 200 ms, and only where it is used

    try:
        return get_fhir_model_class(kind)
    except (ValueError, KeyError, ImportError):
        return None


@cache
def _object(kind: str) -> Check:
    """Return the check of a type; its definition is compiled when the first value comes, for types contain types."""
    known: list[Definition] = []

    def check(value: Any, depth: int) -> Faults:
        if type(value) is not dict or not value or depth > _DEEPEST:
            return _NO_OBJECT
        if not known:
            known.append(_definition(kind))
        definition = known[0]
        elements, faults = definition.elements, _NONE
        for name, item in value.items():
            element = elements.get(name)
            if element is None:
                faults = _more(faults, "", [_unknown(name)])
            elif found := element(item, depth + 1):
                faults = _more(faults, f".{name}", found)
        if definition.required or definition.choices:
            faults = _more(faults, "", _missing(definition, value))
        return faults or None

    return check


def _more(faults: tuple[Fault, ...], place: str, found: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults with those found at a place below: as many as anybody reads, and an error whatever came before."""
    if len(faults) >= _MOST:
        if any(fault.error for fault in faults):
            return faults
        found = [fault for fault in found if fault.error][:1]
    below = [Fault(place + fault.place, fault.code, fault.expected, fault.error) for fault in found]
    return (*faults, *below)


def _missing(definition: Definition, value: dict[str, Any]) -> Iterator[Fault]:
    for name, extension, missing in definition.required:
        if name not in value and extension not in value:
            yield missing
    for name, required, elements in definition.choices:
        there = elements & value.keys()
        if len(there) > 1:
            yield Fault(f".{name}[x]", "invariant", "one type of value, not several")
        if required and not there and not any(f"_{element}" in value for element in elements):
            yield Fault(f".{name}[x]", "required", "this element, in one of its types")


def _unknown(name: str) -> Fault:
    place = f".{name}" if NAME.fullmatch(name) else ".?"
    return Fault(place, "structure", "an element that FHIR R4 has here")


def warm(*kinds: str) -> None:
    """Compile these types and all that are inside them now, so that no message pays for it."""
    waiting, seen = list(kinds), set(kinds)
    for kind in waiting:  # grows while it is walked
        model = _model(kind)
        if model is None or kind == "Resource":
            continue
        _definition(kind)
        inner = (_repeats(field.annotation)[1] for field in model.model_fields.values())
        below = {_type_name(each) for each in inner if hasattr(each, "_model_klass")} - seen
        seen |= below
        waiting += sorted(below)


@cache
def _definition(kind: str) -> Definition:
    elements: dict[str, Check] = {"fhir_comments": _anything}
    required: list[tuple[str, str, Fault]] = []
    choices: dict[str, tuple[bool, set[str]]] = {}
    model = _model(kind)
    whole = model.has_resource_base()
    if whole:
        elements["resourceType"] = _anything
    for field in model.model_fields.values():
        name, extra = field.alias, field.json_schema_extra or {}
        if name == "fhir_comments":
            continue
        elements[name] = _element(kind, name, field.annotation, extra)
        if field.is_required() or extra.get("element_required"):
            missing = Fault(f".{name}", "required", "this element, which must be there", error=whole)
            required.append((name, f"_{name}", missing))
        if choice := extra.get("one_of_many"):
            choices.setdefault(choice, (bool(extra.get("one_of_many_required")), set()))[1].add(name)
    return Definition(
        elements,
        tuple(required),
        tuple((name, must, frozenset(names)) for name, (must, names) in choices.items()),
    )


def _anything(_value: Any, _depth: int) -> Faults:
    return None


def _element(kind: str, name: str, annotation: Any, extra: dict[str, Any]) -> Check:
    repeats, inner = _repeats(annotation)
    if name.startswith("_"):
        one = _object("Element")
        return _many(one, gaps=True) if repeats else one
    primitive = _primitive(inner)
    if primitive is None:
        type_name = _type_name(inner)
        one = check_resource if type_name == "Resource" else _object(type_name)
    else:
        one = _value(kind, name, primitive, extra)
    return _many(one, gaps=primitive is not None) if repeats else one


def _value(kind: str, name: str, primitive: str, extra: dict[str, Any]) -> Check:
    test, expected = (_points, _POINTER) if (kind, name) == ("Reference", "reference") else PRIMITIVES[primitive]
    loose: Test = LOOSE.get(primitive, _never)
    codes = dict.fromkeys(FULL_CODES.get((kind, name), extra.get("enum_values") or ()))
    closed = codes if primitive == "code" and codes and not _INCOMPLETE & codes.keys() else None
    wrong, doubtful = (Fault("", "value", expected),), (Fault("", "value", expected, error=False),)
    other = (Fault("", "code-invalid", f"one of {', '.join(closed or ())}"),)

    def check(value: Any, _depth: int) -> Faults:
        if not test(value):
            return doubtful if loose(value) else wrong
        return other if closed is not None and value not in closed else None

    return check


def _never(_value: Any) -> bool:
    return False


_POINTER: Final = "a reference: #id, a URL, or Type/id with a resource of FHIR R4"
_RELATIVE: Final = re.compile(r"([A-Za-z]+)[/?].")


def _points(value: Any) -> bool:
    """Say whether a text is a reference, of whose kinds only a relative one names a type that can be wrong."""
    if type(value) is not str or not value.strip():
        return False
    found = _RELATIVE.match(value)
    return found is None or is_resource(found[1])


def _many(one: Check, *, gaps: bool) -> Check:
    """Return the check of a list; a list of primitives has ``null`` where only an extension is."""

    def check(value: Any, depth: int) -> Faults:
        if type(value) is dict:  # one alone, as STU3 had it and some still send
            return (_ALONE, *(one(value, depth) or ()))
        if type(value) is not list or not value:
            return _NO_ARRAY
        faults = _NONE
        for index, item in enumerate(value):
            if item is None and gaps:
                continue
            if found := one(item, depth):
                faults = _more(faults, f"[{index}]", found)
        return faults or None

    return check


def _repeats(annotation: Any) -> tuple[bool, Any]:
    """Return whether an element is a list, and its type without Optional."""
    repeats = False
    while True:
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is list:
            repeats, annotation = True, parts[0]
        elif origin is not None and type(None) in parts:
            annotation = next(part for part in parts if part is not type(None))
        else:
            return repeats, annotation


def _primitive(annotation: Any) -> str | None:
    if annotation is bool:
        return "boolean"
    if typing.get_origin(annotation) is typing.Annotated:
        for mark in annotation.__metadata__:
            name = str(getattr(mark, "__visit_name__", ""))
            name = {"UuidVersion": "uuid"}.get(type(mark).__name__, name)
            if name in PRIMITIVES:
                return _INTEGERS.get(type(mark).__name__, name)
    return None


_INTEGERS: Final = {"UnsignedInt": "unsignedInt", "PositiveInt": "positiveInt", "Integer": "integer"}


def _type_name(annotation: Any) -> str:
    return str(annotation._model_klass).rpartition(".")[2]  # noqa: SLF001 - the one place where the library keeps it
