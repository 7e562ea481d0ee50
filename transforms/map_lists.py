"""This module maps the lists that come with messages of many types: diagnoses (DG1) and allergies (AL1, IAM)."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from broker.canonical.model import Allergy, Concept, Condition
from broker.wire.er7 import Message
from transforms.hl7_codes import concepts, entity, first_concept, whole
from transforms.hl7_types import Reader, padded, reader_of
from transforms.map_encounter import time_of

_KEPT: Final = 4096  # segments of each kind: a patient's lists come again with every message about them
_AL1_FIELDS: Final = 6
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


def conditions_of(message: Message) -> tuple[Condition, ...]:
    """Return the diagnoses of a message, in its order."""
    segments = message.texts("DG1")
    if not segments:
        return ()
    read, separator = reader_of(message), message.separators.field
    return tuple([found for text in segments if (found := _diagnosis(read, text, separator))])


def allergies_of(message: Message) -> tuple[Allergy, ...]:
    """Return the allergies of a message, in its order: IAM, which says what to do with each, before AL1."""
    separator = message.separators.field
    detailed, plain = message.texts("IAM"), message.texts("AL1")
    if not (detailed or plain):
        return ()
    read = reader_of(message)
    found = [_detailed_allergy(read, text, separator) for text in detailed]
    found += [_allergy(read, text, separator) for text in plain]
    return tuple([allergy for allergy in found if allergy])


@lru_cache(maxsize=_KEPT)
def _diagnosis(read: Reader, text: str, separator: str) -> Condition | None:
    fields = padded(text.split(separator), _DG1_FIELDS)
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


@lru_cache(maxsize=_KEPT)
def _allergy(read: Reader, text: str, separator: str) -> Allergy | None:
    fields = padded(text.split(separator), _AL1_FIELDS)
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


@lru_cache(maxsize=_KEPT)
def _detailed_allergy(read: Reader, text: str, separator: str) -> Allergy | None:
    fields = padded(text.split(separator), _IAM_FIELDS)
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
