"""This module maps the lists that come with messages of many types: diagnoses (DG1) and allergies (AL1, IAM)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from broker.canonical.model import Allergy, Concept, Condition
from broker.wire.er7 import Message
from transforms.hl7_codes import concepts, entity, first_concept, whole
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_encounter import time_of

_IAM_FIELDS: Final = 30
_DG1_FIELDS: Final = 26

# HL7 table 0127 -> FHIR AllergyIntolerance.category.
_CATEGORIES: Final = {
    "DA": "medication", "MA": "medication", "FA": "food", "EA": "environment", "LA": "environment",
    "AA": "environment", "PA": "environment",
}  # fmt: skip
# HL7 table 0128 -> how severe its reactions are.
_SEVERITIES: Final = {
    "SV": "severe", "MO": "moderate", "MI": "mild", "SEVERE": "severe", "MODERATE": "moderate", "MILD": "mild",
}  # fmt: skip
# HL7 table 0436 -> FHIR AllergyIntolerance.type.
_TYPES: Final = {"AL": "allergy", "IN": "intolerance", "AD": "intolerance"}
# HL7 table 0438 -> FHIR clinical and verification status.
_STATUSES: Final = {
    "C": (None, "confirmed"), "U": (None, "unconfirmed"), "P": (None, "unconfirmed"), "S": (None, "unconfirmed"),
    "D": (None, "refuted"), "E": (None, "entered-in-error"), "I": ("inactive", None), "A": ("active", None),
}  # fmt: skip
_DELETED: Final = "D"  # HL7 tables 0206 and 0323


def conditions_of(message: Message, segments: Sequence[str] | None = None) -> tuple[Condition, ...]:
    """Return the diagnoses of a message, in its order; ``segments`` are its DG1, where somebody has them already."""
    if segments is None:
        segments = message.texts("DG1")
    if not segments:
        return ()
    return _conditions(reader_of(message), tuple(segments), message.separators.field)


def allergies_of(message: Message, segments: Sequence[str] | None = None) -> tuple[Allergy, ...]:
    """Return the allergies of a message; ``segments`` are its AL1 and IAM, where somebody has them already."""
    if segments is None:
        segments = [*message.texts("IAM"), *message.texts("AL1")]
    if not segments:
        return ()
    return _allergies(reader_of(message), tuple(segments), message.separators.field)


@kept
def _conditions(read: Reader, segments: tuple[str, ...], separator: str) -> tuple[Condition, ...]:
    found = [_diagnosis(read, padded(text.split(separator), _DG1_FIELDS)) for text in segments]
    return tuple([condition for condition in found if condition])


@kept
def _allergies(read: Reader, segments: tuple[str, ...], separator: str) -> tuple[Allergy, ...]:
    found = []
    for text in segments:
        fields = padded(text.split(separator), _IAM_FIELDS)
        found.append(_allergy(read, fields) if fields[0] == "AL1" else _detailed_allergy(read, fields))
    return tuple([allergy for allergy in found if allergy])


def _diagnosis(read: Reader, fields: list[str]) -> Condition | None:
    described = read.plain(fields[4]) if fields[4] else None
    code = _completed(first_concept(read, fields[3]), read.first(fields[2]), described)
    identifier = entity(read, fields[20])
    if code is None and identifier is None:
        return None
    deleted = (read.first(fields[21]) or "").upper() == _DELETED
    return Condition(
        code=code,
        identifier=identifier,
        category="encounter-diagnosis",
        verification_status="entered-in-error" if deleted else None,
        kind=read.first(fields[6]),
        rank=whole(read.first(fields[15])),
        onset_at=time_of(fields[5], read),
        recorded_at=time_of(fields[19], read),
        asserter=read.practitioner(fields[16]) if fields[16] else None,
        # DG1-4 describes what DG1-3 codes, and may say more than the code's own name.
        notes=(described,) if described and code and described not in (code.text, code.code) else (),
    )


def _completed(code: Concept | None, system: str | None, described: str | None) -> Concept | None:
    """Fill in what older versions say beside the code: its system (DG1-2) and its name (DG1-4)."""
    if code is None:
        return Concept(text=described) if described else None
    if code.code and not code.system and system:
        code = replace(code, system=system)
    return code if code.text else replace(code, text=described)


def _allergy(read: Reader, fields: list[str]) -> Allergy | None:
    code = first_concept(read, fields[3])
    if code is None:
        return None
    severity = (read.first(fields[4]) or "").upper()
    return Allergy(
        code=code,
        category=_CATEGORIES.get((read.first(fields[2]) or "").upper()),
        severity=_SEVERITIES.get(severity),
        reactions=concepts(read, fields[5]),
        onset_at=time_of(fields[6], read),
    )


def _detailed_allergy(read: Reader, fields: list[str]) -> Allergy | None:
    code, identifier = first_concept(read, fields[3]), entity(read, fields[7])
    if code is None and identifier is None:
        return None
    clinical, verified = _STATUSES.get((read.first(fields[17]) or "").upper(), (None, None))
    deleted = (read.first(fields[6]) or "").upper() == _DELETED
    notes = (read.plain(fields[8]), read.plain(fields[12]))  # why it is told, and how long it has been there
    return Allergy(
        code=code,
        identifier=identifier,
        type=_TYPES.get((read.first(fields[9]) or "").upper()),
        category=_CATEGORIES.get((read.first(fields[2]) or "").upper()),
        severity=_SEVERITIES.get((read.first(fields[4]) or "").upper()),
        reactions=concepts(read, fields[5]),
        clinical_status=clinical,
        verification_status="entered-in-error" if deleted else verified,
        onset_at=time_of(fields[11], read),
        recorded_at=time_of(fields[13], read) or time_of(fields[20], read),
        notes=tuple([note for note in notes if note]),
    )
