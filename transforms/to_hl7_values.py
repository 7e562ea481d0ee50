"""This module writes what was observed as OBX: the value in the data type that it needs, files as ED or RP."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from broker.canonical.model import Attachment, Observation, ObservationPart
from broker.wire.escape import escape
from transforms.hl7_codes import number
from transforms.hl7_values import COMPARATORS, TIME
from transforms.times import fhir_datetime
from transforms.to_hl7_types import concept, entity, joined, organization, practitioner, repeated, row, stamp, text

# FHIR ObservationStatus -> HL7 table 0085.
_STATUSES: Final = {
    "registered": "I", "preliminary": "P", "final": "F", "amended": "C", "corrected": "C", "cancelled": "X",
    "entered-in-error": "D",
}  # fmt: skip
# What the status of a whole report says of all that is in it; one that was corrected does not say what in it was.
_REPORTED: Final = {"preliminary": "P", "final": "F"}
_PAIR: Final = re.compile(r"([+-]?[\d.]+)([-:/])([+-]?[\d.]+)\Z", re.ASCII)
_LONGEST_ST: Final = 199  # HL7 v2.5.1, 2.A.75
_ABSENCES: Final = {"not-asked": "N", "not-performed": "X"}  # why there is no value, where OBX-11 can say so
_LABORATORY: Final = (2, 5, 1)  # the version since which OBX-23 names it; before, OBX-15 does


class Value(NamedTuple):
    """What OBX-2 and OBX-5 say."""

    type: str
    field: str


_NOTHING: Final = Value("", "")


def obx(
    observations: Iterable[Observation],
    version: tuple[int, ...],
    first: int = 1,
    status: str | None = None,
    *,
    with_notes: bool = True,
) -> list[str]:
    """Return the OBX of observations, each with its NTE; ``first`` is the set id of the first.

    ``status`` is that of the report (FHIR), which is that of an observation that does not tell its own. Not every
    message has a place for NTE behind OBX.
    """
    lines: list[str] = []
    count = first
    for given in observations:
        for each in _unfolded(given):
            value = _value(each)
            if not (value.field or _is_named(each) or (with_notes and given.notes)):
                continue  # it would say nothing, of nothing
            lines.append(_observation(count, each, value, version, status))
            count += 1
        if with_notes:
            lines += nte(given.notes)
    return lines


def nte(notes: Iterable[str]) -> list[str]:
    """Return the NTE of notes."""
    return [row("NTE", {1: str(count), 3: prose(each)}) for count, each in enumerate(notes, 1)]


def prose(value: str | None) -> str:
    """Return a text whose line ends count (FT, TX)."""
    return escape(value, formatted=True) if value else ""


def attached(count: int, given: Attachment, name: str, status: str | None) -> str:
    """Return the OBX of a file, or of a text, in the status of what it belongs to (FHIR)."""
    value = _file(given)
    letter = _REPORTED.get(status or "", "F")
    return row("OBX", {1: str(count), 2: value.type, 3: f"^{text(name)}", 5: value.field, 11: letter})


def _unfolded(given: Observation) -> list[Observation]:
    """Return an observation, and one more for each part of it that is an observation of its own (a blood pressure)."""
    own = [part for part in given.components if part.code is not None]
    parts = [
        replace(
            given,
            code=part.code,
            value=part.value,
            value_type=part.value_type,
            concept=part.concept,
            comparator=part.comparator,
            unit=part.unit,
            interpretation=part.interpretation,
            reference_range=part.reference_range,
            attachment=None,
            components=(),
            identifier=None,
        )
        for part in own
    ]
    rest = tuple(part for part in given.components if part.code is None)
    whole = replace(given, components=rest) if own else given
    return [whole, *parts]


def _is_named(given: Observation) -> bool:
    named = given.code
    return named is not None and bool(named.code or named.text or named.display or named.alternates)


def _observation(count: int, given: Observation, value: Value, version: tuple[int, ...], status: str | None) -> str:
    laboratory = given.performing_organization
    fields = {
        1: str(count),
        2: value.type,
        3: concept(given.code),
        4: text(given.sub_id),
        5: value.field,
        6: text(given.unit),
        7: text(given.reference_range),
        8: repeated(text(each) for each in (given.interpretation or "").split(",")),
        11: _status(given, status),
        14: stamp(given.observed_at),
        16: practitioner(given.performer),
        17: concept(given.method),
        20: concept(given.body_site),
        21: entity(given.identifier),
        23: organization(laboratory),
    }
    if laboratory is not None and version < _LABORATORY:
        number_of_it = laboratory.identifier
        fields[15] = joined(text(number_of_it.value) if number_of_it else "", text(laboratory.name))
    return row("OBX", fields)


def _status(given: Observation, status: str | None) -> str:
    own = _STATUSES.get(given.status or "") or _ABSENCES.get(given.absent or "")
    return own or _REPORTED.get(status or "", "")


def _value(given: Observation) -> Value:
    if given.attachment is not None:
        return _file(given.attachment)
    if given.components:
        values = [_single(part) for part in given.components]
        if len({value.type for value in values}) == 1:
            return Value(values[0].type, repeated(value.field for value in values))
    return _single(given)


def _single(given: Observation | ObservationPart) -> Value:
    if given.concept is not None:
        coded = concept(given.concept)
        return Value("CWE", coded) if coded else _NOTHING
    value, kind = given.value, given.value_type
    if not value:
        return _NOTHING
    if kind in {"quantity", "range", "ratio"}:
        return _numeric(value, given.comparator, kind)
    # What is not of its type is written as the text that it is, so that nobody reads it as another.
    if kind == "datetime" and fhir_datetime(stamp(value)):
        return Value("TS", stamp(value))
    if kind == "time" and TIME.match(clock := value.replace(":", "")):
        return Value("TM", clock)
    return _words(value)


def _numeric(value: str, comparator: str | None, kind: str) -> Value:
    if (comparator or "") in COMPARATORS:
        if kind == "quantity" and number(value):
            return Value("SN", f"{text(comparator)}^{value}") if comparator else Value("NM", value)
        found = _PAIR.match(value)
        if kind != "quantity" and found and number(found[1]) and number(found[3]):
            return Value("SN", f"{text(comparator)}^{found[1]}^{found[2]}^{found[3]}")
    return _words(f"{comparator or ''}{value}")


def _words(value: str) -> Value:
    if "\n" in value:
        return Value("FT", prose(value))
    return Value("ST" if len(value) <= _LONGEST_ST else "TX", text(value))


def _file(given: Attachment) -> Value:
    main, _, subtype = (given.content_type or "").partition("/")
    if given.url and not given.data:
        return Value("RP", joined(text(given.url), "", text(main), text(subtype)))
    if given.encoding == "base64":
        return Value("ED", f"^{text(main)}^{text(subtype)}^Base64^{text(given.data)}")
    if main in {"text", ""} and subtype in {"plain", ""}:
        return Value("TX", prose(given.data))
    return Value("ED", f"^{text(main)}^{text(subtype)}^A^{prose(given.data)}")
