"""This module holds a message that is written to the tables of its version of HL7, segment by segment.

A segment or field that the version does not have is left out. What it requires must be there: where the event has
nothing for it, the standard's own word for that is written if there is one, and else the message is not.
"""

from collections.abc import Container, Sequence
from functools import cache
from typing import Final, NamedTuple

from broker.errors import StepError
from transforms.dictionary import dictionary, nearest_version
from transforms.structures import structure, structure_of

# HL7 table 0353, what a code says that is not known; and HL7 table 0200, a name that is not told.
_NOT_AVAILABLE: Final = "NAV^Not available^HL70353"
_UNSPECIFIED: Final = "^^^^^^U"
_UNKNOWN: Final = {
    "PID-5": _UNSPECIFIED, "GT1-3": _UNSPECIFIED,
    "IN1-2": _NOT_AVAILABLE, "SCH-6": _NOT_AVAILABLE, "AIL-4": _NOT_AVAILABLE, "AIP-4": _NOT_AVAILABLE,
}  # fmt: skip
# Required under a condition only, or not at all, whatever the tables say (HL7 v2.3, 7.3.1.27; v2.7, 7.4.2.4).
_CONDITIONAL: Final = frozenset({"OBX-2", "OBX-4", "OBR-27"})
# Where an event holds what must not be missing.
_PLACES: Final = {
    "PID-3": "patient.identifiers", "MRG-1": "merge.mrn", "AL1-3": "allergies[…].code",
    "DG1-3": "conditions[…].code", "DG1-6": "conditions[…].kind",
    "IN1-3": "coverage[…].payer.identifier", "OBR-4": "results[…].code",
    "OBX-3": "observations[…].code", "OBX-11": "observations[…].status",
    "SCH-1": "appointment.identifier", "SCH-11": "appointment.starts_at", "AIS-3": "appointment.services[…]",
    "TXA-2": "document.type", "TXA-17": "document.completion", "RF1-6": "referral.identifier",
}  # fmt: skip


class _Shape(NamedTuple):
    """What a version asks of a segment: its last field, those withdrawn, and those that must be there, with titles."""

    last: int
    withdrawn: tuple[int, ...]
    required: tuple[tuple[int, str], ...]


class Rules(NamedTuple):
    """What a version asks of a message; ``structure`` is its name there (HL7 table 0354)."""

    version: str
    structure: str
    segments: Container[str]


@cache
def rules_of(kind: str, declared: str, version: str) -> Rules:
    """Return the rules for a message type such as ``ADT^A08`` whose structure is ``declared`` in later versions."""
    nearest = nearest_version(version)
    code, _, trigger = kind.partition("^")
    name = structure_of(dictionary(nearest), code, trigger, declared)
    return Rules(nearest, name or declared, structure(nearest, name).names if name else _Everything())


def keep_to(rules: Rules, lines: Sequence[str], optional: Container[str]) -> list[str]:
    """Return the segments behind MSH as the version has them; raise `StepError` where one lacks what it must have.

    The fields in ``optional`` (``OBX-11``) may be missing all the same.
    """
    kept = []
    for line in lines:
        name = line[:3]
        shape = _shape_of(rules.version, name) if name in rules.segments else None
        if shape is None:
            continue
        fields = line.split("|")
        if _is_sound(fields, shape):
            kept.append(line)
            continue
        del fields[shape.last + 1 :]
        for number in shape.withdrawn:
            if number < len(fields):
                fields[number] = ""
        for number, title in shape.required:
            if number >= len(fields) or not fields[number]:
                fields += [""] * (number + 1 - len(fields))
                fields[number] = _standing_in(name, number, title, rules, kept, optional)
        kept.append("|".join(fields).rstrip("|"))
    return kept


def _is_sound(fields: list[str], shape: _Shape) -> bool:
    size = len(fields)
    if size > shape.last + 1:
        return False
    for number, _ in shape.required:
        if number >= size or not fields[number]:
            return False
    return not any(fields[number] for number in shape.withdrawn if number < size)


def _standing_in(name: str, number: int, title: str, rules: Rules, before: list[str], optional: Container[str]) -> str:
    """Return what may stand in a required field of which the event says nothing."""
    field = f"{name}-{number}"
    if field in optional:
        return ""
    if field in _UNKNOWN:
        return _UNKNOWN[field]
    occurrence = sum(line.startswith(name) for line in before) + 1
    place = f"{name}({occurrence})-{number}" if occurrence > 1 else field
    wanted = f"event.{_PLACES[field]}" if field in _PLACES else "the event"
    text = (
        f"hl7: HL7 {rules.version} requires {place} ({title}), and {wanted} has nothing for it; "
        f"let `canonical` give it, or write optional='{field}' where the partner takes the message without"
    )
    raise StepError(text, location=place)


class _Everything:
    """All segments, where the version does not have the message at all."""

    def __contains__(self, _: object) -> bool:
        return True


@cache
def _shape_of(version: str, name: str) -> _Shape | None:
    elements = dictionary(version).fields(name)
    if not elements:
        return None
    return _Shape(
        elements[-1].number,
        tuple(each.number for each in elements if not each.most),
        tuple(
            (each.number, each.name) for each in elements if each.least and f"{name}-{each.number}" not in _CONDITIONAL
        ),
    )
