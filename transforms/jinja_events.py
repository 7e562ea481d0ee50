"""This module holds the filters that write an event: ``event | fhir('Patient')`` and ``event | hl7('ADT^A08')``.

What is written as a constant is checked when a channel is loaded (`mistake_in`), the rest when a message comes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from broker.canonical.model import Event
from transforms.dictionary import check_location
from transforms.mistakes import nearest
from transforms.to_fhir import NAMES, fhir_of
from transforms.to_hl7 import TYPES, VERSIONS, to_hl7


class Hl7(str):
    """Text that is a whole HL7 v2 message already."""

    __slots__ = ()


def fhir(value: Any, name: str = "Bundle", *, zone: str | None = None) -> dict[str, Any]:
    """Return an event as a FHIR R4 resource, or as one transaction; raise `ValueError` for what cannot be written."""
    return fhir_of(_event(value), _known("fhir", {"name": name, "zone": zone})["name"], zone)


def hl7(
    value: Any,
    type: str | None = None,  # noqa: A002 - what analysts write
    *,
    version: str = "2.5.1",
    sending: str = "HANDOFF",
    receiving: str = "",
    control_id: str | None = None,
    at: str | None = None,
    optional: str = "",
) -> Hl7:
    """Return an event as an HL7 v2 message; raise `ValueError` for what cannot be written.

    ``optional`` names fields that may be missing though the version requires them: ``OBX-11, IN1-3``.
    """
    _known("hl7", {"type": type, "version": version, "optional": optional})
    options = {"version": version, "sending": sending, "receiving": receiving, "control_id": control_id, "at": at}
    options["optional"] = frozenset(_listed(optional))  # type: ignore[assignment] # each is what it is above
    return Hl7(to_hl7(_event(value), type, **options).decode())  # type: ignore[arg-type] # each is what it is above


EVENT_FILTERS: Final[dict[str, Callable[..., Any]]] = {"fhir": fhir, "hl7": hl7}
_OPTIONS: Final = {
    "fhir": ("name", "zone"),
    "hl7": ("type", "version", "sending", "receiving", "control_id", "at", "optional"),
}
_VALUE: Final = "{}"
_FIELD: Final = re.compile(r"[A-Z][A-Z0-9]{2}-[1-9]\d?\Z", re.ASCII)
_ALLOWED: Final[dict[str, tuple[str, ...]]] = {"name": NAMES, "type": tuple(TYPES), "version": VERSIONS}


def mistake_in(name: str, arguments: list[Any], keywords: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what is wrong with the arguments of a filter: the word at fault, a text and a hint; all empty for nothing.

    What is not a constant is None in them.
    """
    options = _OPTIONS[name]
    if len(arguments) > 1:
        return "", f"{name} takes one value, and options by name", f"write zone='…' and the like; known are {options}"
    given = {**dict(zip(options, arguments, strict=False)), **keywords}
    for option, value in given.items():
        if option not in options:
            return option, f"{name} has no option {option}", nearest(option, options)
        found = _wrong(option, value)
        if found is not None:
            wrong, hint = found
            return str(value), wrong.replace(_VALUE, str(value)), hint
    return "", "", ""


def zone_mistake(zone: str) -> str:
    """Return what is wrong with a time zone, or nothing."""
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, LookupError):
        return f"{zone!r} is no time zone; write an IANA name, such as America/Chicago"
    return ""


def _wrong(option: str, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with the value of an option, which is `_VALUE` in the text, and a hint; None for nothing."""
    if value is None:
        return None
    allowed = _ALLOWED.get(option)
    if allowed is not None and value not in allowed:
        word = {"name": "a resource that an event can be written as", "type": "a message type that can be written"}
        return f"{_VALUE} is not {word.get(option, 'a version that can be written')}", nearest(str(value), allowed)
    if option == "optional":
        return _no_fields(value)
    wrong = zone_mistake(value) if option == "zone" and isinstance(value, str) else ""
    return (wrong.replace(repr(value), _VALUE), "") if wrong else None


def _listed(optional: str) -> list[str]:
    return optional.replace(",", " ").split()


def _no_fields(optional: Any) -> tuple[str, str] | None:
    for each in _listed(optional) if isinstance(optional, str) else [""]:
        if not _FIELD.match(each):
            return f"{_VALUE} is no list of fields", "write their names with commas between, such as 'OBX-11, IN1-3'"
        if wrong := check_location(each):
            return wrong, "`handoff explain` lists the fields of a segment"
    return None


def _known(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return options as they came with a message; a mistake is told without the value, which may be a patient's."""
    for option, value in given.items():
        if (found := _wrong(option, value)) is not None:
            wrong, hint = found[0].replace(_VALUE, f"the {option} of {name}"), found[1]
            raise ValueError(f"{wrong}; {hint}" if hint else wrong)
    return given


def _event(value: Any) -> Event:
    if not isinstance(value, Event):
        raise TypeError("only an event can be written: event | fhir('Patient')")
    return value
